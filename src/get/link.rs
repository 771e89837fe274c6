//! A connection to the server, with a time limit on everything.

use std::fmt;
use std::io::{self, IoSliceMut, Read as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::clock;
use super::connect;
use super::input::Input;
use super::item::Tools;
use super::wait::Stop;
use super::wrong_server;
use crate::net::{Io, Transport};
use crate::proto::Malformed;
#[cfg(test)]
use crate::simulation::machine;
use crate::text;

/// Bytes read in the same call behind those that have a place of their own: the next frame's header, and not so many
/// that copying them would cost anything.
const BEHIND_LEN: usize = 64;

/// How long the rest of another protocol's greeting may take; without it, what has come is described.
const GREETING_TIME: Duration = Duration::from_secs(1);

/// What ends the line of a request in most text protocols, and the request in HTTP.
const END_OF_LINE: &[u8] = b"\r\n\r\n";

/// A connection that is up.
pub struct Link {
    wire: Wire,
    /// The server, as error lines name it.
    server: String,
    /// What has come and is not used yet.
    input: Input,
}

/// The connection itself.
struct Wire {
    stream: Stream,
    /// What is to be sent and the connection has not taken yet.
    out: Vec<u8>,
    /// How long the server was waited for, of which nobody has taken note.
    waited: Duration,
}

/// The bytes in both directions.
enum Stream {
    /// Of this machine.
    Real(TcpStream),
    /// Of a simulated one.
    #[cfg(test)]
    Simulated(machine::Socket),
}

impl Stream {
    fn connect(tools: &mut Tools<'_>) -> Result<Stream, Stop> {
        let config = tools.config;
        #[cfg(test)]
        if machine::is_simulated() {
            let deadline = clock::now() + config.timeout;
            tools.waits.wait(Some(deadline))?;
            let failed = |error| {
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], config.port));
                connect::cannot_connect(config, &tools.server, tools.last_address, &[(address, error)])
            };
            return machine::connect(deadline).map(Stream::Simulated).map_err(failed);
        }
        connect::connect(config, &tools.server, &mut tools.last_address, &mut tools.waits).map(Stream::Real)
    }

    /// Reads what has come, into one room after the other.
    fn read(&mut self, rooms: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Real(stream) => stream.read_vectored(rooms),
            #[cfg(test)]
            Stream::Simulated(socket) => socket.read(rooms),
        }
    }

    /// Writes what fits.
    fn write(&mut self, bytes: &[u8]) -> Io {
        match self {
            Stream::Real(stream) => stream.write(bytes),
            #[cfg(test)]
            Stream::Simulated(socket) => socket.write(bytes),
        }
    }
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes.
    Bytes(usize),
    /// None, and why.
    Lost(Lost),
}

/// Why nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server has sent all that it wanted to.
    End,
    /// The connection was cut.
    Reset,
    /// Nothing in the time allowed.
    Silence,
}

/// Where in a conversation a connection fails; displayed as the end of a sentence about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the reply.
    Reply,
    /// Before size and digest of a file, in version 1.
    Metadata,
    /// Before the digest of a file whose bytes are not wanted.
    Digest,
    /// In the middle of a file.
    Bytes {
        /// Bytes of the file that are here.
        received: u64,
        /// Bytes in the whole file.
        size: u64,
    },
    /// In a reply that is discarded.
    Rest,
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Reply => out.write_str("before replying"),
            When::Metadata => out.write_str("before sending size and digest"),
            When::Digest => out.write_str("before sending the digest"),
            When::Bytes { received, size } => write!(out, "after {} of {}", text::size(*received), text::size(*size)),
            When::Rest => out.write_str("in the rest of a reply"),
        }
    }
}

