//! Words of `xfer get` that name a host, as other programs have them: `HOST:NAME`, `http://HOST/NAME`, `FILE HOST PORT`.
//!
//! Without a server of its own such a command would ask localhost for these names. It ends instead, with the command that
//! was most likely meant.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::host::{Server, is_host, parse_port};
use super::paste;
use super::url::{decode, parse_authority, split_at_slash};
use super::values::{ipv6_and_port, is_ipv6};
use super::words::{Given, encode};
use super::{options_of, usage};
use crate::error::Error;
use crate::text;

/// A word that names a host.
struct Remote {
    server: Server,
    /// The file on it; empty where only the server is named.
    name: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `HOST:NAME`, `USER@HOST:NAME` and the like.
    HostName,
    /// A server alone: `10.0.0.5`, `localhost`, `HOST:PORT`.
    Server,
    /// The second of the words FILE HOST PORT, the order of the first system.
    BeforePort,
    /// `http://HOST/NAME` and `//HOST/NAME`. No server has a file of that name: a component of it is empty.
    Url,
}

/// Ends a command whose words name a host although no option does.
pub fn check(words: &[Vec<u8>], options: &[Given]) -> Result<(), Error> {
    let typed: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    if let Some(word) = typed.iter().find(|word| is_windows_path(word)) {
        return Err(usage(format!(
            "{} looks like a path on Windows; FILE is a path relative to the directory that the server shares, with \
             '/' between its parts",
            text::quoted(word)
        )));
    }
    let mut remotes = typed.iter().map(|word| remote(word)).collect::<Result<Vec<_>, _>>()?;
    let mut words = typed.as_slice();
    if let Some(port) = last_as_port(&typed, &remotes, options) {
        match typed.get(1).filter(|_| typed.len() == 3).and_then(|word| before_port(word, port)) {
            Some(server) => {
                remotes = vec![None, Some(Remote { server, name: Vec::new(), kind: Kind::BeforePort })];
                words = &typed[..2];
            }
            None if remotes.iter().all(Option::is_none) => return Err(port_as_file(&typed, options)),
            None => {}
        }
    }
    match words.iter().zip(&remotes).find_map(|(word, remote)| Some((*word, remote.as_ref()?))) {
        Some((word, remote)) => {
            let what = what(word, remote, &typed);
            let commands = commands(words, &remotes, options).join("; ");
            let has_url = remotes.iter().flatten().any(|remote| remote.kind == Kind::Url);
            let here = if has_url { String::new() } else { as_files(&typed, options) };
            Err(usage(format!("{what}{}; type: {commands}{here}", note(&remotes))))
        }
        None => Ok(()),
    }
}

/// The port in FILE PORT and FILE HOST PORT. Of more words, or with `-p`, the last one is a file.
fn last_as_port(typed: &[&[u8]], remotes: &[Option<Remote>], options: &[Given]) -> Option<u16> {
    let has_port = options.iter().any(|given| given.flag.long == "--port");
    let is_file_first = remotes.first().is_some_and(Option::is_none);
    typed.last().filter(|_| matches!(typed.len(), 2 | 3) && is_file_first && !has_port).and_then(|word| port(word))
}

/// HOST in FILE HOST PORT.
fn before_port(word: &[u8], port: u16) -> Option<Server> {
    let alone = std::str::from_utf8(word).ok().and_then(server_alone).map(|remote| remote.server);
    let server = alone.or_else(|| Some(Server::new(host_of(word)?, None)))?;
    Some(Server { port: server.port.or(Some(port)), ..server })
}

/// Ends a command whose list has URLs of other protocols, as lists for wget(1) have them.
pub fn check_list(names: &[Vec<u8>]) -> Result<(), Error> {
    match names.iter().find_map(|name| Some((name, split_scheme(name)?.0))) {
        Some((name, scheme)) => Err(usage(format!(
            "{} in the list is not an xfer URL, and xfer does not speak {scheme}; give names, and the server with -H HOST",
            text::quoted(name)
        ))),
        None => Ok(()),
    }
}

