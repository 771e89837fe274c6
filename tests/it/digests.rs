//! Digests on the server: hashed beside everything else, once for all who wait, and right after every change.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::harness::wire::{ask, dial, read_array, read_head, request};
use crate::harness::{Scratch, Server, content, cores, md5_hex, process, wait_for};

/// A connection that has asked and got `OK`: its file is being hashed now.
fn waiter(server: &Server, name: &str) -> TcpStream {
    let mut stream = dial(server.addr);
    stream.write_all(&request(name.as_bytes())).unwrap();
    let status: [u8; 2] = read_array(&mut stream);
    assert_eq!(status, *b"OK");
    stream
}

/// Time on a core from the request to the metadata of all these connections, which then close.
fn cost_of(server: &Server, name: &str, clients: usize) -> Duration {
    let before = process::user_time(server.pid());
    let mut streams: Vec<TcpStream> = (0..clients).map(|_| dial(server.addr)).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&request(name.as_bytes())).unwrap());
    for stream in &mut streams {
        let status: [u8; 2] = read_array(stream);
        assert_eq!(status, *b"OK");
        let length = u32::from_be_bytes(read_array(stream));
        assert_eq!(length as usize, name.len());
        let mut rest = vec![0; name.len() + 8 + 32];
        std::io::Read::read_exact(stream, &mut rest).unwrap();
    }
    process::user_time(server.pid()) - before
}

#[test]
fn a_small_file_does_not_wait_for_the_digest_of_a_big_one() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let body = content(1, 4096);
    scratch.share("small", &body);
    scratch.share_sparse("big", 600_000_000);
    let server = Server::of(&scratch);
    let mut big = waiter(&server, "big");
    let start = Instant::now();
    let reply = ask(server.addr, b"small");
    let took = start.elapsed();
    assert!(reply.ends_with(&body) && took < Duration::from_secs(1), "4 KiB took {took:?}");
    // The big one is not ready yet, or the test has shown nothing.
    big.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let early = std::io::Read::read(&mut big, &mut [0]);
    assert!(early.is_err(), "600 MB were hashed in {took:?}");
    assert_eq!(process::threads(server.pid()), 1);
    server.into_running();
}

/// Twenty clients, one hash: what they cost together is near to what one costs.
#[test]
fn many_who_wait_share_one_hash() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    for name in ["one", "two"] {
        scratch.share_sparse(name, 300_000_000);
    }
    let server = Server::of(&scratch);
    let alone = cost_of(&server, "one", 1);
    let together = cost_of(&server, "two", 20);
    assert!(alone > Duration::from_millis(50), "{alone:?} for 300 MB: too little to compare with");
    assert!(together < alone * 4, "{together:?} for twenty, {alone:?} for one");
}

/// A finished digest is kept: the second request costs no hash. (Not of a file that was changed in the last 2 s.)
#[test]
fn a_known_digest_is_not_computed_again() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", 300_000_000);
    sleep(Duration::from_millis(2200));
    let server = Server::of(&scratch);
    let first = cost_of(&server, "big", 1);
    let second = cost_of(&server, "big", 1);
    assert!(second * 3 < first, "{first:?} at first, {second:?} again");
}

/// A new content under the same name, size and even time stamp gets its own digest.
#[test]
fn a_changed_file_gets_a_new_digest() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let mut stamp = None;
    for seed in 0..5 {
        let body = content(seed, 1000);
        let path = scratch.share("a", &body);
        let file = fs::File::options().write(true).open(path).unwrap();
        let first = *stamp.get_or_insert_with(|| file.metadata().unwrap().modified().unwrap());
        file.set_modified(first).unwrap();
        let mut stream = dial(server.addr);
        stream.write_all(&request(b"a")).unwrap();
        assert_eq!(read_head(&mut stream).digest, md5_hex(&body), "version {seed}");
    }
    server.stop();
}

/// Renamed over while it is being hashed: each client gets the digest of the file that it gets.
#[test]
fn a_file_replaced_while_it_is_hashed_is_answered_consistently() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", 100_000_000);
    let server = Server::of(&scratch);
    let mut old = waiter(&server, "a");
    let body = content(2, 1000);
    scratch.share("new", &body);
    fs::rename(scratch.files().join("new"), scratch.files().join("a")).unwrap();
    assert!(ask(server.addr, b"a").ends_with(&body));
    let length: [u8; 4] = read_array(&mut old);
    assert_eq!(length, [0, 0, 0, 1]);
    let rest: [u8; 9] = read_array(&mut old);
    assert_eq!(rest[1..], 100_000_000_u64.to_be_bytes());
    server.into_running();
}

/// More files than there are jobs (64): the rest waits its turn, and all are answered rightly.
#[test]
fn a_hundred_files_at_once_are_all_hashed() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let bodies: Vec<Vec<u8>> = (0..100).map(|seed| content(seed, 150_000)).collect();
    for (number, body) in bodies.iter().enumerate() {
        scratch.share(number.to_string(), body);
    }
    let server = Server::of(&scratch);
    let mut streams: Vec<TcpStream> = (0..100).map(|_| dial(server.addr)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&request(number.to_string().as_bytes())).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read_head(stream).digest, md5_hex(&bodies[number]), "file {number}");
    }
    drop(streams);
    server.stop();
}

/// Whoever asks and goes away leaves no work behind that keeps the server busy for good.
#[test]
fn a_digest_that_nobody_waits_for_ends() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    for number in 0..20 {
        scratch.share_sparse(&number.to_string(), 20_000_000_000);
    }
    let server = Server::of(&scratch);
    let streams: Vec<TcpStream> = (0..20)
        .map(|number: usize| {
            let mut stream = dial(server.addr);
            stream.write_all(&request(number.to_string().as_bytes())).unwrap();
            stream
        })
        .collect();
    wait_for("the files to be hashed", || process::user_time(server.pid()) > Duration::from_millis(300));
    // A reset says that nobody reads any more; a plain close could as well mean that nobody writes any more.
    streams.iter().for_each(|stream| sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap());
    drop(streams);
    wait_for("the connections to close", || server.log().matches("reason: ").count() == 20);
    // Beyond eight, jobs without a waiter are dropped; the others may go on, but not in the way of the living.
    scratch.share("a", b"body");
    let start = Instant::now();
    assert!(ask(server.addr, b"a").ends_with(b"body"));
    assert!(start.elapsed() < Duration::from_secs(1), "after {:?}", start.elapsed());
    wait_for("the files of dropped jobs to be closed", || process::open_files(server.pid()) < 32);
    server.stop().took_less_than(Duration::from_secs(1));
}
