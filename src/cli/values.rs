//! Values of options: ports, hosts, numbers, seconds.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::host::{Server, is_host, parse_port, parse_real_port};
use super::url::{decode, parse_authority};
use super::words::shown;
use crate::get::ProgressMode;
use crate::proto::digest::Algorithm;
use crate::serve::Bind;

/// What may be given as a host.
const HOST_FORMS: &str = "give a name or an address, such as nas, nas:9999, 192.168.1.5 or [2001:db8::1]:9999";

/// An IPv6 address whose last group is four decimal digits from here on may be an address and a port. Below it, where only
/// root can listen, it is taken for an address.
const AMBIGUOUS_FROM: u16 = 1024;

/// Why a text is no host, and what was meant.
pub struct HostMistake {
    pub why: String,
    pub meant: Vec<Server>,
    /// A file that the text names, too.
    pub name: Option<Vec<u8>>,
}

/// What is wrong with a host, but for the number of its port.
pub fn host_mistake(text: &str) -> Option<HostMistake> {
    let mistake = |why: &str, meant: Vec<Server>| Some(HostMistake { why: why.to_string(), meant, name: None });
    let server_of = |authority: &str| {
        let host = authority.split(':').next().unwrap_or_default();
        parse_authority(authority).or_else(|_| parse_authority(host)).ok().into_iter().collect::<Vec<Server>>()
    };
    if let Some((scheme, rest)) = text.split_once("://") {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_ours = scheme.eq_ignore_ascii_case("xfer");
        let name = if is_ours { decode(path.as_bytes()).ok() } else { Some(path.as_bytes().to_vec()) };
        let name = name.filter(|name| !name.is_empty());
        return Some(HostMistake { why: "it is a URL".into(), meant: server_of(authority), name });
    }
    match ipv6_and_port(text) {
        Some((ip, port)) if !is_ipv6(text) => {
            return mistake("an IPv6 address with a port needs brackets", vec![Server::new(ip, Some(port))]);
        }
        Some((ip, port)) if port >= AMBIGUOUS_FROM => {
            let meant = vec![Server::new(ip, Some(port)), Server::new(text, None)];
            return mistake(&format!("it is unclear whether {port} is the port"), meant);
        }
        _ => {}
    }
    if let Some((_, host)) = text.rsplit_once('@') {
        return mistake("xfer has no user names", server_of(host));
    }
    if text.contains('/') {
        let host = text.split('/').find(|part| !part.is_empty()).unwrap_or_default();
        return mistake("it contains '/'", server_of(host));
    }
    match text.strip_suffix(':') {
        Some(host) if !host.contains(':') && !host.is_empty() => mistake("no port follows ':'", server_of(host)),
        _ if text.matches(':').count() > 1 && !text.starts_with('[') && !is_ipv6(text) => mistake(HOST_FORMS, vec![]),
        _ if !split_host(text).is_some_and(|(host, _)| is_host(host)) => mistake(HOST_FORMS, vec![]),
        _ => None,
    }
}

/// Whether a text is an IPv6 address, with a zone or without.
pub fn is_ipv6(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').unwrap_or((text, "any"));
    ip.parse::<Ipv6Addr>().is_ok() && is_host(zone) && !zone.contains(':')
}

/// `::1:9999` as an address and a port, whether it is an address as well or not.
pub fn ipv6_and_port(text: &str) -> Option<(&str, u16)> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = parse_port(port).ok().filter(|port| *port > 0)?;
    is_ipv6(ip).then_some((ip, port))
}

/// What `host`, `host:port`, `1.2.3.4:port`, `::1`, `[::1]` or `[::1]:port` says, the port as it is written.
pub fn split_host(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match (text.strip_prefix('['), text.split_once(':')) {
        (Some(inner), _) => match inner.split_once(']')? {
            (host, "") => (host, None),
            (host, rest) => (host, Some(rest.strip_prefix(':')?)),
        },
        // More than one colon and no brackets: an IPv6 address.
        (None, Some((_, rest))) if rest.contains(':') => (text, None),
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (text, None),
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    is_host.then_some((host, port))
}

/// The value of `-p` of `xfer get`.
pub fn parse_server_port(text: &str) -> Result<u16, String> {
    parse_real_port(text).map_err(|message| match split_host(text) {
        Some((host, port)) if is_host(host) && text.contains(|c: char| c.is_alphabetic() || c == '.') => {
            let what = if port.is_some() { "a host and a port" } else { "a host" };
            format!("{message}; for {what}, use -H {}", shown(text))
        }
        _ => message,
    })
}

/// A port to listen on, which may be left to the kernel.
pub fn parse_own_port(text: &str) -> Result<u16, String> {
    parse_port(text).map_err(|_| format!("bad port {}: give a number from 0 to 65535", shown(text)))
}

/// An address of this machine, of which an IPv6 one may have the zone that it is in, or `localhost`.
pub fn parse_bind(text: &str) -> Result<Bind, String> {
    let bad = || format!("bad address {}: give an IPv4 or IPv6 address of this machine, or localhost", shown(text));
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Bind::Localhost);
    }
    let inner = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let (ip, zone) = match inner.unwrap_or(text).split_once('%') {
        Some((ip, zone)) => (ip, Some(zone.to_string())),
        None => (inner.unwrap_or(text), None),
    };
    match ip.parse() {
        Ok(ip) if zone.is_none() => Ok(Bind::Address { ip, zone }),
        Ok(ip @ IpAddr::V6(_)) if zone.as_ref().is_some_and(|zone| !zone.is_empty()) => Ok(Bind::Address { ip, zone }),
        _ => Err(bad()),
    }
}

/// A whole number from 1.
pub fn parse_positive(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 1 to {}", shown(text), u32::MAX))
}

/// A whole number from 0.
pub fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 0 to {}", shown(text), u32::MAX))
}

/// Seconds, whole or not, above zero and at most a year.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    seconds(text, "a number of seconds above 0")
}

/// Seconds for what is under way at the end; none at all is a choice.
pub fn parse_drain(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => seconds(text, "a number of seconds, 0 or more"),
    }
}

fn seconds(text: &str, wanted: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEAR => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("bad time {}: give {wanted}, for example 10 or 0.5", shown(text))),
    }
}

/// When a bar is drawn.
pub fn parse_progress(text: &str) -> Result<ProgressMode, String> {
    match text {
        "auto" => Ok(ProgressMode::Auto),
        "always" => Ok(ProgressMode::Always),
        "never" => Ok(ProgressMode::Never),
        "json" => Ok(ProgressMode::Json),
        _ => Err(format!("bad value {}: give auto, always, never or json", shown(text))),
    }
}

/// A digest algorithm.
pub fn parse_checksum(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "blake3" => Ok(Algorithm::Blake3),
        _ => Err(format!("bad value {}: give md5 or blake3", shown(text))),
    }
}