/// What a word is, and why it is no file.
fn what(word: &[u8], remote: &Remote, typed: &[&[u8]]) -> String {
    let shown = text::quoted(word);
    match remote.kind {
        Kind::Url => match split_scheme(word) {
            Some((scheme, _)) => format!("{shown} is not an xfer URL, and xfer does not speak {scheme}"),
            None => format!("{shown} looks like //HOST/NAME"),
        },
        Kind::HostName => format!("{shown} looks like HOST:NAME"),
        Kind::Server => format!("{shown} looks like a server, not a file"),
        Kind::BeforePort => {
            let port = typed.last().map(|port| text::quoted(port)).unwrap_or_default();
            format!("{shown} and {port} look like a host and a port, not files")
        }
    }
}

/// What else there is to know before the command is typed.
fn note(remotes: &[Option<Remote>]) -> &'static str {
    let is_any = |is: fn(&Remote) -> bool| remotes.iter().flatten().any(is);
    if is_any(|it| it.name.ends_with(b"/") || it.kind == Kind::HostName && it.name.is_empty()) {
        return ", and xfer fetches files, not directories";
    }
    match is_any(|it| it.kind == Kind::HostName && it.name.starts_with(b"/")) {
        true => ", and NAME is relative to the directory that the server shares",
        false => "",
    }
}

/// How to fetch files that really have such names.
fn as_files(typed: &[&[u8]], options: &[Given]) -> String {
    let command = paste::get(typed, &Server::new("localhost", None), options);
    let files = if typed.len() == 1 { "a file of this name" } else { "files of these names" };
    format!("; to fetch {files} from localhost, type: {command}")
}

fn port_as_file(typed: &[&[u8]], options: &[Given]) -> Error {
    let Some((word, names)) = typed.split_last() else { return usage("no file named") };
    let port = given("--port", "-p", word);
    let command = paste::get(names, &Server::new("localhost", None), &[options, &[port]].concat());
    let here = as_files(typed, options);
    usage(format!("{} looks like a port, not a file; type: {command}{here}", text::quoted(word)))
}

/// A command for each server that is named. Names without one belong to the first; but where the last word of an scp(1)
/// command line is not remote, it says where to save.
fn commands(words: &[&[u8]], remotes: &[Option<Remote>], options: &[Given]) -> Vec<String> {
    let mut servers: Vec<(&Server, Vec<Vec<u8>>)> = Vec::new();
    let destination = destination(words, remotes, options);
    let without = words.len() - usize::from(destination.is_some());
    let plain = |at: usize| remotes[at].is_none().then(|| words[at].to_vec());
    for remote in remotes.iter().flatten() {
        let known = servers.iter().position(|(server, _)| *server == &remote.server);
        let at = known.unwrap_or_else(|| {
            servers.push((&remote.server, Vec::new()));
            servers.len() - 1
        });
        let relative = remote.name.iter().position(|byte| *byte != b'/').map(|start| &remote.name[start..]);
        match relative.unwrap_or_default() {
            b"" if remote.kind == Kind::HostName => servers[at].1.push(b"FILE".to_vec()),
            b"" => {}
            name if name.ends_with(b"/") => servers[at].1.push([name, b"FILE"].concat()),
            name => servers[at].1.push(name.to_vec()),
        }
    }
    if let Some((_, names)) = servers.first_mut() {
        names.splice(0..0, (0..without).filter_map(plain));
    }
    let options = [options, destination.as_slice()].concat();
    let command = |(server, names): &(&Server, Vec<Vec<u8>>)| {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        paste::get(&names, server, &options)
    };
    servers.iter().map(command).collect()
}

/// `.` in `nas:file .`, as `-d .`, and `copy` in `nas:file copy`, as `-o copy`.
fn destination(words: &[&[u8]], remotes: &[Option<Remote>], options: &[Given]) -> Option<Given> {
    let (last, others) = remotes.split_last()?;
    let word = words.last()?;
    let is_copy = |remote: &Option<Remote>| {
        remote
            .as_ref()
            .is_some_and(|remote| matches!(remote.kind, Kind::HostName | Kind::Url) && !remote.name.is_empty())
    };
    let says_where = |given: &Given| matches!(given.flag.long, "--dir" | "--output");
    if last.is_some() || others.is_empty() || !others.iter().all(is_copy) || options.iter().any(says_where) {
        return None;
    }
    let is_directory = others.len() > 1 || word.ends_with(b"/") || Path::new(OsStr::from_bytes(word)).is_dir();
    Some(if is_directory { given("--dir", "-d", word) } else { given("--output", "-o", word) })
}

