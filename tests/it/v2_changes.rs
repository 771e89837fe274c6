//! Files that change while they are sent in version 2: never a digest of something else, never a cut connection.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::harness::wire2::{CHANGED, End, Get, NOT_FOUND, Peer};
use crate::harness::{Scratch, Server, content, wait_for};

/// Far more than the kernel takes in for a reader that does not read.
const BIG: u64 = 40_000_000;

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

/// Asks for the big file, changes it in the middle, and reads on: ERROR 4 must end the reply, and the connection live.
fn assert_change_is_told(what: &str, change: impl Fn(&Path)) {
    let scratch = Scratch::new();
    let path = scratch.share_sparse("big", BIG);
    scratch.share("small", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial_slowly(server.addr);
    let get = Get::of("big");
    peer.ask(&get);
    peer.ask(&Get::of("small"));
    let file = peer.file();
    assert_eq!((file.size, file.offset), (BIG, 0));
    change(&path);
    let reply = peer.rest(&get, file);
    assert!(matches!(reply.end, End::Error(CHANGED, _)), "{what}: {reply:?}");
    peer.reply(&Get::of("small")).assert_brings(b"fine");
    // What is there now comes whole, as soon as it is asked for.
    let now = fs::read(&path).unwrap();
    peer.get(&get).assert_brings(&now);
    drop(peer);
    let log = server.stop().log;
    assert_eq!(log.matches("reason: ").count(), 1, "{what}: {log}");
}

#[test]
fn a_file_truncated_while_it_is_sent() {
    assert_change_is_told("half of it", |path| open(path).set_len(BIG / 2).unwrap());
    assert_change_is_told("nothing left", |path| open(path).set_len(0).unwrap());
    assert_change_is_told("the last byte", |path| open(path).set_len(BIG - 1).unwrap());
    assert_change_is_told("in the middle of a page", |path| open(path).set_len(BIG / 2 + 1234).unwrap());
}

#[test]
fn a_file_edited_in_place_while_it_is_sent() {
    assert_change_is_told("a byte at its end", |path| open(path).write_all_at(b"x", BIG - 1).unwrap());
    assert_change_is_told("a byte at its beginning", |path| open(path).write_all_at(b"x", 0).unwrap());
}

#[test]
fn a_file_that_grows_while_it_is_sent() {
    assert_change_is_told("a byte more", |path| {
        let mut file = open(path);
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"x").unwrap();
    });
}

/// Cut down and refilled: the size is the old one, the time is not.
#[test]
fn a_file_written_anew_while_it_is_sent() {
    assert_change_is_told("as long as before", |path| {
        let file = open(path);
        file.set_len(0).unwrap();
        file.set_len(BIG).unwrap();
    });
}

/// The file that was opened is the one that is sent, whoever has its name by now.
#[test]
fn a_file_replaced_or_removed_while_it_is_sent_comes_whole() {
    let scratch = Scratch::new();
    let old = content(1, 20_000_000);
    let path = scratch.share("a", &old);
    let server = Server::of(&scratch);
    let get = Get::of("a");
    let mut peer = Peer::dial_slowly(server.addr);
    peer.ask(&get);
    let file = peer.file();
    fs::rename(scratch.share("new", b"new body"), &path).unwrap();
    peer.rest(&get, file).assert_brings(&old);
    peer.get(&get).assert_brings(b"new body");

    fs::write(&path, &old).unwrap();
    peer.ask(&get);
    let file = peer.file();
    fs::remove_file(&path).unwrap();
    peer.rest(&get, file).assert_brings(&old);
    assert_eq!(peer.get(&get).refusal(), NOT_FOUND);
    drop(peer);
    server.stop();
}

/// A resume of what was replaced in between starts again: the version does not fit.
#[test]
fn a_file_replaced_between_two_requests_is_not_resumed() {
    let scratch = Scratch::new();
    let (old, new) = (content(2, 100_000), content(3, 100_000));
    let path = scratch.share("a", &old);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let version = peer.get(&Get::of("a")).file().version;
    fs::rename(scratch.share("new", &new), &path).unwrap();
    let reply = peer.get(&Get::of("a").resuming(60_000, version));
    assert_eq!(reply.file().offset, 0, "{reply:?}");
    reply.assert_brings(&new);
    drop(peer);
    server.stop_content();
}

/// Edited with its size and time restored: it is the same version, but who asks for a new hash gets one.
#[test]
fn a_digest_that_is_not_trusted_is_made_again() {
    let scratch = Scratch::new();
    let (old, new) = (content(4, 500_000), content(5, 500_000));
    let path = scratch.share("a", &old);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let get = Get::of("a").digest_only(500_000);
    wait_for("a digest to be kept", || !peer.get(&get).file().digest.is_empty());
    // Kept or not: what is asked for now is made for this client.
    let reply = peer.get(&get.clone().rehashed());
    assert!(reply.file().digest.is_empty(), "not known before it is made: {reply:?}");
    reply.assert_compares(&old);
    let version = reply.file().version;
    let file = open(&path);
    file.write_all_at(&new, 0).unwrap();
    file.set_modified(time).unwrap();
    let reply = peer.get(&Get::of("a").rehashed());
    assert_eq!(reply.file().version, version, "the same size and time");
    reply.assert_brings(&new);
    peer.get(&get).assert_compares(&new);
    drop(peer);
    server.stop_content();
}
