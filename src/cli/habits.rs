//! Words of `xfer get` that name a host, as other programs have them: `HOST:NAME`, `http://HOST/NAME`, `FILE HOST PORT`.
//!
//! Without a server of its own such a command would ask localhost for these names. It ends instead, with the command that
//! was most likely meant.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use argh::{FlagInfo, FlagInfoKind};

use super::host::{Server, is_host, parse_port};
use super::paste;
use super::server::several;
use super::url::{decode, parse_authority, split_at_slash};
use super::values::{ipv6_and_port, is_ipv6};
use super::words::{Given, encode};
use super::{options_of, usage};
use crate::error::Error;
use crate::text;

/// Schemes of URLs that people type, beside our own.
const SCHEMES: [&str; 9] = ["xfer", "http", "https", "ftp", "ftps", "sftp", "scp", "ssh", "rsync"];

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
    /// `10.0.0.5/NAME` and `localhost/NAME`: a URL without its scheme.
    HostSlashName,
    /// `USER@HOST` beside other words.
    UserHost,
    /// A server alone: `10.0.0.5`, `localhost`, `HOST:PORT`.
    Server,
    /// The second of the words FILE HOST PORT, the order of the first system.
    BeforePort,
    /// `http://HOST/NAME` and `//HOST/NAME`. No server has a file of that name: a component of it is empty.
    Url,
    /// `xfer:/HOST/NAME`, `http:/HOST/NAME`, `xfer:HOST`.
    LostSlash,
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
    if let Some(error) = late_options(&typed, options).or_else(|| help_as_file(&typed, options)) {
        return Err(error);
    }
    let mut remotes = typed.iter().map(|word| remote(word)).collect::<Result<Vec<_>, _>>()?;
    if remotes.len() > 1 && remotes.iter().all(Option::is_none) {
        remotes = typed.iter().map(|word| user_and_host(word)).collect();
    }
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
    let Some((word, remote)) = words.iter().zip(&remotes).find_map(|(word, remote)| Some((*word, remote.as_ref()?)))
    else {
        return Ok(());
    };
    let has_url = remotes.iter().flatten().any(|remote| remote.kind == Kind::Url);
    let here = if has_url { String::new() } else { format!("; the host goes after -H ({})", on_localhost(&typed)) };
    let (servers, command) = command(words, &remotes, options);
    let which = match servers.as_slice() {
        [_] => String::new(),
        [first, ..] => format!("; the names are on {}; for {first}", several(&servers)),
        [] => return Ok(()),
    };
    let separator = if which.is_empty() { ";" } else { "," };
    let what = what(word, remote, &typed);
    Err(usage(format!("{what}{here}{}{which}{separator} type: {command}", note(&remotes))))
}

/// Whether a word names a host, and would do so as the only word.
pub fn names_host(word: &[u8]) -> bool {
    remote(word).is_ok_and(|remote| remote.is_some()) && !is_windows_path(word)
        || user_and_host(word).is_some()
        || split_scheme(word).is_some()
}

/// Ends a command that has options behind `--`, where every word is a file.
fn late_options(typed: &[&[u8]], options: &[Given]) -> Option<Error> {
    let flags = options_of("get");
    let takes_value = |word: &[u8]| {
        let word = std::str::from_utf8(word).ok()?;
        let is_it = |flag: &&FlagInfo<'_>| flag.long == word || flag.short.is_some_and(|c| word == format!("-{c}"));
        flags.iter().find(is_it).filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }))
    };
    let (mut names, mut late) = (Vec::new(), Vec::new());
    let mut words = typed.iter().copied().peekable();
    while let Some(word) = words.next() {
        match (takes_value(word), words.peek().copied()) {
            (Some(flag), Some(value)) => {
                words.next();
                let name = String::from_utf8_lossy(word).into_owned();
                late.push(Given { flag, name, value: Some(encode(OsStr::from_bytes(value))) });
            }
            _ => names.push(word),
        }
    }
    let first = text::quoted(late.first()?.name.as_bytes());
    let names = if names.is_empty() { vec![&b"FILE"[..]] } else { names };
    let all = [options, &late].concat();
    let mut command = paste::again(&names, &all);
    if !all.iter().any(|given| given.flag.long == "--host") {
        // The names may name a host, too.
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        let next = check(&names, &all).err().map(|error| error.to_string());
        let next = next.as_deref().and_then(|message| message.split_once("; type: "));
        command = next.map(|(_, command)| command.to_string()).or(command);
    }
    let right = command.map(|command| format!("; type: {command}")).unwrap_or_default();
    Some(usage(format!("options come before --, and {first} comes after it{right}")))
}

