//! Where the server listens.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::text;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On every address, IPv6 and IPv4.
    All,
    /// On this machine's address for itself.
    Localhost,
    /// On this address of this machine.
    Address {
        /// The address.
        ip: IpAddr,
        /// The interface that an IPv6 address belongs to, by its name or number (RFC 4007, section 11).
        zone: Option<String>,
    },
}

impl Bind {
    /// What to listen on, and what instead if this machine does not have that.
    pub fn addresses(&self, port: u16) -> io::Result<(SocketAddr, Option<SocketAddr>)> {
        let either = |first: IpAddr, other: IpAddr| (SocketAddr::new(first, port), Some(SocketAddr::new(other, port)));
        Ok(match self {
            // Of the two, IPv6 takes IPv4 as well. Some machines have no IPv6.
            Bind::All => either(Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()),
            // Clients of the first system look for no other than IPv4.
            Bind::Localhost => either(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
            Bind::Address { ip: IpAddr::V6(ip), zone: Some(zone) } => {
                (SocketAddrV6::new(*ip, port, 0, interface_number(zone)?).into(), None)
            }
            Bind::Address { ip, .. } => (SocketAddr::new(*ip, port), None),
        })
    }
}

impl Display for Bind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Bind::All => f.write_str("all addresses"),
            Bind::Localhost => f.write_str("localhost"),
            Bind::Address { ip, zone: None } => write!(f, "{ip}"),
            Bind::Address { ip, zone: Some(zone) } => write!(f, "{ip}%{}", text::escaped(zone.as_bytes())),
        }
    }
}

/// The number of the interface that a zone names.
fn interface_number(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::netdevice::name_to_index(&socket, zone).map_err(|error| match error {
        Errno::NODEV => {
            io::Error::other(format!("no interface {}; 'ip link' lists the interfaces", text::quoted(zone.as_bytes())))
        }
        error => error.into(),
    })
}
