//! Values of options: ports, hosts, numbers, seconds.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::usage;
use crate::error::Error;
use crate::get::ProgressMode;
use crate::proto::digest::Algorithm;
use crate::serve::Bind;
use crate::text;

/// `host`, `host:port`, `1.2.3.4:port`, `::1`, `[::1]` or `[::1]:port`.
pub fn split_host(text: &str) -> Result<(String, Option<u16>), Error> {
    let port_of = |port: &str| parse_port(port).map_err(usage);
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        match inner.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port_of(port)?)),
                None => return Err(bad_host(text)),
            },
            None => return Err(bad_host(text)),
        }
    } else {
        match text.split_once(':') {
            // More than one colon and no brackets: an IPv6 address.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port_of(port)?)),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(bad_host(text));
    }
    Ok((host.to_string(), port))
}

fn bad_host(text: &str) -> Error {
    usage(format!("bad host {}: give NAME, ADDRESS, NAME:PORT or [IPv6]:PORT", text::quoted(text.as_bytes())))
}

/// A port, 0 too.
pub fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("bad port {}: give a number from 1 to 65535", text::quoted(text.as_bytes()))),
    }
}

/// A port to listen on, which may be left to the kernel.
pub fn parse_own_port(text: &str) -> Result<u16, String> {
    parse_port(text).map_err(|_| format!("bad port {}: give a number from 0 to 65535", text::quoted(text.as_bytes())))
}

/// An address of this machine, of which an IPv6 one may have the zone that it is in, or `localhost`.
pub fn parse_bind(text: &str) -> Result<Bind, String> {
    let bad = || {
        let shown = text::quoted(text.as_bytes());
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
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 1", text::quoted(text.as_bytes())))
}

/// A whole number from 0.
pub fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 0", text::quoted(text.as_bytes())))
}

/// Seconds, whole or not, above zero and at most a year.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEAR => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("bad time {}: give seconds above 0, such as 10 or 0.5", text::quoted(text.as_bytes()))),
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
        _ => Err(format!("bad choice {}: give auto, always, never or json", text::quoted(text.as_bytes()))),
    }
}

/// A digest algorithm.
pub fn parse_checksum(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "blake3" => Ok(Algorithm::Blake3),
        _ => Err(format!("bad choice {}: give md5 or blake3", text::quoted(text.as_bytes()))),
    }
}
