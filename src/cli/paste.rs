//! Commands that a message tells the user to type: complete, on one line, and quoted for a POSIX shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let options = into_directory(options, names.len());
    let kept = options.iter().filter(|given| given.flag.long != "--host" && !is_other_port(given));
    // What looks like a URL would be taken for one.
    let shown = names.iter().map(|name| shell::readable(name).filter(|_| !url::is_url(name)));
    let Some(shown) = shown.collect::<Option<Vec<String>>>() else {
        // A URL has no port from elsewhere.
        let typed = options.iter().find(|given| given.flag.long == "--port").and_then(|given| given.value.as_deref());
        let port = server.port.or_else(|| parse_port(typed?).ok()).or_else(|| env_port(1).ok());
        return get_urls(names, &Server { port, ..server.clone() }, kept);
    };
    with_options(&shown, &format!(" -H {}{}", shell::quoted(&server.typed()), typed_again(kept)))
}

/// `xfer get` of these names with these options, all as they were typed; none if a name cannot be shown.
pub fn again(names: &[&[u8]], options: &[Given]) -> Option<String> {
    let shown = names.iter().map(|name| shell::readable(name)).collect::<Option<Vec<String>>>()?;
    Some(with_options(&shown, &typed_again(into_directory(options, names.len()).iter())))
}

/// `xfer serve` of a path with these options, and behind them those that were typed but for these; none if a word cannot be
/// shown.
pub fn serve(path: &OsStr, added: &[(&str, &str)], options: &[Given]) -> Option<String> {
    let is_added = |given: &Given| {
        let short = given.flag.short.map(|short| format!("-{short}")).unwrap_or_default();
        added.iter().any(|(name, _)| **name == short)
    };
    let kept = typed_again(options.iter().filter(|given| !is_added(given)));
    let added: String = added.iter().map(|(name, value)| format!(" {name} {}", shell::quoted(value))).collect();
    let path = shell::readable(path.as_bytes())?;
    Some(match path.starts_with('-') {
        true => format!("xfer serve{added}{kept} -- {path}"),
        false => format!("xfer serve {path}{added}{kept}"),
    })
}

/// Options follow the names, unless one begins with a hyphen.
fn with_options(names: &[String], options: &str) -> String {
    let shown: String = names.iter().map(|name| format!(" {name}")).collect();
    match names.iter().any(|name| name.starts_with('-')) {
        true => format!("xfer get{options} --{shown}"),
        false => format!("xfer get{shown}{options}"),
    }
}

/// The options, with `-d` in place of an `-o` that can only mean a directory.
pub fn into_directory(options: &[Given], names: usize) -> Vec<Given> {
    let has_dir = options.iter().any(|given| given.flag.long == "--dir");
    let fixed = |given: &Given| match given.value.as_deref() {
        Some(value) if given.flag.long == "--output" && !has_dir && means_directory(value, names) => {
            Given { name: String::from("-d"), ..given.clone() }
        }
        _ => given.clone(),
    };
    options.iter().map(fixed).collect()
}

/// Whether the value of an `-o` for this number of files can only be a directory.
fn means_directory(value: &str, names: usize) -> bool {
    let path = decode(value);
    path != "-" && (names > 1 || is_directory(&path))
}

/// Whether a path names a directory: one that exists, or by a slash at its end.
pub fn is_directory(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/") || Path::new(path).is_dir()
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
