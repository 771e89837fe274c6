//! Hostile peers, each kind beside a client that fetches a file: it gets it whole, the server lives and stays small, and
//! every one of them is closed with its reason.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::wire::{SLOW_BUFFER, dial_from, dial_slowly, drain, read_head, request};
use crate::harness::wire2::{Get, Peer, header};
use crate::harness::{Scratch, Server, content, get, logfile, process, serve, wait_for};

/// More than the kernel takes in for a reader that does not read.
const BIG: u64 = 50_000_000;

/// Hostile connections of a kind at a time.
const CROWD: usize = 40;

/// What a crowd may add to the memory of the server. What is kept for one of them is at most 48 KiB of replies and a
/// request of 4 KiB; the rest is for what the memory allocator keeps.
const GROWTH_MAX_KIB: u64 = CROWD as u64 * (48 + 4) + 2048;

/// Where the hostile ones come from, as `dial_from` counts.
const STRANGER: u8 = 2;

/// A server, a file to fetch from it, and what it was like before anybody hostile came.
struct Scene {
    scratch: Scratch,
    body: Vec<u8>,
    server: Server,
    peak_kib: u64,
    open_files: usize,
}

impl Scene {
    fn new(args: &[&str]) -> Scene {
        let scratch = Scratch::new();
        let body = content(5, 8_000_000);
        scratch.share("good", &body);
        scratch.share("small", &content(6, 3000));
        scratch.share_sparse("big", BIG);
        let server = Server::start(serve(&scratch).args(args));
        get(&scratch, server.addr).args(["good", "small"]).run().exits(0);
        fs::remove_file(scratch.path("client.log")).unwrap();
        // A kept descriptor of a file is none that leaks: 5 s after its last use it is closed.
        let open_files = process::open_files(server.pid());
        let peak_kib = process::peak_resident_kib(server.pid());
        Scene { scratch, body, server, peak_kib, open_files }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// The same transfer as ever, in one attempt.
    fn assert_serves(&self) {
        let outcome = get(&self.scratch, self.addr()).args(["--force", "good"]).run();
        outcome.exits(0).stderr_has("verified").made_attempts(1);
        assert_eq!(fs::read(self.scratch.path("out/good")).unwrap(), self.body);
        fs::remove_file(self.scratch.path("client.log")).unwrap();
    }

    /// Waits for the server to close as many for this reason, and for its descriptors; looks at its memory.
    fn assert_closes(&self, count: usize, reason: &str) {
        let reason = format!("reason: {reason}\n");
        wait_for(&format!("{count} times {reason:?}"), || self.server.log().matches(&reason).count() == count);
        wait_for("the descriptors to be closed", || process::open_files(self.server.pid()) <= self.open_files);
        let grown = process::peak_resident_kib(self.server.pid()).saturating_sub(self.peak_kib);
        assert!(grown <= GROWTH_MAX_KIB, "{grown} KiB more than before, {GROWTH_MAX_KIB} KiB are allowed");
        self.assert_serves();
    }
}

/// Says a byte, and is out of the way when nobody listens any more.
fn trickle(stream: &mut TcpStream) {
    let _ = stream.write_all(b"x");
}

#[test]
fn requests_byte_by_byte() {
    let scene = Scene::new(&["--request-timeout", "1"]);
    // Names so long that no trickling completes them in time.
    let half = [&4096_u32.to_be_bytes()[..], &header(1, 28 + 4096)];
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial_from(STRANGER, scene.addr(), None)).collect();
    crowd.iter_mut().enumerate().for_each(|(n, stream)| stream.write_all(half[n % 2]).unwrap());
    scene.assert_serves();
    wait_for("all of them to be closed, whatever they say", || {
        crowd.iter_mut().for_each(trickle);
        scene.server.log().matches("reason: request timeout").count() == CROWD
    });
    drop(crowd);
    scene.assert_closes(CROWD, "request timeout");
    scene.server.stop_blaming_peers();
}

#[test]
fn half_open_connections_from_one_address() {
    let scene = Scene::new(&["--request-timeout", "1"]);
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial_from(STRANGER, scene.addr(), None)).collect();
    scene.assert_serves();
    scene.assert_closes(CROWD, "request timeout");
    drop(crowd);
    scene.server.stop_blaming_peers();
}

/// In both versions, half of them before they have read anything and half in the middle of a file.
#[test]
fn readers_that_never_read() {
    let scene = Scene::new(&["--idle-timeout", "1"]);
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial_from(STRANGER, scene.addr(), Some(SLOW_BUFFER))).collect();
    let asked = [request(b"big"), Get::of("big").bytes()];
    crowd.iter_mut().enumerate().for_each(|(n, stream)| stream.write_all(&asked[n % 2]).unwrap());
    crowd.iter_mut().step_by(4).for_each(|stream| drop(read_head(stream)));
    scene.assert_serves();
    scene.assert_closes(CROWD, "idle timeout");
    drop(crowd);
    scene.server.stop_blaming_peers();
}

/// Each goes on asking for as long as anything is taken from it.
#[test]
fn requests_without_end_and_no_reading() {
    let scene = Scene::new(&["--idle-timeout", "1"]);
    let count = CROWD / 4;
    let mut crowd: Vec<TcpStream> = (0..count).map(|_| dial_from(STRANGER, scene.addr(), Some(SLOW_BUFFER))).collect();
    crowd.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    scene.assert_serves();
    let many = Get::of("small").bytes().repeat(100);
    let mut said = 0;
    wait_for("all of them to be closed, whatever they ask", || {
        for stream in &mut crowd {
            while let Ok(bytes @ 1..) = stream.write(&many) {
                said += bytes;
            }
        }
        scene.server.log().matches("reason: idle timeout").count() == count
    });
    // What the kernel takes in for the server, and what was answered before the way back was full.
    let most = count << 23;
    assert!(said < most, "{said} bytes of requests were taken of those who read no reply");
    drop(crowd);
    scene.assert_closes(count, "idle timeout");
    scene.server.stop_blaming_peers();
}

