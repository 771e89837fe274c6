//! Files stay open for the next request: not for long, never instead of looking the name up, and never in the way.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::wire::{ask, dial, read_to_end, request};
use crate::harness::wire2::{Get, Peer};
use crate::harness::{Scratch, Server, serve, wait_for};

/// The code of ERROR for a name that leads to no file.
const NOT_FOUND: u16 = 1;

/// How often the server has this file open, or had when it was deleted.
fn times_open(server: &Server, path: &Path) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with(&*path.to_string_lossy())).count()
}

fn assert_served(peer: &mut Peer, name: &str, body: &[u8]) {
    peer.get(&Get::of(name)).assert_brings(body);
}

fn assert_not_found(peer: &mut Peer, name: &str) {
    assert_eq!(peer.get(&Get::of(name)).refusal(), NOT_FOUND);
}

#[test]
fn a_deleted_file_is_closed_after_a_while() {
    let scratch = Scratch::new();
    let path = scratch.share("a", b"body");
    let server = Server::of(&scratch);
    for _ in 0..3 {
        assert!(ask(server.addr, b"a").ends_with(b"body"));
        assert_eq!(times_open(&server, &path), 1, "one descriptor, whoever asks");
    }
    fs::remove_file(&path).unwrap();
    assert!(ask(server.addr, b"a").starts_with(b"ERROR"));
    wait_for("the file to be closed", || times_open(&server, &path) == 0);
    server.stop();
}

#[test]
fn a_name_is_looked_up_for_each_request() {
    let scratch = Scratch::new();
    let path = scratch.share("d/a", b"first");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    assert_served(&mut peer, "d/a", b"first");
    let other = scratch.share("d/b", b"other");
    fs::rename(&other, &path).unwrap();
    assert_served(&mut peer, "d/a", b"other"); // another file under the name
    fs::write(&path, b"again").unwrap();
    assert_served(&mut peer, "d/a", b"again"); // written over
    fs::remove_file(&path).unwrap();
    assert_not_found(&mut peer, "d/a"); // gone
    mkfifoat(CWD, &path, Mode::RUSR).unwrap();
    assert_not_found(&mut peer, "d/a"); // a FIFO
    server.stop();
}

/// The folder of a file that is kept open is swapped for a link that leads out, to a file that looks the same.
#[test]
fn a_kept_file_is_no_way_out() {
    let scratch = Scratch::new();
    let path = scratch.share("d/a", b"ours!");
    scratch.write("outside/a", b"theirs");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    assert_served(&mut peer, "d/a", b"ours!");
    let folder = path.parent().unwrap();
    fs::rename(folder, scratch.files().join("e")).unwrap();
    symlink(scratch.path("outside"), folder).unwrap();
    assert_not_found(&mut peer, "d/a"); // the link leads out
    assert_served(&mut peer, "e/a", b"ours!");
    server.stop();
}

/// More files than descriptors, and then more connections than the files leave room for.
#[test]
fn kept_files_give_way() {
    let scratch = Scratch::new();
    (0..200).for_each(|number| drop(scratch.share(number.to_string(), b"body")));
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "0"]).after("ulimit -n 128"));
    let mut peer = Peer::dial(server.addr);
    for number in 0..200 {
        assert_served(&mut peer, &number.to_string(), b"body");
    }
    let mut held: Vec<_> = (0..60).map(|_| dial(server.addr)).collect();
    wait_for("all connections", || server.log().matches("connection from ").count() == 61);
    held.iter_mut().for_each(|stream| stream.write_all(&request(b"7")).unwrap());
    for stream in &mut held {
        assert!(read_to_end(stream).ends_with(b"body"));
    }
    let log = server.stop().log;
    assert!(!log.contains("not accepting connections"), "{log}");
}
