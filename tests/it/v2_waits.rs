//! Digests of version 2: the bytes do not wait for them, who must wait is told so, and many wait for one.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::content::hex;
use crate::harness::wire2::{Frame, Get, Peer};
use crate::harness::{Scratch, Server, cores, process, wait_for};

const GIB: u64 = 1 << 30;

/// MD5 of a GiB of zeros.
const ZEROS: &str = "cd573cfaace07e7949bc0c46028904ff";

/// A MiB of a file comes, all of it zeros; more may follow.
fn read_some(peer: &mut Peer) -> u64 {
    let mut read = 0;
    while read < 1 << 20 {
        match peer.frame() {
            Some(Frame::Data(bytes)) => {
                assert!(bytes.iter().all(|byte| *byte == 0));
                read += bytes.len() as u64;
            }
            other => panic!("DATA expected, got {other:?}"),
        }
    }
    read
}

/// All that comes until the digest: how often WAIT, which must tell of progress, and bytes of the file.
fn read_to_digest(peer: &mut Peer) -> (Vec<u64>, u64, String) {
    let (mut waits, mut bytes) = (Vec::new(), 0);
    loop {
        match peer.frame() {
            Some(Frame::Data(data)) => bytes += data.len() as u64,
            Some(Frame::Wait(done, total)) => {
                assert!(total == GIB && done <= total, "{done} of {total}");
                waits.push(done);
            }
            Some(Frame::Digest(digest)) => return (waits, bytes, hex(&digest)),
            other => panic!("after {bytes} bytes and {waits:?}: {other:?}"),
        }
    }
}

/// A MiB is here before the digest can be known; and the digest comes, to this client and to one that waits for it.
#[test]
fn the_bytes_do_not_wait_for_the_digest() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", GIB);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    peer.ask(&Get::of("big"));
    let file = peer.file();
    assert!(file.size == GIB && file.digest.is_empty(), "{file:?}");
    let read = read_some(&mut peer);
    // Nobody else has asked: had the server hashed first, the digest would be known by now.
    let mut waiter = Peer::dial(server.addr);
    waiter.ask(&Get::of("big").digest_only(GIB));
    let file = waiter.file();
    assert!(file.digest.is_empty(), "a MiB has come, and the digest of a GiB is there: {file:?}");
    let (waits, bytes, digest) = read_to_digest(&mut waiter);
    assert_eq!((bytes, digest.as_str()), (0, ZEROS));
    assert!(!waits.is_empty(), "a GiB cannot be hashed within a second: a WAIT was due");
    assert!(waits.is_sorted() && waits.first() < Some(&GIB), "{waits:?}");
    let (_, bytes, digest) = read_to_digest(&mut peer);
    assert_eq!((read + bytes, digest.as_str()), (GIB, ZEROS));
    drop((peer, waiter));
    server.stop_content();
}

/// WAIT tells of progress while there is some: it is what keeps a client from giving up.
#[test]
fn waits_grow() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", 20 * GIB);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    peer.ask(&Get::of("big").digest_only(20 * GIB));
    peer.file();
    let waits: Vec<u64> = (0..3)
        .map(|_| match peer.frame() {
            Some(Frame::Wait(done, total)) if total == 20 * GIB => done,
            other => panic!("WAIT of {} expected, got {other:?}", 20 * GIB),
        })
        .collect();
    assert!(waits.is_sorted_by(|before, after| before < after), "{waits:?}");
    server.into_running();
}

/// The line that SIGUSR1 prints counts the jobs.
#[test]
fn forty_clients_of_a_file_are_one_job() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", 20 * GIB);
    let server = Server::of(&scratch);
    let mut peers: Vec<Peer> = (0..40).map(|_| Peer::dial(server.addr)).collect();
    peers.iter_mut().for_each(|peer| peer.ask(&Get::of("big").digest_only(20 * GIB)));
    peers.iter_mut().for_each(|peer| assert!(peer.file().digest.is_empty()));
    server.signal(Signal::USR1);
    server.wait_for_log("1 digest job");
    assert!(!server.log().contains("1 digest jobs") && !server.log().contains("0 digest jobs"), "{}", server.log());
    server.into_running();
}

/// Twenty small files asked for at once by forty clients: all are hashed, and all answered rightly.
#[test]
fn many_clients_of_many_files() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let bodies: Vec<Vec<u8>> = (0..20).map(|seed| crate::harness::content(seed, 150_000)).collect();
    for (number, body) in bodies.iter().enumerate() {
        scratch.share(number.to_string(), body);
    }
    let server = Server::of(&scratch);
    let gets: Vec<Get> = (0..20).map(|number| Get::of(number.to_string()).with(1 + (number % 2) as u8)).collect();
    let mut peers: Vec<Peer> = (0..40).map(|_| Peer::dial(server.addr)).collect();
    for (shift, peer) in peers.iter_mut().enumerate() {
        (0..20).for_each(|number| peer.ask(&gets[(number + shift) % 20]));
    }
    for (shift, peer) in peers.iter_mut().enumerate() {
        for number in 0..20 {
            let number = (number + shift) % 20;
            peer.reply(&gets[number]).assert_brings(&bodies[number]);
        }
    }
    assert_eq!(process::threads(server.pid()), 1);
    drop(peers);
    server.stop_content();
}

/// A client that waits for a digest and goes away leaves nothing behind that keeps the server busy.
#[test]
fn who_goes_away_is_not_waited_for() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    for number in 0..12 {
        scratch.share_sparse(&number.to_string(), 20 * GIB);
    }
    scratch.share("small", b"fine");
    let server = Server::of(&scratch);
    let mut peers: Vec<Peer> = (0..12).map(|_| Peer::dial(server.addr)).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.ask(&Get::of(number.to_string()).digest_only(20 * GIB));
        peer.file();
    }
    for peer in &peers {
        // A plain close could as well mean that nothing more will be asked.
        rustix::net::sockopt::set_socket_linger(&peer.stream, Some(Duration::ZERO)).unwrap();
    }
    drop(peers);
    wait_for("the connections to close", || server.log().matches("reason: ").count() == 12);
    Peer::dial(server.addr).get(&Get::of("small")).assert_brings(b"fine");
    // Beyond eight, jobs that nobody waits for are dropped.
    wait_for("the files of dropped jobs to be closed", || process::open_files(server.pid()) < 24);
    server.stop();
}
