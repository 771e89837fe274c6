//! Replies that are never read, and peers that are gone: the server counts them until the kernel has nothing of theirs,
//! logs only what was sent, and leaves nothing behind.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::process::Signal;

use crate::harness::wire::{ask, dial, dial_slowly, read_to_end, refusal, request};
use crate::harness::wire2::{Get, Peer};
use crate::harness::{Scratch, Server, cores, logfile, serve, wait_for};

/// As much as the kernel takes at once for a reader that does not read.
const SIZE: usize = 1_000_000;

/// A line of /proc/net/tcp (proc_net_tcp.txt in the kernel's documentation).
#[derive(Debug)]
struct Socket {
    peer: u16,
    /// Bytes that are not acknowledged, sent or not.
    unacknowledged: u64,
    /// 2 is the timer of keep-alive, with the hundredths of a second until it fires.
    timer: (u8, u64),
    /// 0 when no process has it any more.
    inode: u64,
}

/// The server's sockets, but for the listener.
fn sockets(server: SocketAddr) -> Vec<Socket> {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let pair = |text: &str| text.split_once(':').map(|(left, right)| (hex(left), hex(right))).unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|fields| pair(fields[1]).1 == u64::from(server.port()) && pair(fields[2]).1 != 0);
    ours.map(|fields| {
        let (timer, when) = pair(fields[5]);
        let (peer, inode) = (pair(fields[2]).1 as u16, fields[9].parse().unwrap());
        Socket { peer, unacknowledged: pair(fields[4]).0, timer: (timer as u8, when), inode }
    })
    .collect()
}

/// Bytes that the kernel has for peers whose connections the server has closed.
fn left_behind(server: SocketAddr) -> u64 {
    sockets(server).iter().filter(|socket| socket.inode == 0).map(|socket| socket.unacknowledged).sum()
}

/// The ways to ask for a file and never read it.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Version1,
    /// And says that nothing more will be asked.
    Version2Once,
    /// And may ask again.
    Version2,
}

impl Asks {
    const ALL: [Asks; 3] = [Asks::Version1, Asks::Version2Once, Asks::Version2];

    /// Asks for `big`, and waits until the kernel has taken all of it.
    fn unread(self, server: &Server) -> TcpStream {
        let mut stream = dial_slowly(server.addr);
        let address = stream.local_addr().unwrap();
        match self {
            Asks::Version1 => stream.write_all(&request(b"big")).unwrap(),
            _ => stream.write_all(&Get::of("big").bytes()).unwrap(),
        }
        if !matches!(self, Asks::Version2) {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        server.wait_for_log(&format!("sent 'big' ({SIZE} bytes) to {address}"));
        stream
    }
}

fn closings(server: &Server) -> usize {
    server.log().matches("closed 127.0.0.1:").count()
}

/// Each costs more than a megabyte of the kernel's memory: as long as that is so, it is one of those that its address has.
#[test]
fn a_connection_counts_until_its_peer_has_the_reply() {
    for asks in [Asks::Version1, Asks::Version2Once] {
        let scratch = Scratch::new();
        scratch.share("big", &vec![b'x'; SIZE]);
        let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "4"]));
        let mut held: Vec<TcpStream> = (0..4).map(|_| asks.unread(&server)).collect();
        assert_eq!(refusal(&ask(server.addr, b"big")), "Too many connections from your address, try again later");
        // The one that was refused closes first, if anybody does.
        server.wait_for_log("reason: too many connections");
        assert_eq!(logfile::reasons(&server.log()), ["too many connections"], "{asks:?}: {}", server.log());
        let mut reply = Vec::new();
        held[0].read_to_end(&mut reply).unwrap();
        assert!(reply.len() > SIZE, "{asks:?}: {} bytes", reply.len());
        server.wait_for_log("reason: complete");
        drop(asks.unread(&server));
        drop(held);
        let log = server.stop().log;
        assert_eq!(logfile::reasons(&log).iter().filter(|reason| *reason == "complete").count(), 1, "{asks:?}: {log}");
    }
}

#[test]
fn a_reply_that_is_never_read_ends_by_the_idle_timeout_and_leaves_nothing() {
    for asks in Asks::ALL {
        let scratch = Scratch::new();
        scratch.share("big", &vec![b'x'; SIZE]);
        let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.5"]));
        let _unread = asks.unread(&server);
        wait_for("the closing line", || closings(&server) == 1);
        assert_eq!(left_behind(server.addr), 0, "{asks:?}: {:#?}", sockets(server.addr));
        assert_eq!(logfile::reasons(&server.stop().log), ["idle timeout"], "{asks:?}");
    }
}

/// With nothing left to do for it, a connection may make room; but what it has not read goes with it.
#[test]
fn who_makes_room_leaves_nothing() {
    let scratch = Scratch::new();
    scratch.share("big", &vec![b'x'; SIZE]);
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "2"]));
    let unread: Vec<TcpStream> = (0..5).map(|_| Asks::Version2.unread(&server)).collect();
    wait_for("three closing lines", || closings(&server) == 3);
    assert_eq!(left_behind(server.addr), 0, "{:#?}", sockets(server.addr));
    drop(unread);
    let reasons = logfile::reasons(&server.stop().log);
    assert_eq!(reasons.iter().filter(|reason| *reason == "closed to make room").count(), 3, "{reasons:?}");
}

