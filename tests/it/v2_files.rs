//! Version 2 on the raw socket: what is said of a file, and which of its bytes come.

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::wire::ask;
use crate::harness::wire2::{self, BLAKE3, End, Get, MD5, NO_VERSION, NOT_FOUND, Peer, Version};
use crate::harness::{Scratch, Server, content, serve, wait_for};

const KIB: usize = 1024;

fn set_mtime(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The version that the server has now.
fn version(peer: &mut Peer, name: &str) -> Version {
    let reply = peer.get(&Get::of(name).digest_only(u64::MAX));
    assert_eq!(reply.end, End::SizesDiffer);
    reply.file().version
}

#[test]
fn whole_files_with_either_digest_on_one_connection() {
    let scratch = Scratch::new();
    let sizes = [0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 1024 * KIB, 3_000_001];
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for size in sizes {
        let body = content(size as u64, size);
        scratch.share("a", &body);
        for algorithm in [MD5, BLAKE3] {
            let reply = peer.get(&Get::of("a").with(algorithm));
            assert_eq!(reply.file().offset, 0);
            reply.assert_brings(&body);
        }
    }
    drop(peer);
    let log = server.stop_content().log;
    assert!(log.contains(&format!("{} replies, ", 2 * sizes.len())), "{log}");
}

#[test]
fn file_says_what_stat_says() {
    let scratch = Scratch::new();
    let path = scratch.share("a", &content(1, 1000));
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let after = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
    let times = [
        (after(1_700_000_000, 123_456_789), 1_700_000_000, 123_456_789),
        (after(0, 0), 0, 0),
        (after(4_000_000_000, 999_999_999), 4_000_000_000, 999_999_999),
        (UNIX_EPOCH - Duration::new(4, 500_000_000), -5, 500_000_000),
    ];
    for (time, seconds, nanos) in times {
        set_mtime(&path, time);
        // The version is compared with the one of these numbers wherever a reply is read.
        let file = peer.get(&Get::of("a")).file().clone();
        assert_eq!((file.size, file.offset, file.seconds, file.nanos, file.flags), (1000, 0, seconds, nanos, 0));
    }
    for mode in [0o400, 0o644, 0o755, 0o777, 0o4711, 0o1600] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let file = peer.get(&Get::of("a")).file().clone();
        assert_eq!(file.mode & 0o777, mode & 0o777, "{file:?}");
    }
    drop(peer);
    server.stop_content();
}

#[test]
fn resumed_at_every_kind_of_offset() {
    let scratch = Scratch::new();
    let body = content(2, 600 * KIB);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let version = version(&mut peer, "a");
    let edges = [0, 1, 4095, 4096, 4097, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, body.len() - 1, body.len()];
    for offset in edges {
        for algorithm in [MD5, BLAKE3] {
            let reply = peer.get(&Get::of("a").resuming(offset as u64, version).with(algorithm));
            assert_eq!(reply.file().offset, offset as u64, "{reply:?}");
            reply.assert_brings(&body);
        }
    }
    drop(peer);
    server.stop_content();
}

/// Nothing that the client has is of any use: all of it comes again, and FILE says so.
#[test]
fn what_cannot_be_resumed_starts_at_zero() {
    let scratch = Scratch::new();
    let body = content(3, 100_000);
    let path = scratch.share("a", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let current = version(&mut peer, "a");
    let mut stale = current;
    stale[15] ^= 1;
    let past = [100_001, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX];
    let useless = past.map(|offset| (offset, current)).into_iter();
    for (offset, version) in useless.chain([(50_000, stale), (50_000, NO_VERSION), (100_000, stale)]) {
        let reply = peer.get(&Get::of("a").resuming(offset, version));
        assert_eq!(reply.file().offset, 0, "{offset} of {version:?}: {reply:?}");
        reply.assert_brings(&body);
    }
    // A nanosecond later it is another version, whatever it holds.
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    set_mtime(&path, time + Duration::from_nanos(1));
    let reply = peer.get(&Get::of("a").resuming(50_000, current));
    assert_eq!(reply.file().offset, 0, "{reply:?}");
    reply.assert_brings(&body);
    drop(peer);
    server.stop_content();
}

/// Mirrors of one tree agree; device, inode, ctime, name and mode are no part of a version.
#[test]
fn a_version_outlives_renames_links_modes_and_copies() {
    let scratch = Scratch::new();
    let body = content(4, 50_000);
    let path = scratch.share("a", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let version = version(&mut peer, "a");
    let get = |name: &str| Get::of(name).resuming(20_000, version);
    let files = scratch.files();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&path, files.join("linked")).unwrap();
    symlink("linked", files.join("symlink")).unwrap();
    fs::copy(&path, files.join("copy")).unwrap();
    set_mtime(&files.join("copy"), fs::metadata(&path).unwrap().modified().unwrap());
    fs::rename(&path, files.join("renamed")).unwrap();
    for name in ["linked", "symlink", "copy", "renamed"] {
        let reply = peer.get(&get(name));
        assert_eq!(reply.file().offset, 20_000, "{name}: {reply:?}");
        reply.assert_brings(&body);
    }
    drop(peer);
    server.stop_content();
}

#[test]
fn the_digest_alone() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for size in [0, 1, 700_000] {
        let body = content(size as u64, size);
        scratch.share("a", &body);
        for algorithm in [MD5, BLAKE3] {
            let get = Get::of("a").with(algorithm);
            peer.get(&get.clone().digest_only(size as u64)).assert_compares(&body);
            peer.get(&get.clone().digest_only(size as u64).rehashed()).assert_compares(&body);
            for other in [size as u64 + 1, (size as u64).wrapping_sub(1), u64::MAX] {
                let reply = peer.get(&get.clone().digest_only(other));
                assert_eq!((reply.end, reply.file.unwrap().size), (End::SizesDiffer, size as u64));
            }
        }
    }
    assert_eq!(peer.get(&Get::of("none").digest_only(0)).refusal(), NOT_FOUND);
    drop(peer);
    server.stop_blaming_peers();
}

