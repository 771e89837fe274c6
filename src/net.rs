//! A connection's bytes: read, write and send a file, each done, not yet, or closed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::sendfile;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use socket2::SockRef;

use crate::file::ServedFile;

/// Bytes that the kernel takes from us before they are under way to the peer. Without a bound it takes 4 MB (tcp_wmem) for
/// each that does not read: 680 such connections, open or closed, then have all the memory that TCP may use on a machine
/// with 24 GB, and stop everybody. A quarter of that is what one turn sends; with less, fast readers are woken more often.
/// (Cloudflare: 128 KiB.)
const UNSENT_MAX: u32 = 1024 * 1024;

/// Unsent bytes that [`Transport::flush`] can tell apart at most: [`UNSENT_MAX`] and the segment that went beyond it.
const UNSENT_SEEN_MAX: u32 = 2 * UNSENT_MAX;

/// Half of the receive buffer of a connection: the kernel doubles what it is told. Otherwise the buffer of a peer that
/// sends requests ahead over 100 ms grows to 32 MiB (tcp_rmem). 256 KiB hold more than 2000 requests.
const RECEIVE_BUFFER_HALF: usize = 128 * 1024;

/// When the kernel asks a silent peer whether it is still there, how often, and how many times in vain. A peer that has
/// closed looks like one that has only said all that it had to say, until something is sent to it: its kernel answers the
/// first question after the minute for which it remembers the connection (tcp_fin_timeout) with a reset.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 5;

/// Milliseconds for which the kernel repeats the end of a connection that was closed to a peer that does not acknowledge
/// it. It is not set before the end: a reader slower than its own receive buffer, whose window never opens for a whole
/// segment of 64 KiB, is then cut although it reads. (Measured: after 7.5 s of a limit of 4 s, having read 60 KB/s.)
const LAST_ACK_TIMEOUT: u32 = 60_000;

/// What a call on a transport came to.
#[derive(Debug)]
pub enum Io {
    /// This many bytes went through; more may follow at once.
    Done(usize),
    /// Nothing goes now; an edge will tell when it does.
    WouldBlock,
    /// Nothing will go any more.
    Closed(Closed),
}

/// Why nothing goes through any more.
#[derive(Debug)]
pub enum Closed {
    /// The peer has sent all that it wanted to send.
    EndOfInput,
    /// The peer, or somebody on the way, has cut the connection.
    Reset,
    /// Something else, such as a read error of the file that was to be sent.
    Failed(io::Error),
}

impl From<io::Error> for Io {
    fn from(error: io::Error) -> Io {
        use io::ErrorKind::*;
        match error.kind() {
            WouldBlock => Io::WouldBlock,
            // The last four: nobody answers any more, by the kernel's own time limits or a router's word.
            ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | TimedOut | HostUnreachable
            | NetworkUnreachable | NetworkDown => Io::Closed(Closed::Reset),
            _ => Io::Closed(Closed::Failed(error)),
        }
    }
}

/// What became of the bytes that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The peer has them all: the kernel holds nothing that a close would leave behind.
    Done,
    /// So many are unsent, as far as that can be told; with 0, some are not acknowledged. An edge will tell when the peer
    /// has them all.
    Left(u32),
    /// The connection is cut, and nobody has them.
    Cut,
}