/// `host:port`, with brackets where the host has colons.
pub fn server_name(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Link {
    /// Connects to the server; all addresses of its host are one attempt.
    pub fn connect(tools: &mut Tools<'_>) -> Result<Link, Stop> {
        // Whoever refuses at once leaves nothing to wait for, and signals would go unseen.
        tools.waits.check()?;
        tools.progress.connecting();
        let wire = Wire { stream: Stream::connect(tools)?, out: Vec::new(), waited: Duration::ZERO };
        tools.progress.asking();
        Ok(Link { wire, server: tools.server.clone(), input: Input::new() })
    }

    /// Has this sent with the next [`Link::flush`], or before a read waits: many requests are one segment.
    pub fn send(&mut self, bytes: &[u8]) {
        self.wire.out.extend_from_slice(bytes);
    }

    /// Sends what is to be sent, as far as the connection takes it now; the rest goes out while a read waits. Two ends
    /// that both wait for the other to read would wait for ever.
    pub fn flush(&mut self) {
        self.wire.flush();
    }

    /// Reads what comes before this time: what came with an earlier value first. Files that get their names meanwhile are
    /// told of.
    pub fn read(&mut self, room: &mut [u8], until: Instant, tools: &mut Tools<'_>) -> Result<Read, Stop> {
        if !self.input.bytes().is_empty() {
            // A slice is a reader that never fails.
            let kept = io::Read::read(&mut self.input.bytes(), room).unwrap_or(0);
            self.input.consume(kept);
            return Ok(Read::Bytes(kept));
        }
        let room_len = room.len();
        let mut behind = [0; BEHIND_LEN];
        let read = self.wire.receive(&mut [IoSliceMut::new(room), IoSliceMut::new(&mut behind)], until, tools)?;
        let Read::Bytes(n) = read else { return Ok(read) };
        self.input.push(behind.get(..n.saturating_sub(room_len)).unwrap_or_default());
        Ok(Read::Bytes(n.min(room_len)))
    }

    /// Reads until `parse` has its value; or why it does not come before this time.
    pub fn value<T>(
        &mut self,
        until: Instant,
        tools: &mut Tools<'_>,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, Malformed>,
    ) -> Result<Result<T, Lost>, Stop> {
        // It may have come with the reply before.
        if !self.input.bytes().is_empty() {
            tools.silence.hear();
        }
        loop {
            match parse(self.input.bytes()) {
                Ok(Some((used, value))) => {
                    self.input.consume(used);
                    return Ok(Ok(value));
                }
                Ok(None) => {}
                Err(malformed) => return Err(self.unparsable(malformed, tools)?),
            }
            // A server that always has something to say leaves nothing to wait for, and signals would go unseen.
            tools.waits.check()?;
            match self.wire.receive(&mut [IoSliceMut::new(self.input.room())], until, tools)? {
                Read::Bytes(n) => self.input.add(n),
                Read::Lost(lost) => return Ok(Err(lost)),
            }
        }
    }

    /// What it means that bytes cannot be parsed: until the server has proved to be one of this protocol, they may be the
    /// greeting of another, of which the rest of the line is read.
    fn unparsable(&mut self, malformed: Malformed, tools: &mut Tools<'_>) -> Result<Stop, Stop> {
        if tools.is_xfer_server || !wrong_server::may_be_greeting(malformed, self.input.bytes()) {
            return Ok(self.broken(malformed));
        }
        let until = clock::now() + GREETING_TIME;
        while !wrong_server::is_complete(self.input.bytes()) {
            tools.waits.check()?;
            match self.wire.receive(&mut [IoSliceMut::new(self.input.room())], until, tools)? {
                Read::Bytes(n) => self.input.add(n),
                Read::Lost(_) => break,
            }
        }
        Ok(Stop::WrongServer(wrong_server::describe(self.input.bytes(), tools.config.port)))
    }

    /// The first byte that comes before this time, which stays where it is.
    pub fn first_byte(&mut self, until: Instant, tools: &mut Tools<'_>) -> Result<Result<u8, Lost>, Stop> {
        self.value(until, tools, |bytes| Ok(bytes.first().map(|byte| (0, *byte))))
    }

    /// Bytes that no server of this protocol sends.
    pub fn broken(&self, malformed: Malformed) -> Stop {
        Stop::protocol(format!("bad reply from {}: {malformed}", self.server))
    }

    /// What it means that nothing more comes.
    pub fn lost(&self, lost: Lost, timeout: Duration, when: When) -> Stop {
        let (server, seconds) = (&self.server, timeout.as_secs_f64());
        Stop::again(match (lost, when) {
            (Lost::End, _) => format!("{server} closed the connection {when}"),
            (Lost::Reset, _) => format!("{server} reset the connection {when}"),
            (Lost::Silence, When::Reply) => format!("{server} did not reply within {seconds} s"),
            (Lost::Silence, When::Metadata) => format!("{server} did not send size and digest within {seconds} s"),
            (Lost::Silence, When::Digest) => format!("{server} did not send the digest within {seconds} s"),
            (Lost::Silence, When::Bytes { .. } | When::Rest) => format!("{server} sent nothing for {seconds} s {when}"),
        })
    }

    /// What it means that a server of which nothing is known does not reply. Many of HTTP, and Redis, wait for the end of a
    /// line: a silent one gets it, now that the attempt is over for every server of this protocol.
    pub fn no_reply(&mut self, lost: Lost, tools: &mut Tools<'_>) -> Result<Stop, Stop> {
        let timeout = tools.config.timeout;
        if lost == Lost::Silence && self.input.bytes().is_empty() {
            self.wire.out.clear();
            self.send(END_OF_LINE);
            let until = clock::now() + GREETING_TIME.min(timeout);
            if let Read::Bytes(n) = self.wire.receive(&mut [IoSliceMut::new(self.input.room())], until, tools)? {
                self.input.add(n);
                if wrong_server::is_known(self.input.bytes()) {
                    return Ok(Stop::WrongServer(wrong_server::describe(self.input.bytes(), tools.config.port)));
                }
            }
        }
        Ok(match self.lost(lost, timeout, When::Reply) {
            Stop::Again { why, connected, .. } => {
                Stop::Again { why, hint: Some("is this an xfer server? check the port"), connected }
            }
            stop => stop,
        })
    }

    /// How long the server was waited for since this was asked last.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.wire.waited)
    }

    /// The server, as error lines name it.
    pub fn server(&self) -> &str {
        &self.server
    }
}

impl Wire {
    fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Io::Done(n) => drop(self.out.drain(..n)),
                Io::WouldBlock => return,
                // A read will tell; what the server has said before comes first.
                Io::Closed(_) => self.out.clear(),
            }
        }
    }

    /// Receives what comes before this time. Files that get their names meanwhile are told of.
    fn receive(&mut self, rooms: &mut [IoSliceMut<'_>], until: Instant, tools: &mut Tools<'_>) -> Result<Read, Stop> {
        self.flush();
        loop {
            let error = match self.stream.read(rooms) {
                Ok(0) => return Ok(Read::Lost(Lost::End)),
                Ok(n) => {
                    tools.silence.hear();
                    return Ok(Read::Bytes(n));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            match Io::from(error) {
                Io::WouldBlock => {
                    let before = clock::now();
                    if before >= until {
                        return Ok(Read::Lost(Lost::Silence));
                    }
                    tools.waits.wait(Some(until))?;
                    // Not what lies behind that time: then we were stopped (SIGSTOP), and the server was not waited for.
                    self.waited += clock::now().min(until).saturating_duration_since(before);
                    tools.collect()?;
                    self.flush();
                }
                _ => return Ok(Read::Lost(Lost::Reset)),
            }
        }
    }
}