/// Once it is known and kept, the digest stands in FILE already, for each algorithm its own.
#[test]
fn a_known_digest_comes_with_file() {
    let scratch = Scratch::new();
    let body = content(5, 500_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let version = version(&mut peer, "a");
    for algorithm in [MD5, BLAKE3] {
        let get = Get::of("a").with(algorithm);
        // Not of a file that was changed a moment ago.
        wait_for("a digest to be kept", || {
            let reply = peer.get(&get.clone().digest_only(500_000));
            reply.assert_compares(&body);
            !reply.file().digest.is_empty()
        });
        let resumed = peer.get(&get.resuming(300_000, version));
        resumed.assert_brings(&body);
        assert!(!resumed.file().digest.is_empty(), "{resumed:?}");
    }
    drop(peer);
    server.stop_content();
}

#[test]
fn names_that_are_not_utf8_are_served() {
    let scratch = Scratch::new();
    let names: [&[u8]; 3] = [b"latin-\xe9", b"\xff\xfe", b"half \xf0\x9f"];
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for name in names {
        fs::write(scratch.files().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
        peer.get(&Get::of(name)).assert_brings(name);
    }
    assert_eq!(peer.get(&Get::of(b"\x80")).refusal(), NOT_FOUND);
    drop(peer);
    server.stop();
}

/// Everything that must not be served is answered alike, and so that nobody learns what there is.
#[test]
fn names_that_lead_elsewhere_are_not_found() {
    let scratch = Scratch::new();
    scratch.write("outside", b"secret");
    scratch.share("f", b"fine");
    scratch.share("a/g", b"fine");
    scratch.share(".hidden", b"secret");
    scratch.share(".f.xfer-part", b"secret");
    scratch.share(".f.xfer-part.state", b"secret");
    symlink("../outside", scratch.files().join("out")).unwrap();
    symlink("/etc/passwd", scratch.files().join("absolute")).unwrap();
    symlink(".f.xfer-part", scratch.files().join("part")).unwrap();
    let server = Server::start(serve(&scratch));
    let mut peer = Peer::dial(server.addr);
    let outside = scratch.path("outside");
    let names = ["..", "../outside", "a/../f", "a/..", "/etc/passwd", "/", "//f", ".", "a", "a/", "f/", "a//g"];
    let more = [".hidden", ".f.xfer-part", ".f.xfer-part.state", "out", "absolute", "part", "none", "f/none"];
    for name in names.into_iter().chain(more).chain([outside.to_str().unwrap()]) {
        let reply = peer.get(&Get::of(name));
        let expected = format!("File '{name}' not found on server");
        assert_eq!(reply.end, End::Error(NOT_FOUND, expected), "{name}: {reply:?}");
    }
    peer.get(&Get::of("a/g")).assert_brings(b"fine");
    drop(peer);
    server.stop();
}

/// A message is UTF-8 and no longer than allowed, which is looked at wherever one is read; nor does the name of a file
/// that nobody has harm the console or the log.
#[test]
fn a_refusal_of_a_strange_name_is_harmless() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let names: [&[u8]; 5] = [&[b'x'; 4096], &[0xff; 4096], b"esc\x1b[2J", b"\n\r\t", "turn\u{202e}ed".as_bytes()];
    for name in names {
        assert_eq!(peer.get(&Get::of(name)).refusal(), NOT_FOUND, "{}", name.escape_ascii());
    }
    drop(peer);
    // Stopping looks at every line on the console and in the log.
    server.stop();
}

#[test]
fn both_protocols_are_served_on_one_port_at_once() {
    let scratch = Scratch::new();
    let body = content(6, 300_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for _ in 0..3 {
        peer.get(&Get::of("a")).assert_brings(&body);
        let old = ask(server.addr, b"a");
        assert!(old.starts_with(b"OK") && old.ends_with(&body), "{} bytes in version 1", old.len());
    }
    drop(peer);
    server.stop_content();
}

/// The reader itself must be able to say no: a reply with a flaw does not pass.
#[test]
fn the_reader_refuses_what_is_not_specified() {
    let good = wire2::File::of(b"body");
    let wrong_version = wire2::File { version: [1; 16], ..good.clone() };
    let flawed = [
        [wrong_version.bytes(), wire2::data(b"body"), wire2::digest(&content::digest(MD5, b"body"))].concat(),
        [good.bytes(), wire2::data(b"body and more")].concat(),
        [good.bytes(), wire2::data(b"bo"), wire2::digest(&content::digest(MD5, b"body"))].concat(),
        [good.bytes(), wire2::frame(0x11, b"")].concat(),
        [good.bytes(), wire2::frame(0x14, b"")].concat(),
        [good.bytes(), wire2::data(b"body")[..6].to_vec()].concat(),
        wire2::digest(&[0; 16]),
        wire2::wait(1, 2),
    ];
    for bytes in flawed {
        let server = crate::scripted_server::ScriptedServer::of_any_version(move |_, stream| {
            let _ = std::io::Write::write_all(stream, &bytes);
        });
        let read = std::panic::catch_unwind(|| Peer::dial(server.addr).reply(&Get::of("a")));
        assert!(read.is_err(), "a flaw was not noticed: {:?}", read.ok());
    }
}