/// `xfer get help`.
fn help_as_file(typed: &[&[u8]], options: &[Given]) -> Option<Error> {
    let is_help = typed.len() == 1 && typed[0] == b"help" && options.is_empty();
    let what = || format!("'help' looks like a request for help ({}); type: xfer help get", on_localhost(typed));
    is_help.then(|| usage(what()))
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
        Kind::LostSlash => format!("{shown} is not an xfer URL, which begins with xfer://"),
        Kind::HostName => format!("{shown} looks like HOST:NAME"),
        Kind::HostSlashName => format!("{shown} looks like HOST/NAME"),
        Kind::UserHost => format!("{shown} looks like USER@HOST, and xfer has no user names"),
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
        return "; xfer fetches files, not directories";
    }
    if is_any(|it| it.kind == Kind::Url && it.name.contains(&b'?')) {
        return "; '?' and what follows are a part of NAME";
    }
    if is_any(|it| it.kind != Kind::Url && it.name.iter().any(|byte| b"*?[".contains(byte))) {
        return "; xfer does not expand wildcards";
    }
    match is_any(|it| it.name.starts_with(b"~") || it.kind == Kind::HostName && it.name.starts_with(b"/")) {
        true => "; NAME is relative to the directory that the server shares",
        false => "",
    }
}

/// How to fetch files that really have such names.
fn on_localhost(typed: &[&[u8]]) -> &'static str {
    match typed.len() {
        1 => "for a file of this name on localhost, add -H localhost",
        _ => "for files of these names on localhost, add -H localhost",
    }
}

fn port_as_file(typed: &[&[u8]], options: &[Given]) -> Error {
    let Some((word, names)) = typed.split_last() else { return usage("no file named") };
    let port = given("--port", "-p", word);
    let command = paste::get(names, &Server::new("localhost", None), &[options, &[port]].concat());
    let here = on_localhost(typed);
    usage(format!(
        "{} looks like a port, not a file; the port goes after -p ({here}); type: {command}",
        text::quoted(word)
    ))
}

/// The servers that are named, and a command for the first. Names without a server belong to it; but where the last word
/// of an scp(1) command line is not remote, it says where to save.
fn command(words: &[&[u8]], remotes: &[Option<Remote>], options: &[Given]) -> (Vec<String>, String) {
    let destination = destination(words, remotes, options);
    let without = words.len() - usize::from(destination.is_some());
    let mut servers: Vec<&Server> = Vec::new();
    for remote in remotes.iter().flatten() {
        if !servers.contains(&&remote.server) {
            servers.push(&remote.server);
        }
    }
    let Some(first) = servers.first().copied() else { return (Vec::new(), String::new()) };
    let plain = (0..without).filter(|at| remotes[*at].is_none()).map(|at| words[at].to_vec());
    let own = remotes.iter().flatten().filter(|remote| remote.server == *first).filter_map(name_to_ask_for);
    let names: Vec<Vec<u8>> = plain.chain(own).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let options = [options, destination.as_slice()].concat();
    (servers.into_iter().map(Server::typed).collect(), paste::get(&names, first, &options))
}

