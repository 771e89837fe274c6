//! A crowd of strangers of one kind, in one thread.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use crate::harness::wire2::Get;

/// How often each of them gets a chance to do something.
pub const TURN: Duration = Duration::from_millis(50);

/// Between two bytes of one that sends slowly.
const BYTE_EVERY: Duration = Duration::from_secs(1);

/// Connections that are opened and reset in a turn, and connections that are made anew in one: the bound of a storm.
const STORM_A_TURN: usize = 25;

/// What the kernel takes in for one that never reads.
const RECEIVE_BUFFER: usize = 4096;

/// Addresses of the loopback that they come from, in turn.
const ADDRESSES: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends its request at a byte a second.
    Slow,
    /// Asks for the whole file and reads nothing of it.
    Deaf,
    /// Sends half a request and then nothing.
    Half,
    /// Sends nothing at all.
    Silent,
    /// Sends request after request and reads no reply.
    Pipelines,
    /// Connects and resets, again and again.
    Storm,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Slow, Kind::Deaf, Kind::Half, Kind::Silent, Kind::Pipelines, Kind::Storm];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Slow => "slow",
            Kind::Deaf => "deaf",
            Kind::Half => "half",
            Kind::Silent => "silent",
            Kind::Pipelines => "pipelines",
            Kind::Storm => "storm",
        }
    }

    pub fn fault(self) -> &'static str {
        match self {
            Kind::Slow => "a request sent at one byte a second",
            Kind::Deaf => "a file requested, and never read",
            Kind::Half => "an incomplete request",
            Kind::Silent => "no request",
            Kind::Pipelines => "endless requests, no reply read",
            Kind::Storm => "opened and reset, 500 a second",
        }
    }
}

struct Stranger {
    stream: TcpStream,
    /// Bytes of its request that it has sent, modulo the request.
    sent: usize,
    next: Instant,
}

pub struct Crowd {
    kind: Kind,
    addr: SocketAddr,
    request: Vec<u8>,
    strangers: Vec<Stranger>,
    wanted: usize,
    opened: u64,
}

impl Crowd {
    /// As many as asked for, all connected.
    pub fn gather(kind: Kind, addr: SocketAddr, wanted: usize) -> Crowd {
        let request = Get::of("a").bytes();
        let mut crowd = Crowd { kind, addr, request, strangers: Vec::new(), wanted, opened: 0 };
        if kind != Kind::Storm {
            (0..wanted).for_each(|_| crowd.join());
        }
        crowd
    }

    /// How many connections there have been.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Lets each do what it does; who was thrown out comes again.
    pub fn turn(&mut self) {
        if self.kind == Kind::Storm {
            return (0..STORM_A_TURN).for_each(|_| self.gust());
        }
        self.drop_closed();
        let missing = self.wanted - self.strangers.len();
        (0..missing.min(STORM_A_TURN)).for_each(|_| self.join());
        let now = Instant::now();
        for stranger in self.strangers.iter_mut().filter(|stranger| stranger.next <= now) {
            speak(self.kind, &self.request, stranger, now);
        }
    }

    fn join(&mut self) {
        let mut stranger = Stranger { stream: self.connect(), sent: 0, next: Instant::now() };
        speak(self.kind, &self.request, &mut stranger, Instant::now());
        self.strangers.push(stranger);
    }

    /// One connection that is reset at once, after half a request every other time.
    fn gust(&mut self) {
        let mut stream = self.connect();
        if self.opened.is_multiple_of(2) {
            let _ = stream.write(&self.request[..self.request.len() / 2]);
        }
        let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }

    fn connect(&mut self) -> TcpStream {
        let which = u8::try_from(self.opened as usize % ADDRESSES).unwrap_or(0);
        self.opened += 1;
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor for a stranger");
        if self.kind == Kind::Deaf || self.kind == Kind::Pipelines {
            sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER).expect("a small buffer");
        }
        bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(127, 1, which, 1), 0)).expect("an address of the loopback");
        connect(&fd, &self.addr).expect("a server that takes connections");
        let stream = TcpStream::from(fd);
        stream.set_nonblocking(true).expect("a stranger that does not wait");
        stream
    }

    fn drop_closed(&mut self) {
        let mut polled: Vec<_> =
            self.strangers.iter().map(|stranger| PollFd::new(&stranger.stream, PollFlags::RDHUP)).collect();
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("memory for a poll");
        let mut closed = polled.into_iter().map(|polled| !polled.revents().is_empty()).collect::<Vec<_>>().into_iter();
        self.strangers.retain(|_| !closed.next().unwrap_or(false));
    }
}

/// Sends what is due.
fn speak(kind: Kind, request: &[u8], stranger: &mut Stranger, now: Instant) {
    let due = match kind {
        Kind::Slow => &request[stranger.sent..(stranger.sent + 1).min(request.len())],
        Kind::Deaf => &request[stranger.sent..],
        Kind::Half => &request[stranger.sent..request.len() / 2],
        Kind::Silent | Kind::Storm => &[],
        Kind::Pipelines => &request[stranger.sent..],
    };
    match (&stranger.stream).write(due) {
        Ok(count) => stranger.sent += count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        // Thrown out: the next turn sees it.
        Err(_) => {}
    }
    if kind == Kind::Pipelines && stranger.sent == request.len() {
        stranger.sent = 0;
    }
    stranger.next = if kind == Kind::Pipelines { now } else { now + BYTE_EVERY };
}
