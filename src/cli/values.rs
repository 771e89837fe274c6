//! Values of options: ports, hosts, numbers, seconds.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::argv::shown;
use crate::get::ProgressMode;
use crate::proto::digest::Algorithm;
use crate::serve::Bind;

/// What may be given as a host.
pub const HOST_FORMS: &str = "give NAME, ADDRESS, NAME:PORT or [IPv6]:PORT";

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

/// A port, 0 too.
pub fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("bad port {}: give a number from 1 to 65535", shown(text))),
    }
}

/// A port to listen on, which may be left to the kernel.
pub fn parse_own_port(text: &str) -> Result<u16, String> {
    parse_port(text).map_err(|_| format!("bad port {}: give a number from 0 to 65535", shown(text)))
}

/// An address of this machine, of which an IPv6 one may have the zone that it is in, or `localhost`.
pub fn parse_bind(text: &str) -> Result<Bind, String> {
    let bad = || {
        let shown = shown(text);
        format!("bad address {shown}: give an IPv4 or IPv6 address of this machine, or localhost")
    };
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
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 1", shown(text)))
}

/// A whole number from 0.
pub fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 0", shown(text)))
}

/// Seconds, whole or not, above zero and at most a year.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEAR => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("bad time {}: give seconds above 0, such as 10 or 0.5", shown(text))),
    }
}

/// Seconds for what is under way at the end; none at all is a choice.
pub fn parse_drain(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => parse_seconds(text).map_err(|message| message.replace("seconds above 0", "seconds from 0")),
    }
}

/// When a bar is drawn.
pub fn parse_progress(text: &str) -> Result<ProgressMode, String> {
    match text {
        "auto" => Ok(ProgressMode::Auto),
        "always" => Ok(ProgressMode::Always),
        "never" => Ok(ProgressMode::Never),
        "json" => Ok(ProgressMode::Json),
        _ => Err(format!("bad choice {}: give auto, always, never or json", shown(text))),
    }
}

/// A digest algorithm.
pub fn parse_checksum(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "blake3" => Ok(Algorithm::Blake3),
        _ => Err(format!("bad choice {}: give md5 or blake3", shown(text))),
    }
}