/// An option of `xfer get` as if it had been typed.
fn given(long: &str, name: &str, value: &[u8]) -> Given {
    let flags = options_of("get");
    // Of the declaration itself; the tests try each name that is given here.
    let flag = flags.iter().find(|flag| flag.long == long).unwrap_or(&flags[0]);
    Given { flag, name: name.to_string(), value: Some(encode(OsStr::from_bytes(value))) }
}

/// What a word names besides a file, if it names a host.
fn remote(word: &[u8]) -> Result<Option<Remote>, Error> {
    if let Some((_, rest)) = split_scheme(word) {
        let (authority, path) = split_at_slash(rest);
        let path = path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or(path);
        let server = parse_authority(&String::from_utf8_lossy(authority))
            .map_err(|why| usage(format!("bad URL {}: {why}", text::quoted(word))))?;
        let name = decode(path).unwrap_or_else(|_| path.to_vec());
        return Ok(Some(Remote { server, name, kind: Kind::Url }));
    }
    let text = match std::str::from_utf8(word) {
        Ok(text) => text,
        Err(error) => return Ok(host_and_raw_name(word.split_at(error.valid_up_to()))),
    };
    let slashes = text.replace('\\', "/");
    if let Some((host, path)) = slashes.strip_prefix("//").and_then(|rest| rest.split_once('/'))
        && let Ok(server) = parse_authority(host)
    {
        return Ok(Some(Remote { server, name: path.as_bytes().to_vec(), kind: Kind::Url }));
    }
    Ok(server_alone(text).or_else(|| host_and_name(text)))
}

/// `SCHEME://REST` (RFC 3986, section 3.1).
fn split_scheme(word: &[u8]) -> Option<(&str, &[u8])> {
    let at = word.windows(3).position(|three| three == b"://")?;
    let scheme = std::str::from_utf8(&word[..at]).ok()?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, &word[at + 3..]))
}

/// An address, `localhost`, or any host with a port.
fn server_alone(text: &str) -> Option<Remote> {
    let server = if let Some((ip, port)) = ipv6_and_port(text) {
        Server::new(ip, Some(port))
    } else if text.eq_ignore_ascii_case("localhost") || text.parse::<IpAddr>().is_ok() || is_ipv6(text) {
        Server::new(text, None)
    } else {
        let server = parse_authority(text).ok()?;
        (text.starts_with('[') || server.port.is_some()).then_some(server)?
    };
    Some(Remote { server, name: Vec::new(), kind: Kind::Server })
}

/// `[USER@]HOST:[PORT/]NAME`, or `HOST::MODULE/NAME`.
fn host_and_name(text: &str) -> Option<Remote> {
    let (host, rest) = match text.strip_prefix('[').and_then(|inner| inner.split_once("]:")) {
        Some(split) => split,
        None => match text.rsplit_once(':') {
            Some((host, rest)) if is_ipv6(host) => (host, rest),
            _ => text.split_once(':')?,
        },
    };
    let host = host_of(host.rsplit_once('@').map_or(host, |(_, host)| host).as_bytes())?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let (port, name) = match rest.split_once(['/', ':']) {
        Some((digits, name)) if port(digits.as_bytes()).is_some() => (port(digits.as_bytes()), name),
        _ => (None, rest),
    };
    Some(Remote { server: Server::new(host, port), name: name.as_bytes().to_vec(), kind: Kind::HostName })
}

/// The same of a name that is not UTF-8 from some byte on.
fn host_and_raw_name((text, raw): (&[u8], &[u8])) -> Option<Remote> {
    let remote = host_and_name(std::str::from_utf8(text).ok()?)?;
    Some(Remote { name: [&remote.name, raw].concat(), ..remote })
}

/// A word as a host, if it can be one.
fn host_of(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok().filter(|text| is_host(text) && (is_ipv6(text) || !text.contains(':')))
}

/// A word as a port that a server can have.
fn port(word: &[u8]) -> Option<u16> {
    parse_port(std::str::from_utf8(word).ok()?).ok().filter(|port| *port > 0)
}

/// `C:\dir\file`, or with slashes.
fn is_windows_path(word: &[u8]) -> bool {
    matches!(word, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}
