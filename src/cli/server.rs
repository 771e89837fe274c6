//! The server that `xfer get` asks: from `xfer://` URLs, `-H`, `-p`, the environment and the defaults, in this order.

use std::net::Ipv6Addr;

use super::environment::{env_host, env_port};
use super::host::{Server, parse_real_port, same_host};
use super::paste;
use super::url::{self, Url, is_url};
use super::usage;
use super::values::{host_mistake, split_host};
use super::words::{Given, decode};
use crate::error::Error;
use crate::proto::DEFAULT_PORT;
use crate::text;

const DEFAULT_HOST: &str = "localhost";

/// What was typed about the server.
pub struct Asked<'a> {
    pub host: Option<&'a str>,
    pub port: Option<u16>,
    /// All options, for the command that a message shows.
    pub options: &'a [Given],
    /// How many of the files are words of the command line; the others come from lists.
    pub words: usize,
}

impl Asked<'_> {
    /// Host and port, and the names to ask for.
    pub fn server(&self, files: Vec<Vec<u8>>) -> Result<(String, u16, Vec<Vec<u8>>), Error> {
        let (host, port, files) = if files.iter().any(|file| is_url(file)) {
            let (server, names) = self.of_urls(&files)?;
            (server.host, server.port.unwrap_or(DEFAULT_PORT), names)
        } else {
            let (host, port) = self.of_options(&files)?;
            (host, port, files)
        };
        if port == 0 {
            return Err(usage("bad port '0': give a number from 1 to 65535"));
        }
        // The kernel cannot tell which link it is on (RFC 4007, section 6).
        if host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local()) {
            return Err(usage(format!(
                "the link-local address {host} needs the interface that leads to it, for example {host}%eth0; \
                 'ip link' lists the interfaces"
            )));
        }
        Ok((host, port, files))
    }

    /// A host that is typed stands alone: no port comes from XFER_HOST then, which is about another one.
    fn of_options(&self, files: &[Vec<u8>]) -> Result<(String, u16), Error> {
        let server = match self.host {
            Some(host) => self.typed_host(host, files)?,
            None => env_host(self.port.is_none())?.unwrap_or(Server::new(DEFAULT_HOST, None)),
        };
        let port = match (server.port, self.port) {
            (Some(a), Some(b)) if a != b => {
                return Err(usage(format!("-H says port {a}, but -p says {b}; use one of them")));
            }
            (Some(port), _) | (None, Some(port)) => port,
            (None, None) => env_port(1)?,
        };
        Ok((server.host, port))
    }

    /// The value of `-H`.
    fn typed_host(&self, typed: &str, files: &[Vec<u8>]) -> Result<Server, Error> {
        let text = decode(typed).into_string().unwrap_or_else(|bytes| bytes.to_string_lossy().into_owned());
        if let Some(mistake) = host_mistake(&text) {
            let names: Vec<&[u8]> = files.iter().take(self.words).map(Vec::as_slice).collect();
            let names = match &mistake.name {
                Some(name) if names.is_empty() => vec![name.as_slice()],
                _ => names,
            };
            let command = |server: &Server| format!("type: {}", paste::get(&names, server, self.options));
            let right = match mistake.meant.as_slice() {
                [] => String::new(),
                [one] => format!("; {}", command(one)),
                [with_port, alone, ..] => {
                    format!("; for the address alone, use -H '{}'; for both, {}", alone.typed(), command(with_port))
                }
            };
            let shown = text::quoted(decode(typed).as_encoded_bytes());
            return Err(usage(format!("bad host {shown}: {}{right}", mistake.why)));
        }
        // Every text without a mistake splits.
        let (host, port) = split_host(&text).unwrap_or((&text, None));
        let bad = |message| usage(format!("-H {}: {message}", text::quoted(text.as_bytes())));
        Ok(Server::new(host, port.map(parse_real_port).transpose().map_err(bad)?))
    }

    /// All URLs name one server, and no option says anything else.
    fn of_urls(&self, files: &[Vec<u8>]) -> Result<(Server, Vec<Vec<u8>>), Error> {
        let mut servers: Vec<Server> = Vec::new();
        let mut names = Vec::with_capacity(files.len());
        for file in files {
            if !is_url(file) {
                names.push(file.clone());
                continue;
            }
            let url = self.url(file)?;
            names.push(url.name);
            if !servers.iter().any(|known| is_same(known, &url.server)) {
                servers.push(url.server);
            }
            // Of a list, no more is said than that there are two.
            if servers.len() > 1 && files.len() > self.words {
                break;
            }
        }
        let words: Vec<&[u8]> = names.iter().take(self.words).map(Vec::as_slice).collect();
        let server = match servers.as_slice() {
            [server] => server,
            _ => return Err(self.several_servers(files, &servers)),
        };
        self.check_options(server, &words)?;
        if let (Some(plain), None) = (files.iter().find(|file| !is_url(file)), self.host) {
            let plain = text::quoted(plain);
            let command = paste::get(&words, server, self.options);
            return Err(usage(format!("{plain} is not a URL, but other names are; type: {command}")));
        }
        Ok((server.clone(), names))
    }

    /// A URL without a port has the one that is typed for its host, or 9999: no port comes from the environment, so that
    /// a URL that is pasted means the same everywhere.
    fn url(&self, file: &[u8]) -> Result<Url, Error> {
        let url = url::parse(file)?;
        let typed = self.host.map(|host| self.typed_host(host, &[])).transpose()?;
        let is_meant = typed.as_ref().is_none_or(|typed| same_host(&typed.host, &url.server.host));
        let port = self.port.or(typed.and_then(|typed| typed.port)).filter(|_| is_meant);
        let port = url.server.port.or(port).or(Some(DEFAULT_PORT));
        Ok(Url { server: Server { port, ..url.server }, ..url })
    }

    /// One command has one server: shows the one for the first.
    fn several_servers(&self, files: &[Vec<u8>], servers: &[Server]) -> Error {
        let shown: Vec<String> = servers.iter().map(Server::typed).collect();
        let what = format!("the URLs name {}", several(&shown));
        let (Some(first), true) = (servers.first(), files.len() == self.words) else {
            return usage(format!("{what}: put the names of each server into a list of its own"));
        };
        let own: Vec<Url> = files.iter().filter_map(|file| self.url(file).ok()).collect();
        let own = own.iter().filter(|url| is_same(&url.server, first));
        let names: Vec<&[u8]> = own.map(|url| url.name.as_slice()).collect();
        let options = paste::into_directory(self.options, names.len());
        let command = paste::get_urls(&names, first, options.iter());
        usage(format!("{what}; for {}, type: {command}", text::escaped(first.typed().as_bytes())))
    }

    /// `-H` and `-p` may repeat what the URL says.
    fn check_options(&self, server: &Server, names: &[&[u8]]) -> Result<(), Error> {
        let typed = self.host.map(|host| self.typed_host(host, &[])).transpose()?;
        let typed = typed.unwrap_or(Server { host: server.host.clone(), port: None });
        let port = self.port.or(typed.port);
        let option = match (same_host(&typed.host, &server.host), port.is_none_or(|port| Some(port) == server.port)) {
            (true, true) => return Ok(()),
            (true, false) if self.port.is_some() => "-p",
            _ => "-H",
        };
        let shown = text::escaped(server.typed().as_bytes());
        let other = match (option, port) {
            ("-p", Some(port)) => port.to_string(),
            _ => text::escaped(Server { host: typed.host, port }.typed().as_bytes()),
        };
        let options = paste::into_directory(self.options, names.len());
        let command = paste::get_urls(names, server, options.iter());
        Err(usage(format!(
            "the URL names the server {shown}, but {option} says {other}; to fetch from {shown}, type: {command}"
        )))
    }
}

/// What to say of names on several servers.
pub fn several(servers: &[String]) -> String {
    let shown: Vec<String> = servers.iter().take(3).map(|server| text::escaped(server.as_bytes())).collect();
    let more = if servers.len() > shown.len() { " and others" } else { "" };
    format!("different servers ({}{more}), and each needs a command of its own", shown.join(", "))
}

fn is_same(one: &Server, other: &Server) -> bool {
    same_host(&one.host, &other.host) && one.port == other.port
}
