//! Digests for many addresses: none waits for all the jobs of another, and nobody's jobs outlive who asked for them.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::Signal;

use crate::harness::wire::{dial, dial_from, read_head, request};
use crate::harness::wire2::{Frame, Get, Peer};
use crate::harness::{Scratch, Server, content, cores, md5_hex, process, wait_for};

/// Another address than that of `dial`, which is 127.0.0.1.
const STRANGER: u8 = 2;

const CROWD: usize = 100;
const SMALL: u64 = 300_000;

/// What each of the crowd asks for: together 1.8 GB to hash.
const REQUESTS: usize = 60;

/// A crowd of connections of one address, each of which asks again and again to hash a file of its own again.
fn crowd(server: &Server) -> Vec<Peer> {
    let crowd: Vec<Peer> = (0..CROWD).map(|number| crowd_peer(number, server.addr)).collect();
    wait_for("the crowd to be served", || digests_sent(server) >= CROWD / 10);
    crowd
}

fn crowd_peer(number: usize, addr: SocketAddr) -> Peer {
    let mut peer = Peer { stream: dial_from(STRANGER, addr, None) };
    peer.say(&Get::of(number.to_string()).digest_only(SMALL).rehashed().bytes().repeat(REQUESTS));
    peer
}

fn digests_sent(server: &Server) -> usize {
    server.log().matches("sent the digest of").count()
}

/// Ends connections so that the server sees nobody wait: a plain close could mean that nothing more will be asked.
fn cut(peers: Vec<Peer>) {
    peers.iter().for_each(|peer| sockopt::set_socket_linger(&peer.stream, Some(Duration::ZERO)).unwrap());
}

/// A hundred connections of one address have 1.8 GB hashed again; beside them, somebody else's 32 MB take as many bytes of
/// them, and not all.
#[test]
fn an_address_does_not_starve_the_digests_of_others() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let body = content(1, 32_000_000);
    scratch.share("honest", &body);
    (0..CROWD).for_each(|number| drop(scratch.share_sparse(&number.to_string(), SMALL)));
    for speaks_v2 in [false, true] {
        let server = Server::of(&scratch);
        let crowd = crowd(&server);
        let before = digests_sent(&server);
        if speaks_v2 {
            let mut honest = Peer::dial(server.addr);
            honest.ask(&Get::of("honest").digest_only(32_000_000).rehashed());
            honest.file();
            while !matches!(honest.frame().unwrap(), Frame::Digest(_)) {}
        } else {
            let mut honest = dial(server.addr);
            honest.write_all(&request(b"honest")).unwrap();
            assert_eq!(read_head(&mut honest).digest, md5_hex(&body));
        }
        // About 107 for the bytes alone, and some more until the log was read.
        let meanwhile = digests_sent(&server) - before;
        assert!(meanwhile < CROWD * REQUESTS / 2, "{meanwhile} others, of {}, were first", CROWD * REQUESTS);
        cut(crowd);
        server.into_running();
    }
}

/// A request of some bytes does not have 8 TB hashed for nobody.
#[test]
fn a_huge_file_is_not_hashed_for_nobody() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("huge", 8 << 40);
    scratch.share("small", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    peer.ask(&Get::of("huge").digest_only(8 << 40));
    peer.file();
    wait_for("it to be hashed", || process::user_time(server.pid()) > Duration::from_millis(100));
    cut(vec![peer]);
    server.wait_for_log("reason: reset by peer");
    server.signal(Signal::USR1);
    server.wait_for_log("0 digest jobs");
    Peer::dial(server.addr).get(&Get::of("small")).assert_brings(b"fine");
    server.stop();
}
