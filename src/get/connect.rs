//! Connecting: from the name of a host to a connection with one of its addresses, all of which are one attempt.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;

use super::GetConfig;
use super::clock;
use super::race::{Race, Step};
use super::wait::{SOCKET, Stop, Waits};
use super::workers::Worker;
use crate::error::{Error, ExitCode, lower_case, reason};

/// Addresses of a host that are tried at most, each with a descriptor: a name that has more belongs to no file server.
const ADDRESSES_MAX: usize = 64;

/// Addresses that one error line names at most.
const ADDRESSES_SHOWN: usize = 5;

/// The address that was connected to last in this run, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastAddress {
    /// There was none.
    #[default]
    Unknown,
    /// It took the connection: it is tried first the next time.
    Connected(SocketAddr),
    /// It took the connection, and no byte came: the others are tried first.
    Silent(SocketAddr),
}

impl LastAddress {
    /// No byte came over the last connection.
    pub fn was_silent(&mut self) {
        if let LastAddress::Connected(address) = *self {
            *self = LastAddress::Silent(address);
        }
    }

    /// The addresses of a host in the order in which they are tried.
    fn order(self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut addresses = interleave(addresses);
        match self {
            LastAddress::Unknown => {}
            LastAddress::Connected(last) => addresses.sort_by_key(|address| *address != last),
            LastAddress::Silent(last) => addresses.sort_by_key(|address| *address == last),
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }
}

/// Mixes the families, so that a broken one costs one delay and not one for each of its addresses (RFC 8305, section 4).
/// The resolver has sorted them (RFC 6724); the family that it prefers is first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

/// Connects to the first address of the server that answers; `server` is how error lines name it.
pub fn connect(config: &GetConfig, server: &str, last: &mut LastAddress, waits: &mut Waits) -> Result<TcpStream, Stop> {
    let deadline = clock::now() + config.timeout;
    let addresses = last.order(addresses(&config.host, config.port, deadline, *last, waits)?);
    match first_to_answer(&addresses, deadline, waits)? {
        Ok((address, stream)) => {
            log::debug!(target: "main", "connected to {address}");
            *last = LastAddress::Connected(address);
            Ok(stream)
        }
        Err(failures) => Err(cannot_connect(config, server, *last, &failures)),
    }
}

/// The failure of an attempt without a connection; `last` is the address of an earlier one in this run.
pub fn cannot_connect(config: &GetConfig, server: &str, last: LastAddress, failures: &[Failure]) -> Stop {
    let hint = failures.first().and_then(|(_, error)| hint(error, config, last));
    Stop::Again { why: format!("cannot connect to {server}: {}", why(failures)), hint, connected: false }
}

/// The addresses of a host; when its name is not known any more, the one that was connected to before.
fn addresses(
    host: &str,
    port: u16,
    deadline: Instant,
    last: LastAddress,
    waits: &mut Waits,
) -> Result<Vec<SocketAddr>, Stop> {
    let (LastAddress::Connected(address) | LastAddress::Silent(address)) = last else {
        return resolve(host, port, deadline, waits);
    };
    // The other half is for the connection.
    let half = deadline.saturating_duration_since(clock::now()) / 2;
    match resolve(host, port, clock::now() + half, waits) {
        Err(stop) if stop.host_is_dead() => {
            log::warn!(target: "main", "{}; connecting to {address} again", stop.into_error());
            Ok(vec![address])
        }
        result => result,
    }
}

/// All addresses of a host. Asking the resolver can take long, so a thread does it.
fn resolve(host: &str, port: u16, deadline: Instant, waits: &mut Waits) -> Result<Vec<SocketAddr>, Stop> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_string();
    let worker = Worker::start_or_here("resolver", waits);
    let pending = worker.run(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    match pending.wait_until(waits, deadline)? {
        Some(Ok(addresses)) => Ok(addresses),
        Some(Err(error)) => {
            // "failed to lookup address information: Name or service not known"
            let why = reason(&error);
            let why = lower_case(why.rsplit(": ").next().unwrap_or(&why));
            // EAI_AGAIN, as glibc and musl call it (getaddrinfo(3)): a name server that does not answer may do so later.
            if why == "temporary failure in name resolution" || why == "try again" {
                let why = format!("cannot find the host {host}: {why}");
                return Err(Stop::Again { why, hint: Some(CHECK_DNS), connected: false });
            }
            let message = format!("cannot find the host {host}: {why}; check the name, or use an IP address");
            Err(Stop::Final(Error::new(ExitCode::Network, message)))
        }
        None => {
            let why = format!("cannot find the host {host}: no answer from the name server");
            Err(Stop::Again { why, hint: Some(CHECK_DNS), connected: false })
        }
    }
}

/// What to do when name servers do not answer.
const CHECK_DNS: &str = "check the network connection and the DNS settings of this machine";

/// An address, and why it is not connected to.
pub type Failure = (SocketAddr, io::Error);

/// The first of these addresses that is connected, with its connection; the inner error says why none is. The connections
/// to the others are closed.
fn first_to_answer(
    addresses: &[SocketAddr],
    deadline: Instant,
    waits: &mut Waits,
) -> Result<Result<(SocketAddr, TcpStream), Vec<Failure>>, Stop> {
    let mut race = Race::new(addresses.len(), clock::now(), deadline);
    let mut running: Vec<(SocketAddr, TcpStream)> = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    loop {
        // They share a token: an edge wakes, and does not say of which it is.
        for (address, stream) in std::mem::take(&mut running) {
            match look(&stream) {
                Ok(true) => return Ok(Ok((address, stream))),
                Ok(false) => running.push((address, stream)),
                Err(error) => {
                    failures.push((address, error));
                    race.fail(clock::now());
                }
            }
        }
        match race.step(clock::now()) {
            Step::Start(number) => {
                // The race is one of these addresses.
                let Some(address) = addresses.get(number) else { continue };
                match start(*address, waits) {
                    Ok(stream) => running.push((*address, stream)),
                    Err(error) => {
                        failures.push((*address, error));
                        race.fail(clock::now());
                    }
                }
            }
            Step::Wait(until) => waits.wait(Some(until))?,
            Step::GiveUp => break,
        }
    }
    failures.extend(running.into_iter().map(|(address, _)| (address, io::ErrorKind::TimedOut.into())));
    // In the order in which they were tried, whichever failed first.
    failures.sort_by_key(|(address, _)| addresses.iter().position(|other| other == address));
    Ok(Err(failures))
}

/// Begins to connect to one address.
fn start(address: SocketAddr, waits: &Waits) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    waits.registry().register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// Whether a connection is up.
fn look(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // A connection to a free port of this machine can meet itself (RFC 9293, 3.5, simultaneous open).
        Ok(peer) if stream.local_addr().is_ok_and(|own| own == peer) => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => {
            // The request is one small write: nothing to gain from waiting for more.
            let _ = stream.set_nodelay(true);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why no address could be connected to; where the reasons differ, with the addresses, as far as a line goes.
fn why(failures: &[Failure]) -> String {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for (address, error) in failures {
        let why = reason_of(error);
        match reasons.iter_mut().find(|(other, _)| *other == why) {
            Some((_, addresses)) => addresses.push(address.ip().to_string()),
            None => reasons.push((why, vec![address.ip().to_string()])),
        }
    }
    if let [] | [_] = reasons[..] {
        return reasons.pop().map_or_else(|| String::from("the host has no address"), |(why, _)| why);
    }
    let with_addresses = |(why, mut addresses): (String, Vec<String>)| {
        let more = addresses.len().saturating_sub(ADDRESSES_SHOWN);
        addresses.truncate(ADDRESSES_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{why} at {}{more}", addresses.join(", "))
    };
    reasons.into_iter().map(with_addresses).collect::<Vec<_>>().join("; ")
}

/// Why one address could not be connected to.
fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => String::from("connection timed out"),
        _ => reason(error),
    }
}

/// What to check after a failure.
fn hint(error: &io::Error, config: &GetConfig, last: LastAddress) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused if last != LastAddress::Unknown => Some("has the server stopped?"),
        io::ErrorKind::ConnectionRefused if !config.is_host_named => {
            Some("is 'xfer serve' running on this machine, on this port? use -H to name another machine")
        }
        io::ErrorKind::ConnectionRefused if config.host.eq_ignore_ascii_case("localhost") => {
            Some("is 'xfer serve' running on this machine, on this port?")
        }
        io::ErrorKind::ConnectionRefused => Some("is 'xfer serve' running there, on this port?"),
        io::ErrorKind::TimedOut => Some("check the address, and any firewall on the way"),
        io::ErrorKind::HostUnreachable => Some("check the address, and that the machine is on"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            Some("check the network connection of this machine")
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