#[test]
fn connections_opened_and_reset_in_a_storm() {
    let scene = Scene::new(&[]);
    let storm = |rounds: usize| {
        for n in 0..rounds {
            let mut stream = dial_from(STRANGER, scene.addr(), None);
            match n % 3 {
                0 => {}
                1 => stream.write_all(b"\0\0").unwrap(),
                _ => stream.write_all(&Get::of("big").bytes()).unwrap(),
            }
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| storm(600));
        scene.assert_serves();
        stranger.join().unwrap();
    });
    // Those that were cut before they were accepted are seen by nobody, or closed by the first look.
    wait_for("all that were accepted to be closed", || {
        let log = scene.server.log();
        log.matches("connection from ").count() == log.matches("reason: ").count()
    });
    scene.assert_closes(0, "idle timeout");
    let log = scene.server.stop_blaming_peers().log;
    let known = ["reset by peer", "complete", "peer closed"];
    assert!(logfile::reasons(&log).iter().all(|reason| known.contains(&&reason[..])), "{log}");
}

/// The rows of /proc/net/tcp of sockets of the server's port towards this peer: state, and bytes queued to be sent.
fn sockets_towards(peer: SocketAddr, server: SocketAddr) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (from, to) = (format!(":{:04X}", server.port()), format!(":{:04X}", peer.port()));
    let fields = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|fields| fields[1].ends_with(&from) && fields[2].ends_with(&to));
    ours.map(|fields| fields[3..5].join(" ")).collect()
}

/// A reader whose window is shut costs nothing any more after its time: no descriptor, and no socket in the kernel that
/// goes on trying to send what is queued.
#[test]
fn a_shut_window_is_reset_and_nothing_of_it_stays() {
    for asked in [request(b"big"), Get::of("big").bytes()] {
        let scene = Scene::new(&["--idle-timeout", "0.5"]);
        let mut stream = dial_slowly(scene.addr());
        let peer = stream.local_addr().unwrap();
        stream.write_all(&asked).unwrap();
        wait_for("bytes that wait for the reader", || {
            sockets_towards(peer, scene.addr()).iter().any(|row| row.starts_with("01 ") && !row.contains(" 00000000:"))
        });
        scene.server.wait_for_log("reason: idle timeout");
        assert_eq!(sockets_towards(peer, scene.addr()), [""; 0], "nothing is left in the kernel");
        scene.assert_closes(1, "idle timeout");
        // What has reached it is there, and then a reset.
        let mut block = vec![0; 1 << 20];
        let error = loop {
            match stream.read(&mut block) {
                Ok(0) => panic!("an orderly end of a file that was cut"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        scene.server.stop_blaming_peers();
    }
}

/// What a peer does not read is not handed to the kernel, where it would stay when the connection has long ended: a file
/// that might fit there is not sent, and whoever does not take it is reset like everybody.
#[test]
fn the_kernel_keeps_little_for_those_who_do_not_read() {
    let scene = Scene::new(&["--idle-timeout", "1"]);
    scene.scratch.share_sparse("medium", 3_500_000);
    for (n, asked) in [request(b"medium"), Get::of("medium").bytes()].into_iter().enumerate() {
        let mut stream = dial_slowly(scene.addr());
        let peer = stream.local_addr().unwrap();
        stream.write_all(&asked).unwrap();
        let mut most = 0;
        wait_for("it to be cut", || {
            let rows = sockets_towards(peer, scene.addr());
            let queued = rows.iter().map(|row| u64::from_str_radix(&row[3..11], 16).unwrap());
            most = queued.max().unwrap_or(0).max(most);
            scene.server.log().matches("reason: idle timeout").count() == n + 1
        });
        // The limit, a piece beyond it, and what was under way.
        assert!((1..=2 * 1024 * 1024).contains(&most), "{most} bytes are queued");
        assert_eq!(sockets_towards(peer, scene.addr()), [""; 0]);
    }
    scene.assert_closes(2, "idle timeout");
    scene.server.stop_blaming_peers();
}

/// Nobody's peer is cut because others are hostile: a reader that pauses goes on in the middle of all kinds of them.
#[test]
fn a_slow_reader_among_hostile_peers_gets_it_all() {
    let scene = Scene::new(&["--request-timeout", "1", "--idle-timeout", "3"]);
    let mut reader = Peer::dial_slowly(scene.addr());
    let get = Get::of("big");
    reader.ask(&get);
    let file = reader.file();
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial_from(STRANGER, scene.addr(), Some(SLOW_BUFFER))).collect();
    let asked = [Vec::new(), request(b"big"), get.bytes().repeat(50), b"\0\0\0\x20".to_vec()];
    crowd.iter_mut().enumerate().for_each(|(n, stream)| stream.write_all(&asked[n % 4]).unwrap());
    scene.server.wait_for_log("reason: request timeout");
    assert_eq!(reader.rest(&get, file).body.len() as u64, BIG);
    scene.assert_closes(CROWD / 2, "idle timeout");
    for stream in &mut crowd {
        assert!(drain(stream) < BIG);
    }
    drop((reader, crowd));
    scene.server.stop_blaming_peers();
}
