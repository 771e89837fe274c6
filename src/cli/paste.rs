//! Commands that a message tells the user to type: complete, on one line, and quoted for a POSIX shell.

use std::os::unix::ffi::OsStrExt;

use super::argv::{Given, decode};
use super::environment::env_port;
use super::url;
use super::values::parse_port;
use crate::text;

/// A server as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, if one was typed.
    pub port: Option<u16>,
}

impl Server {
    pub fn new(host: impl Into<String>, port: Option<u16>) -> Server {
        Server { host: host.into(), port }
    }

    /// As the value of `-H`. A colon belongs to an IPv6 address, which then stands in brackets.
    pub fn typed(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

/// `xfer get` of these names from this server, with the options that were typed but `-H`. No names: `FILE` stands for them,
/// unless a list has them.
pub fn get(names: &[&[u8]], server: &Server, options: &[Given]) -> String {
    let has_list = options.iter().any(|given| given.flag.long == "--from-file");
    let names = if names.is_empty() && !has_list { &[&b"FILE"[..]] } else { names };
    let is_other_port = |given: &Given| given.flag.long == "--port" && server.port.is_some();
    let kept = options.iter().filter(|given| given.flag.long != "--host" && !is_other_port(given));
    // What looks like a URL would be taken for one.
    let shown = names.iter().map(|name| quoted(name).filter(|_| !url::is_url(name)));
    let Some(shown) = shown.collect::<Option<Vec<String>>>() else {
        // A URL has no port from elsewhere.
        let typed = options.iter().find(|given| given.flag.long == "--port").and_then(|given| given.value.as_deref());
        let port = server.port.or_else(|| parse_port(typed?).ok()).or_else(|| env_port(1).ok());
        return get_urls(names, &Server { port, ..server.clone() }, kept);
    };
    let host = in_shell(&server.typed());
    let kept = typed_again(kept);
    if names.iter().any(|name| name.starts_with(b"-")) {
        return format!("xfer get -H {host}{kept} -- {}", shown.join(" "));
    }
    let shown: String = shown.iter().map(|name| format!(" {name}")).collect();
    format!("xfer get{shown} -H {host}{kept}")
}

/// The same by URLs, which show any byte.
pub fn get_urls<'a>(names: &[&[u8]], server: &Server, options: impl Iterator<Item = &'a Given>) -> String {
    let urls: String = names.iter().map(|name| format!(" {}", in_shell(&url::of(server, name)))).collect();
    let kept = typed_again(options.filter(|given| !matches!(given.flag.long, "--host" | "--port")));
    format!("xfer get{urls}{kept}")
}

/// Options as they were typed, each with a space before it.
fn typed_again<'a>(options: impl Iterator<Item = &'a Given>) -> String {
    let shown = |given: &Given| match given.value.as_deref().map(decode) {
        Some(value) => {
            let value = value.as_bytes();
            format!(" {} {}", given.name, quoted(value).unwrap_or_else(|| printed(value)))
        }
        None => format!(" {}", given.name),
    };
    options.map(shown).collect()
}

/// Any bytes for a POSIX shell, by printf(1), but for line feeds at their end.
fn printed(value: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    let shown = |byte: &u8| if is_plain(*byte) { char::from(*byte).to_string() } else { format!("\\{byte:03o}") };
    format!("\"$(printf '{}')\"", value.iter().map(shown).collect::<String>())
}

/// A word for a POSIX shell; none for a word that a terminal would not show as it is, or that is too long to be read.
pub fn quoted(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok()?;
    // These two are escaped elsewhere, and shown here as a shell needs them.
    let without = word.replace(['\\', '\''], "/");
    (text::escaped(without.as_bytes()) == without).then(|| in_shell(word))
}

/// A text for a POSIX shell, in quotes if it needs them.
fn in_shell(word: &str) -> String {
    // Not '=' (zsh expands it at the beginning), '~', nor what may be a pattern.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