/// A non-blocking, ordered stream of bytes in both directions.
pub trait Transport {
    /// Reads what has arrived.
    fn read(&mut self, buffer: &mut [u8]) -> Io;
    /// Writes what fits.
    fn write(&mut self, bytes: &[u8]) -> Io;
    /// Writes what fits, to share a segment with what the caller sends right behind it. Alone, it may be held back.
    fn write_more(&mut self, bytes: &[u8]) -> Io;
    /// Sends up to `count` bytes of a file from `offset` on; `Done(0)` says that the file ends before it.
    fn send_file(&mut self, file: &ServedFile, offset: u64, count: usize) -> Io;
    /// Looks what the peer has of what was written, after which nothing more will be.
    fn flush(&mut self) -> Flush;
    /// Whether the connection is cut. Behind the end of input, reading does not tell.
    fn is_cut(&mut self) -> bool;
    /// Says that nothing more will be written.
    fn finish(&mut self);
    /// Makes the closing a reset, so that no byte still unsent keeps memory or a descriptor.
    fn abort(&mut self);
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Transport for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> Io {
        match uninterrupted(|| Read::read(self, buffer)) {
            Ok(0) => Io::Closed(Closed::EndOfInput),
            Ok(n) => Io::Done(n),
            Err(error) => error.into(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Io {
        match uninterrupted(|| Write::write(self, bytes)) {
            Ok(n) => Io::Done(n),
            Err(error) => error.into(),
        }
    }

    fn write_more(&mut self, bytes: &[u8]) -> Io {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        match uninterrupted(|| self.try_io(|| Ok(rustix::net::send(self.as_fd(), bytes, flags)?))) {
            Ok(n) => Io::Done(n),
            Err(error) => error.into(),
        }
    }

    fn send_file(&mut self, file: &ServedFile, offset: u64, count: usize) -> Io {
        let sent = uninterrupted(|| {
            let mut offset = offset;
            self.try_io(|| Ok(sendfile(self.as_fd(), file, Some(&mut offset), count)?))
        });
        match sent {
            Ok(n) => Io::Done(n),
            Err(error) => error.into(),
        }
    }

    /// No call in safe Rust asks the kernel how much it holds, but it says when a socket is writable: when less than half
    /// of TCP_NOTSENT_LOWAT is unsent, and what is unsent or unacknowledged fills less than two thirds of the send buffer.
    /// So the first is made as small as it can be, and then the second.
    fn flush(&mut self) -> Flush {
        let mut left = 0;
        let mut sent = has_sent_all_but(self, 0);
        if sent == Writable::No {
            left = unsent(self);
            // Now the edge to come is that of the last byte.
            sent = has_sent_all_but(self, 0);
        }
        if sent == Writable::Yes {
            // The kernel makes it the least that there is, 4.5 KiB: a segment or two that are not acknowledged.
            let _ = sockopt::set_socket_send_buffer_size(self.as_fd(), 0);
            (left, sent) = (0, writable(self));
        }
        match sent {
            Writable::Yes => {
                let _ = sockopt::set_tcp_user_timeout(self.as_fd(), LAST_ACK_TIMEOUT);
                Flush::Done
            }
            Writable::No => Flush::Left(left),
            Writable::Cut => Flush::Cut,
        }
    }

    fn is_cut(&mut self) -> bool {
        writable(self) == Writable::Cut
    }

    fn finish(&mut self) {
        // The peer may be gone already; then there is nobody to tell.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {
        let _ = sockopt::set_socket_linger(self.as_fd(), Some(Duration::ZERO));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writable {
    Yes,
    No,
    Cut,
}

/// Whether a socket is writable now. If not, the kernel is to tell when it is, which it does after poll(2) has said no.
fn writable(stream: &TcpStream) -> Writable {
    let mut poll = [PollFd::new(stream, PollFlags::OUT)];
    match uninterrupted(|| Ok(rustix::event::poll(&mut poll, Some(&Timespec::default()))?)) {
        Ok(_) => match poll[0].revents() {
            events if events.intersects(PollFlags::ERR | PollFlags::HUP) => Writable::Cut,
            events if events.contains(PollFlags::OUT) => Writable::Yes,
            _ => Writable::No,
        },
        // Out of memory: to be asked again.
        Err(_) => Writable::No,
    }
}

/// Whether at most so many bytes are unsent. No as well while two thirds of the send buffer are in use.
fn has_sent_all_but(stream: &TcpStream, most: u32) -> Writable {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(2 * most + 1);
    writable(stream)
}

/// How many bytes are unsent; [`UNSENT_SEEN_MAX`] if that cannot be told.
fn unsent(stream: &TcpStream) -> u32 {
    let (mut least, mut most) = (0, UNSENT_SEEN_MAX);
    while least < most {
        let middle = least + (most - least) / 2;
        match has_sent_all_but(stream, middle) {
            Writable::No => least = middle + 1,
            _ => most = middle,
        }
    }
    most
}

/// Prepares a connection that was accepted. What fails is no reason to refuse it.
pub fn prepare(stream: &TcpStream) {
    // Fields of a header go out when they are written; without this only a little later.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_recv_buffer_size(stream, RECEIVE_BUFFER_HALF);
}

/// Listens on an address with a backlog of our choice: mio's own is short.
///
/// An unspecified IPv6 address accepts IPv4 as well. The accepted sockets inherit the bound on unsent bytes, and
/// that the kernel looks whether their peers are still there.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == IpAddr::from([0u16; 8]) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // Where it cannot be had, only such peers cost more.
    let _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_MAX);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEPALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_PAUSE);
    let _ = sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES);
    let _ = sockopt::set_socket_keepalive(&socket, true);
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Whether somebody waits to be accepted, without accepting. What cannot be told counts as nobody: an edge will come.
pub fn has_pending(listener: &TcpListener) -> bool {
    let mut poll = [PollFd::new(listener, PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// An address as people write it: IPv4 as such, also where it came through an IPv6 socket.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // With its zone.
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection as the server has it, and its other end.
    fn connection(buffer: usize) -> (TcpStream, std::net::TcpStream) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 8).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(buffer).expect("it takes any size");
        socket.connect(&address.into()).expect("it listens");
        assert!(has_pending(&listener));
        let (stream, _) = listener.accept().expect("it is connected");
        prepare(&stream);
        (stream, socket.into())
    }

    /// Waits for an edge of a socket, as the reactor does.
    fn wait(poll: &mut mio::Poll) {
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(60))).expect("polling works");
        assert!(!events.is_empty(), "no edge comes");
    }

