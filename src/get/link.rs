//! A connection to the server, with a time limit on everything.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::TcpStream;

use super::wait::{SOCKET, Stop, Waits};
use super::workers::Worker;
use crate::error::{Error, ExitCode, lower_case, reason};
use crate::net::{Closed, Io, Transport};

/// A connection that is up.
pub struct Link {
    stream: TcpStream,
    /// The server, as error lines name it.
    server: String,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes.
    Bytes(usize),
    /// The server has sent all that it wanted to.
    End,
    /// The connection was cut.
    Reset,
    /// Nothing in the time allowed.
    Nothing,
}

/// `host:port`, with brackets where the host has colons.
pub fn server_name(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Link {
    /// Connects to the first address of a host that answers; all of them together are one attempt.
    pub fn connect(host: &str, port: u16, timeout: Duration, waits: &mut Waits) -> Result<Link, Stop> {
        let server = server_name(host, port);
        let deadline = Instant::now() + timeout;
        let addresses = resolve(host, port, deadline, waits)?;
        let mut why = String::from("it has no address");
        for (index, address) in addresses.iter().enumerate() {
            // What is left of the time is shared with the addresses behind.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
            match connect_to(*address, Instant::now() + share, waits)? {
                Ok(stream) => {
                    log::debug!(target: "main", "connected to {address}");
                    return Ok(Link { stream, server });
                }
                Err(error) => why = refused(&error),
            }
        }
        Err(Stop::Again { why: format!("cannot connect to {server}: {why}"), connected: false })
    }

    /// Sends all of this.
    pub fn send(&mut self, mut bytes: &[u8], timeout: Duration, waits: &mut Waits) -> Result<(), Stop> {
        let deadline = Instant::now() + timeout;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Io::Done(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Io::WouldBlock if Instant::now() >= deadline => {
                    return Err(Stop::again(format!(
                        "{} took no request for {} s",
                        self.server,
                        timeout.as_secs_f64()
                    )));
                }
                Io::WouldBlock => waits.wait(Some(deadline))?,
                Io::Closed(_) => return Err(Stop::again(format!("{} closed the connection", self.server))),
            }
        }
        Ok(())
    }

    /// Reads what comes within this time.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Duration, waits: &mut Waits) -> Result<Read, Stop> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.stream.read(buffer) {
                Io::Done(n) => return Ok(Read::Bytes(n)),
                Io::Closed(Closed::EndOfInput) => return Ok(Read::End),
                Io::Closed(_) => return Ok(Read::Reset),
                Io::WouldBlock if Instant::now() >= deadline => return Ok(Read::Nothing),
                Io::WouldBlock => waits.wait(Some(deadline))?,
            }
        }
    }

    /// Reads what is there, without waiting.
    pub fn read_now(&mut self, buffer: &mut [u8]) -> Read {
        match self.stream.read(buffer) {
            Io::Done(n) => Read::Bytes(n),
            Io::Closed(Closed::EndOfInput) => Read::End,
            Io::Closed(_) => Read::Reset,
            Io::WouldBlock => Read::Nothing,
        }
    }

    /// The server, as error lines name it.
    pub fn server(&self) -> &str {
        &self.server
    }
}

/// All addresses of a host. Asking the resolver can take long, so a thread does it.
fn resolve(host: &str, port: u16, deadline: Instant, waits: &mut Waits) -> Result<Vec<SocketAddr>, Stop> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_string();
    let worker = Worker::start("resolver", waits.waker())?;
    let pending = worker.run(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    match pending.wait_until(waits, deadline)? {
        Some(Ok(addresses)) => Ok(addresses),
        Some(Err(error)) => {
            // "failed to lookup address information: Name or service not known"
            let why = reason(&error);
            let why = lower_case(why.rsplit(": ").next().unwrap_or(&why));
            // EAI_AGAIN, as glibc and musl call it (getaddrinfo(3)): a name server that does not answer may do so later.
            if why == "temporary failure in name resolution" || why == "try again" {
                let why = format!("cannot find the host {host}: {why} (does this machine reach its name servers?)");
                return Err(Stop::Again { why, connected: false });
            }
            let message = format!("cannot find the host {host}: {why}; check the name, or give its address with -H");
            Err(Stop::Final(Error::new(ExitCode::Network, message)))
        }
        None => Err(Stop::Again { why: format!("no answer about the address of {host}"), connected: false }),
    }
}

/// Connects to one address; the inner error says why not.
fn connect_to(address: SocketAddr, deadline: Instant, waits: &mut Waits) -> Result<io::Result<TcpStream>, Stop> {
    let mut stream = match TcpStream::connect(address) {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error)),
    };
    let interest = Interest::READABLE | Interest::WRITABLE;
    if let Err(error) = waits.registry().register(&mut stream, SOCKET, interest) {
        return Ok(Err(error));
    }
    loop {
        if let Err(error) = stream.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
            return Ok(Err(error));
        }
        match stream.peer_addr() {
            // A connection to a free port of this machine can meet itself (RFC 9293, 3.5, simultaneous open).
            Ok(peer) if stream.local_addr().is_ok_and(|own| own == peer) => {
                return Ok(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            Ok(_) => {
                // The request is one small write: nothing to gain from waiting for more.
                let _ = stream.set_nodelay(true);
                return Ok(Ok(stream));
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => return Ok(Err(error)),
        }
        if Instant::now() >= deadline {
            return Ok(Err(io::ErrorKind::TimedOut.into()));
        }
        waits.wait(Some(deadline))?;
    }
}

/// Why a connection did not come about, and what to look at.
fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            String::from("connection refused (is the server running, and on this port?)")
        }
        io::ErrorKind::TimedOut => String::from("no answer (check the address, and firewalls on the way)"),
        _ => reason(error),
    }
}
