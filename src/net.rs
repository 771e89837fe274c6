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

    fn finish(&mut self) {
        // The peer may be gone already; then there is nobody to tell.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {
        let _ = sockopt::set_socket_linger(self.as_fd(), Some(Duration::ZERO));
    }
}

/// Listens on an address with a backlog of our choice: mio's own is short.
///
/// An unspecified IPv6 address accepts IPv4 as well. The accepted sockets inherit the bound on unsent bytes.
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
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