#[test]
fn a_server_that_stops_waits_for_unread_replies_for_its_time_and_leaves_nothing() {
    for asks in Asks::ALL {
        for (drain, signals, code) in [("0.5", 1, 0), ("30", 2, 130)] {
            let scratch = Scratch::new();
            scratch.share("big", &vec![b'x'; SIZE]);
            let server = Server::start(serve(&scratch).args(["--drain", drain]));
            let _unread = asks.unread(&server);
            let addr = server.addr;
            server.signal(Signal::TERM);
            server.wait_for_log("; finishing ");
            if signals == 2 {
                server.signal(Signal::TERM);
            }
            let outcome = server.into_running().finish();
            outcome.exits(code);
            assert_eq!(left_behind(addr), 0, "{asks:?}: {:#?}", sockets(addr));
            let expected = if signals == 2 { "shutdown" } else { "drain timeout" };
            assert_eq!(logfile::reasons(&outcome.log), [expected], "{asks:?}: {}", outcome.log);
        }
    }
}

/// The kernel has all of it, and the reader takes several times the idle timeout to get it, in portions smaller than what
/// the kernel would send at a time.
#[test]
fn a_slow_reader_gets_the_end_of_its_reply() {
    let scratch = Scratch::new();
    scratch.share("big", &vec![b'x'; SIZE]);
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "1"]));
    for asks in Asks::ALL {
        let mut stream = asks.unread(&server);
        let (start, mut total, mut block) = (Instant::now(), 0, [0; 5_000]);
        while start.elapsed() < Duration::from_millis(3500) {
            total += stream.read(&mut block).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(total < SIZE, "the reader was to be slow");
        total += read_to_end(&mut stream).len();
        assert!(total > SIZE, "{asks:?}: {total} bytes: {}", server.log());
    }
    server.stop();
}

/// What lay in the server's own memory when the peer cut the connection was not sent.
#[test]
fn the_log_counts_what_the_kernel_took_and_nothing_else() {
    let scratch = Scratch::new();
    let body = [b'x'; 15_000];
    scratch.share("small", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial_slowly(server.addr);
    let asked = 400;
    peer.say(&Get::of("small").bytes().repeat(asked));
    // Until the kernel takes no more.
    let mut before = String::new();
    wait_for("a server that waits for its peer", || {
        std::thread::sleep(Duration::from_millis(200));
        let log = server.log();
        log.contains("sent 'small'") && log == std::mem::replace(&mut before, log.clone())
    });
    server.signal(Signal::STOP);
    // All that the kernel has, and nothing that the server would send when there is room.
    let (mut replies, mut bytes) = (0, 0);
    peer.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut taken = Vec::new();
    let error = peer.stream.read_to_end(&mut taken).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    let mut rest = &taken[..];
    while let Some((head, payload)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let whole = length <= payload.len();
        rest = payload.get(length..).unwrap_or_default();
        match head[0] {
            0x11 => bytes += length.min(payload.len()),
            0x13 => replies += usize::from(whole),
            _ => {}
        }
    }
    assert!(replies > 10 && replies < asked, "{replies} replies, {bytes} bytes");
    sockopt::set_socket_linger(&peer.stream, Some(Duration::ZERO)).unwrap();
    drop(peer);
    server.signal(Signal::CONT);
    server.wait_for_log("reason: reset by peer");
    let log = server.stop().log;
    let expected = format!(": {replies} replies, {bytes} bytes, ");
    assert!(log.contains(&expected), "{expected:?} expected; the log ends with {:?}", log.lines().last());
    assert_eq!(log.matches("sent 'small'").count(), replies, "lines about replies that were sent");
}

/// A peer of version 1 says that it has nothing more to say, is waited for because of a digest, and goes. Nothing that is
/// read tells of it.
#[test]
fn who_has_gone_is_not_waited_for() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    // More than can be hashed while this test waits; nothing goes out for it in the first 8 s.
    scratch.share_sparse("huge", 1 << 40);
    let server = Server::of(&scratch);
    let mut stream = dial(server.addr);
    stream.write_all(&request(b"huge")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wait_for("its digest job", || {
        server.signal(Signal::USR1);
        server.log().contains("sent, 1 digest job, up")
    });
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let start = Instant::now();
    server.wait_for_log("reason: reset by peer");
    assert!(start.elapsed() < Duration::from_secs(4), "only after {:?}", start.elapsed());
    server.stop();
}

/// A peer that has closed says so only when it is asked, and one that was switched off never.
#[test]
fn the_kernel_asks_silent_peers_whether_they_are_there() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let stream = dial(server.addr);
    let port = stream.local_addr().unwrap().port();
    server.wait_for_log("connection from ");
    let sockets = sockets(server.addr);
    let socket = sockets.iter().find(|socket| socket.peer == port).unwrap_or_else(|| panic!("{port}: {sockets:#?}"));
    assert!(socket.timer.0 == 2 && socket.timer.1 <= 1000, "no question within 10 s: {socket:?}");
    drop(stream);
    server.stop();
}
