//! Commands that a message tells the user to type: complete, on one line, and quoted for a POSIX shell.

use std::os::unix::ffi::OsStrExt;

use super::environment::env_port;
use super::host::{Server, parse_port};
use super::url;
use super::words::{Given, decode};
use crate::text::shell;

/// `xfer get` of these names from this server, with the options that were typed but `-H`. No names: `FILE` stands for them,
/// unless a list has them.
pub fn get(names: &[&[u8]], server: &Server, options: &[Given]) -> String {
    let has_list = options.iter().any(|given| given.flag.long == "--from-file");
    let names = if names.is_empty() && !has_list { &[&b"FILE"[..]] } else { names };
    let is_other_port = |given: &Given| given.flag.long == "--port" && server.port.is_some();
    let kept = options.iter().filter(|given| given.flag.long != "--host" && !is_other_port(given));
    // What looks like a URL would be taken for one.
    let shown = names.iter().map(|name| shell::readable(name).filter(|_| !url::is_url(name)));
    let Some(shown) = shown.collect::<Option<Vec<String>>>() else {
        // A URL has no port from elsewhere.
        let typed = options.iter().find(|given| given.flag.long == "--port").and_then(|given| given.value.as_deref());
        let port = server.port.or_else(|| parse_port(typed?).ok()).or_else(|| env_port(1).ok());
        return get_urls(names, &Server { port, ..server.clone() }, kept);
    };
    let host = shell::quoted(&server.typed());
    let kept = typed_again(kept);
    if names.iter().any(|name| name.starts_with(b"-")) {
        return format!("xfer get -H {host}{kept} -- {}", shown.join(" "));
    }
    let shown: String = shown.iter().map(|name| format!(" {name}")).collect();
    format!("xfer get{shown} -H {host}{kept}")
}

/// The same by URLs, which show any byte.
pub fn get_urls<'a>(names: &[&[u8]], server: &Server, options: impl Iterator<Item = &'a Given>) -> String {
    let urls: String = names.iter().map(|name| format!(" {}", shell::quoted(&url::of(server, name)))).collect();
    let kept = typed_again(options.filter(|given| !matches!(given.flag.long, "--host" | "--port")));
    format!("xfer get{urls}{kept}")
}

/// Options as they were typed, each with a space before it.
fn typed_again<'a>(options: impl Iterator<Item = &'a Given>) -> String {
    let shown = |given: &Given| match given.value.as_deref().map(decode) {
        Some(value) => format!(" {} {}", given.name, shell::word(value.as_bytes())),
        None => format!(" {}", given.name),
    };
    options.map(shown).collect()
}