/// The name of a file that a word names, relative to the directory that the server shares.
fn name_to_ask_for(remote: &Remote) -> Option<Vec<u8>> {
    let name = remote.name.iter().position(|byte| *byte != b'/').map_or(&b""[..], |start| &remote.name[start..]);
    let name = name.strip_prefix(b"~/").unwrap_or(name);
    match name {
        b"" if !matches!(remote.kind, Kind::HostName | Kind::HostSlashName) => None,
        name if name.is_empty() || name.ends_with(b"/") => Some([name, b"FILE"].concat()),
        name => Some(name.to_vec()),
    }
}

/// `.` in `nas:file .`, as `-d .`, and `copy` in `nas:file copy`, as `-o copy`.
fn destination(words: &[&[u8]], remotes: &[Option<Remote>], options: &[Given]) -> Option<Given> {
    let (last, others) = remotes.split_last()?;
    let word = words.last()?;
    let is_copy = |remote: &Option<Remote>| remote.as_ref().is_some_and(|remote| !remote.name.is_empty());
    let says_where = |given: &Given| matches!(given.flag.long, "--dir" | "--output");
    if last.is_some() || others.is_empty() || !others.iter().all(is_copy) || options.iter().any(says_where) {
        return None;
    }
    let is_directory = others.len() > 1 || paste::is_directory(OsStr::from_bytes(word));
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
        let (server, name) = of_url(rest).map_err(|why| usage(format!("bad URL {}: {why}", text::quoted(word))))?;
        return Ok(Some(Remote { server, name, kind: Kind::Url }));
    }
    if let Some((server, name)) = behind_lost_slash(word).and_then(|rest| of_url(rest).ok()) {
        return Ok(Some(Remote { server, name, kind: Kind::LostSlash }));
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
    Ok(server_alone(text).or_else(|| host_slash_name(text)).or_else(|| host_and_name(text)))
}

/// Server and name behind the scheme of a URL. A query is a part of the name, as wget(1) saves it; a fragment is none.
fn of_url(rest: &[u8]) -> Result<(Server, Vec<u8>), String> {
    let rest = rest.split(|byte| *byte == b'#').next().unwrap_or(rest);
    let (before, query) = rest.split_at(rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len()));
    let (authority, path) = split_at_slash(before);
    let server = parse_authority(&String::from_utf8_lossy(authority))?;
    let name = decode(path).unwrap_or_else(|_| path.to_vec());
    let query = if name.is_empty() { &b""[..] } else { query };
    Ok((server, [&name, query].concat()))
}

/// `HOST/NAME` of `xfer:/HOST/NAME`, which lacks a slash, of `xfer:HOST`, and of other schemes with one slash.
fn behind_lost_slash(word: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = word.split_at(word.iter().position(|byte| *byte == b':')?);
    let rest = rest.strip_prefix(b":")?;
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    match rest.strip_prefix(b"/") {
        Some(rest) => SCHEMES.iter().any(|name| is(name)).then_some(rest),
        None => is("xfer").then_some(rest),
    }
}

/// `10.0.0.5/NAME` and `localhost/NAME`. With any other host it may be a path.
fn host_slash_name(text: &str) -> Option<Remote> {
    let (host, name) = text.split_once('/')?;
    let server = server_alone(host).filter(|remote| remote.server.port.is_none())?.server;
    Some(Remote { server, name: name.as_bytes().to_vec(), kind: Kind::HostSlashName })
}

/// `USER@HOST`. A host with a dot may be a file name (`icon@2x.png`), unless it is an address.
fn user_and_host(word: &[u8]) -> Option<Remote> {
    let (user, host) = std::str::from_utf8(word).ok()?.split_once('@')?;
    let is_user = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let is_host = host_of(host.as_bytes()).is_some() && (!host.contains('.') || host.parse::<IpAddr>().is_ok());
    (is_user && is_host).then(|| Remote { server: Server::new(host, None), name: Vec::new(), kind: Kind::UserHost })
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
