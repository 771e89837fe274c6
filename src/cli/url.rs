//! `xfer://HOST[:PORT]/NAME`: a server and a name on it in one word (RFC 3986, zones as in RFC 6874).

use std::net::Ipv6Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::host::{Server, is_host, parse_real_port};
use super::usage;
use crate::error::Error;
use crate::proto::DEFAULT_PORT;
use crate::text::{self, shell};

const SCHEME: &[u8] = b"xfer://";

/// What stands for itself in the path of a URL and needs no quotes in a shell.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'/').remove(b':').remove(b'@').remove(b'+');

/// What one of these URLs names.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    /// The server, its port only if the URL says one.
    pub server: Server,
    /// The name on the server, decoded.
    pub name: Vec<u8>,
}

/// The text behind the scheme, if the word is such a URL. No server has a file of such a name: a component is empty.
fn without_scheme(word: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = word.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// Whether a word is such a URL, well formed or not.
pub fn is_url(word: &[u8]) -> bool {
    without_scheme(word).is_some()
}

/// The URL of a name on a server.
pub fn of(server: &Server, name: &[u8]) -> String {
    // RFC 6874, section 2: the sign before a zone is encoded.
    let host = Server::new(server.host.replace('%', "%25"), server.port.filter(|port| *port != DEFAULT_PORT));
    format!("xfer://{}/{}", host.typed(), percent_encode(name, ENCODED))
}

/// Reads a URL.
pub fn parse(word: &[u8]) -> Result<Url, Error> {
    let shown = text::quoted(word);
    let bad = |why: String| usage(format!("bad URL {shown}: {why}"));
    let rest = without_scheme(word).unwrap_or(word);
    let (authority, path) = split_at_slash(rest);
    if let Some(sign) = rest.iter().find(|byte| matches!(byte, b'?' | b'#')) {
        let code = if *sign == b'?' { "%3F" } else { "%23" };
        let part = if *sign == b'?' { "query" } else { "fragment" };
        let sign = char::from(*sign);
        return Err(bad(format!("an xfer URL has no {part}; in a name, write {sign} as {code}")));
    }
    let host = std::str::from_utf8(authority).map_err(|_| bad("the host is not valid UTF-8".into()))?;
    let server = parse_authority(host).map_err(&bad)?;
    let name = decode(path).map_err(&bad)?;
    let right = || {
        let name: &[u8] = if name.is_empty() { b"FILE" } else { &name };
        format!("xfer get {}", shell::quoted(&of(&server, name)))
    };
    if host.contains('@') {
        return Err(bad(format!("xfer has no user names; type: {}", right())));
    }
    if name.is_empty() {
        return Err(bad(format!("it names no file; type: {}", right())));
    }
    Ok(Url { server, name })
}

/// Authority and path of what follows a scheme.
pub fn split_at_slash(rest: &[u8]) -> (&[u8], &[u8]) {
    match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&rest[..slash], &rest[slash + 1..]),
        None => (rest, b""),
    }
}

/// `[USER@]HOST[:PORT]`, as any scheme has it; the user is left out.
pub fn parse_authority(text: &str) -> Result<Server, String> {
    let host_and_port = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let (host, port) = match host_and_port.strip_prefix('[').map(|inner| inner.split_once(']')) {
        Some(Some((inner, rest))) if rest.is_empty() || rest.starts_with(':') => {
            (parse_ipv6(inner)?, rest.strip_prefix(':'))
        }
        Some(_) => return Err("the address in brackets is not closed; write [ADDRESS]:PORT".into()),
        None if host_and_port.matches(':').count() > 1 => {
            return Err("an IPv6 address needs brackets: xfer://[ADDRESS]/FILE".into());
        }
        None => match host_and_port.split_once(':') {
            Some((host, port)) => (host.to_string(), Some(port)),
            None => (host_and_port.to_string(), None),
        },
    };
    if host.is_empty() {
        return Err("it names no host; write xfer://HOST/FILE".into());
    }
    if !is_host(&host) {
        return Err(format!("{} is not a host name", text::quoted(host.as_bytes())));
    }
    Ok(Server::new(host, port.map(parse_real_port).transpose()?))
}

/// What stands in brackets: an IPv6 address, its zone behind `%25`, or behind `%` as people copy it from elsewhere.
fn parse_ipv6(text: &str) -> Result<String, String> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (text, None),
    };
    let bad = || format!("{} is not an IPv6 address", text::quoted(text.as_bytes()));
    ip.parse::<Ipv6Addr>().map_err(|_| bad())?;
    match zone {
        Some("") => Err(bad()),
        Some(zone) => {
            let zone = String::from_utf8(decode(zone.as_bytes())?).map_err(|_| bad())?;
            Ok(format!("{ip}%{zone}"))
        }
        None => Ok(ip.to_string()),
    }
}

/// The bytes of a name. The crate leaves alone what is no escape; here that is an error.
pub fn decode(path: &[u8]) -> Result<Vec<u8>, String> {
    for at in (0..path.len()).filter(|at| path[*at] == b'%') {
        match path.get(at + 1..at + 3) {
            Some(b"00") => return Err("a name cannot have a NUL byte (%00)".into()),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            _ => {
                let end = path.len().min(at + 3);
                let escape = text::quoted(&path[at..end]);
                return Err(format!("{escape} is not % and two hexadecimal digits; write a percent sign as %25"));
            }
        }
    }
    Ok(percent_decode(path).collect())
}