    #[test]
    fn a_connection_is_bounded_and_looked_after() {
        let (stream, _peer) = connection(65536);
        let of = SockRef::from(&stream);
        assert_eq!(sockopt::socket_recv_buffer_size(&stream).expect("it has one"), 2 * RECEIVE_BUFFER_HALF);
        assert_eq!(of.tcp_notsent_lowat().expect("it has one"), UNSENT_MAX);
        assert_eq!(sockopt::tcp_keepidle(&stream).expect("it has one"), KEEPALIVE_AFTER);
        assert!(sockopt::socket_keepalive(&stream).expect("it has one") && stream.nodelay().expect("it has one"));
        assert_eq!(of.tcp_user_timeout().expect("it has one"), None, "a slow reader is not cut by the kernel");
    }

    /// Writes so much, and registers as the reactor does.
    fn written(stream: &mut TcpStream, size: usize) -> mio::Poll {
        let poll = mio::Poll::new().expect("there is one");
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        poll.registry().register(stream, mio::Token(0), both).expect("it can be polled");
        let mut written = 0;
        while written < size {
            match Transport::write(stream, &vec![b'x'; size - written]) {
                Io::Done(n) => written += n,
                other => panic!("{other:?} after {written} bytes"),
            }
        }
        poll
    }

    #[test]
    fn it_is_known_what_the_peer_has() {
        for size in [1, 100, 3000, 100_000, 900_000] {
            let (mut stream, mut peer) = connection(16384);
            let mut poll = written(&mut stream, size);
            let (mut before, mut got, mut block) = (u32::MAX, 0, vec![0; 20_000]);
            while let Flush::Left(left) = Transport::flush(&mut stream) {
                assert!(left <= before && left as usize <= size - got, "{left} left of {size}, {got} were read");
                assert!(got < size, "{size} bytes were read");
                before = left;
                got += Read::read(&mut peer, &mut block).expect("more comes");
            }
            assert!(size - got < 65536, "{got} bytes of {size} were read, and a small buffer has the others");
            stream.finish();
            got += std::io::copy(&mut peer, &mut std::io::sink()).expect("it ends in order") as usize;
            assert_eq!(got, size);
            wait(&mut poll);
        }
    }

    /// Nobody looks while the peer reads: one edge tells of the last byte.
    #[test]
    fn an_edge_tells_when_the_peer_has_all() {
        let (mut stream, mut peer) = connection(16384);
        let mut poll = written(&mut stream, 900_000);
        assert!(matches!(Transport::flush(&mut stream), Flush::Left(100_000..900_000)));
        let reader = std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()));
        let mut edges = 0;
        while Transport::flush(&mut stream) != Flush::Done {
            wait(&mut poll);
            edges += 1;
        }
        assert!(edges <= 4, "{edges} edges");
        stream.finish();
        assert_eq!(reader.join().expect("it reads").expect("it ends in order"), 900_000);
    }

    #[test]
    fn a_cut_is_seen_behind_the_end_of_input() {
        let (mut stream, peer) = connection(16384);
        let mut poll = written(&mut stream, 900_000);
        peer.shutdown(Shutdown::Write).expect("it is connected");
        while !matches!(Transport::read(&mut stream, &mut [0]), Io::Closed(Closed::EndOfInput)) {
            wait(&mut poll);
        }
        assert!(!stream.is_cut() && matches!(Transport::flush(&mut stream), Flush::Left(_)));
        // With unread input, its close is a reset.
        drop(peer);
        while !stream.is_cut() {
            wait(&mut poll);
        }
        assert!(
            matches!(Transport::read(&mut stream, &mut [0]), Io::Closed(Closed::EndOfInput)),
            "a read tells nothing"
        );
        assert_eq!(Transport::flush(&mut stream), Flush::Cut);
    }
}
