//! A server as it is typed: its host and its port.

use std::net::IpAddr;

use super::words::shown;
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

/// Whether a text can be a host: not empty, without a slash, and shown on a terminal as it is.
pub fn is_host(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '\'' | '\\');
    !text.is_empty() && !text.contains(odd) && text::escaped(text.as_bytes()) == text
}

/// Whether two texts name the same host: names in any case, addresses in any form.
pub fn same_host(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// A port that a server can have.
pub fn parse_real_port(text: &str) -> Result<u16, String> {
    parse_port(text).and_then(|port| match port {
        0 => Err(String::from("bad port '0': give a number from 1 to 65535")),
        port => Ok(port),
    })
}

/// A port, 0 too.
pub fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("bad port {}: give a number from 1 to 65535", shown(text))),
    }
}
