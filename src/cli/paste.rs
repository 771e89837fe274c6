//! Commands that a message tells the user to type: complete, on one line, and quoted for a POSIX shell.

use std::os::unix::ffi::OsStrExt;

use super::argv::{Given, decode};
use super::url;
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
    let Some(shown) = names.iter().map(|name| quoted(name)).collect::<Option<Vec<String>>>() else {
        return get_urls(names, server, kept);
    };
    let host = in_shell(&server.typed());
    let (kept, note) = typed_again(kept);
    if names.iter().any(|name| name.starts_with(b"-")) {
        return format!("xfer get -H {host}{kept} -- {}{note}", shown.join(" "));
    }
    let shown: String = shown.iter().map(|name| format!(" {name}")).collect();
    format!("xfer get{shown} -H {host}{kept}{note}")
}

/// The same by URLs, which show any byte.
pub fn get_urls<'a>(names: &[&[u8]], server: &Server, options: impl Iterator<Item = &'a Given>) -> String {
    let urls: String = names.iter().map(|name| format!(" {}", in_shell(&url::of(server, name)))).collect();
    let (kept, note) = typed_again(options.filter(|given| !matches!(given.flag.long, "--host" | "--port")));
    format!("xfer get{urls}{kept}{note}")
}

/// Options as they were typed, each with a space before it, and what to say if one of them cannot be shown.
fn typed_again<'a>(options: impl Iterator<Item = &'a Given>) -> (String, &'static str) {
    let mut out = String::new();
    for given in options {
        let value = given.value.as_ref().map(|value| quoted(decode(value).as_bytes()));
        match value {
            Some(Some(value)) => out.push_str(&format!(" {} {value}", given.name)),
            Some(None) => return (String::new(), " (and your other options)"),
            None => out.push_str(&format!(" {}", given.name)),
        }
    }
    (out, "")
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
