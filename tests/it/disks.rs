//! Disks that are full, forbidden or shared with another client: exit code 5, no retry, nothing wrong left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::wire::{metadata, metadata_claiming};
use crate::harness::wire2;
use crate::harness::{Outcome, Plan, Relay, Scratch, Server, content, get, md5_hex, plain_get, wait_for};
use crate::resume::{assert_saved, part, part_len};
use crate::scripted_server::ScriptedServer;

fn assert_local_error(outcome: &Outcome) {
    outcome.exits(5).has_one_error_line().prints_nothing_on_stdout();
    outcome.log_lacks("attempt 2");
}

/// Unwritable for everybody, root included: a file in place of a directory, and a kernel file system.
#[test]
fn a_target_directory_that_cannot_be_written() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("file", b"in the way");
    let server = Server::of(&scratch);
    for dir in ["file", "file/sub", "/proc/nothing", "/proc"] {
        let outcome = plain_get(&scratch, server.addr).args(["-d", dir, "a"]).run();
        assert_local_error(&outcome);
        outcome.stderr_has(dir);
    }
    assert_eq!(fs::read(scratch.path("file")).unwrap(), b"in the way");
    server.stop();
}

#[test]
fn an_output_path_that_cannot_be_written() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("file", b"in the way");
    let server = Server::of(&scratch);
    for path in ["file/a", "missing/a", "/proc/a"] {
        let outcome = plain_get(&scratch, server.addr).args(["-o", path, "a"]).run();
        assert_local_error(&outcome);
    }
    assert!(!scratch.path("missing").exists());
    server.stop();
}

#[test]
fn an_output_path_that_is_a_directory() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    fs::create_dir(scratch.path("dir")).unwrap();
    let server = Server::of(&scratch);
    let outcome = plain_get(&scratch, server.addr).args(["-o", "dir", "a"]).run();
    outcome.assert(matches!(outcome.status.code(), Some(2 | 5)), "a mistake, or an error of the local disk");
    outcome
        .has_one_error_line()
        .stderr_has("'dir' is a directory; to save into a directory, use -d DIR; type: xfer get a ")
        .stderr_has(" -d dir\n");
    assert!(scratch.names("dir").is_empty());
    server.stop();
}

#[test]
fn a_directory_in_place_of_the_target() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("out/a/precious", b"precious");
    let server = Server::of(&scratch);
    assert_local_error(&get(&scratch, server.addr).arg("a").run());
    assert_eq!(fs::read(scratch.path("out/a/precious")).unwrap(), b"precious");
    server.stop();
}

/// Larger than any disk, and a size that a file could have: both numbers are told, and nothing is tried again.
#[test]
fn not_enough_room() {
    let scratch = Scratch::new();
    let size = 1_u64 << 62;
    let head = metadata_claiming(b"a", size, md5_hex(b"body").as_bytes());
    let server = ScriptedServer::stalling_after([b"OK".to_vec(), head].concat());
    let outcome = get(&scratch, server.addr).arg("a").run();
    assert_local_error(&outcome);
    outcome.stderr_has("free");
    outcome.assert(outcome.stderr.bytes().filter(u8::is_ascii_digit).count() > 2, "needed and free bytes");
    assert_eq!(server.connections(), 1);
    assert!(!scratch.out().join("a").exists());
}

/// The same in version 2, and what a real server has: both before any byte is written.
#[test]
fn not_enough_room_for_what_version_2_announces() {
    let scratch = Scratch::new();
    let old = scratch.write("out/a", b"old body");
    let size = 1 << 62;
    let version = wire2::version_of(size, 0, 0);
    let file = wire2::File { size, version, seconds: 0, nanos: 0, ..wire2::File::of(b"") };
    let server = ScriptedServer::answering_gets(move |_, _| [file.bytes(), wire2::data(&[0; 1000])].concat());
    let outcome = get(&scratch, server.addr).args(["--force", "a"]).run();
    assert_local_error(&outcome);
    outcome.stderr_has("free");
    outcome.assert(outcome.stderr.bytes().filter(u8::is_ascii_digit).count() > 2, "needed and free bytes");
    assert_eq!(server.connections(), 1);
    assert_eq!(fs::read(&old).unwrap(), b"old body");

    // As large as a file on ext4 can be.
    scratch.share_sparse("a", 15 << 40);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = get(&scratch, relay.addr).arg("a").run();
    assert_local_error(&outcome);
    outcome.stderr_has("free");
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    assert_eq!(fs::read(&old).unwrap(), b"old body");
    assert_eq!(scratch.names("out"), ["a"], "no part without a byte");
    server.stop();
}

#[test]
fn a_full_device() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 500_000));
    let server = Server::of(&scratch);
    let outcome = plain_get(&scratch, server.addr).args(["-o", "/dev/full", "a"]).run();
    assert_local_error(&outcome);
    outcome.stderr_has("/dev/full");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let outcome = plain_get(&scratch, server.addr).args(["-o", "-", "a"]).stdout(full).run();
    assert_local_error(&outcome);
}

/// A limit on the size of files answers like a full disk, and with a signal that kills by default.
#[test]
fn a_limit_on_the_size_of_files() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 3_000_000));
    scratch.share("b", b"fits");
    let server = Server::of(&scratch);
    // In blocks of 512 or 1024 bytes, whichever the shell takes: less than the file in both.
    let outcome = get(&scratch, server.addr).args(["a", "b"]).after("ulimit -f 1000").run();
    outcome.exits(5).stderr_has("1 of 2 saved");
    assert!(!scratch.out().join("a").exists());
    assert_eq!(fs::read(scratch.out().join("b")).unwrap(), b"fits");
    server.stop();
}

/// The file system is full while its free space said otherwise, as with a quota: no retry, and the old file is there.
#[test]
fn a_large_file_that_does_not_fit() {
    let scratch = Scratch::new();
    let old = scratch.write("out/a", b"old body");
    scratch.share_sparse("a", 60_000_000);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let running = get(&scratch, relay.addr).arg("a").after("ulimit -f 20000").spawn();
    assert_local_error(&running.finish());
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    assert_eq!(fs::read(&old).unwrap(), b"old body");
    // With room again the same command succeeds.
    get(&scratch, relay.addr).arg("a").run().exits(0).stderr_has("verified");
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop();
}

/// The limit comes down in the middle of the transfer.
#[test]
fn a_disk_that_fills_up_on_the_way() {
    let scratch = Scratch::new();
    let body = content(2, 3_000_000);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let head = [b"OK".to_vec(), metadata("a", &body), body[..1_500_000].to_vec()].concat();
    let server = ScriptedServer::new(move |_, stream| {
        crate::harness::wire::read_request(stream);
        std::io::Write::write_all(stream, &head).unwrap();
        let _ = receiver.lock().unwrap().recv();
        let _ = std::io::Write::write_all(stream, &body[1_500_000..]);
    });
    let running = get(&scratch, server.addr).arg("a").spawn();
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    let limit = Rlimit { current: Some(1_500_000), maximum: Some(1_500_000) };
    prlimit(Some(running.process()), Resource::Fsize, limit).unwrap();
    sender.send(()).unwrap();
    assert_local_error(&running.finish());
    assert!(!scratch.out().join("a").exists());
}

/// The second is told at once, and does not disturb the first.
#[test]
fn two_clients_for_one_target() {
    let scratch = Scratch::new();
    let body = content(3, 3_000_000);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let (head, rest) = ([b"OK".to_vec(), metadata("a", &body), body[..1_500_000].to_vec()].concat(), body.clone());
    let server = ScriptedServer::new(move |_, stream| {
        crate::harness::wire::read_request(stream);
        std::io::Write::write_all(stream, &head).unwrap();
        let _ = receiver.lock().unwrap().recv();
        let _ = std::io::Write::write_all(stream, &rest[1_500_000..]);
    });
    let first = get(&scratch, server.addr).arg("a").spawn();
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    let second = get(&scratch, server.addr).log_file(scratch.path("second.log")).arg("a").run();
    assert_local_error(&second);
    second.stderr_has("a");
    sender.send(()).unwrap();
    first.finish().exits(0).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"]);
}

/// The same in version 2, and whichever of them has a journal.
#[test]
fn two_clients_for_one_target_in_version_2() {
    let scratch = Scratch::new();
    let body = content(3, 34_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
    let first = get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 10_000_000));
    for _ in 0..3 {
        let second = get(&scratch, relay.addr).log_file(scratch.path("second.log")).arg("a").run();
        assert_local_error(&second);
        second.stderr_has("out/a");
    }
    relay.release(0);
    first.finish().exits(0).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop();
}

/// A lock is on a file and not on its name: what lies there after somebody has removed it is another client's.
#[test]
fn a_part_that_somebody_has_replaced_is_left_alone() {
    for (size, held) in [(3_000_000, 1_500_000), (34_000_000, 20_000_000)] {
        for signal in [None, Some(Signal::INT)] {
            let scratch = Scratch::new();
            let body = content(7, size);
            scratch.share("a", &body);
            let server = Server::of(&scratch);
            let relay = Relay::of(server.addr, Plan::hold(held));
            let start = |log| get(&scratch, relay.addr).args(["--no-sync", "a"]).log_file(scratch.path(log)).spawn();
            let first = start("client.log");
            relay.wait_until_held(0);
            fs::remove_file(part(&scratch)).unwrap();
            let second = start("second.log");
            relay.wait_until_held(1);
            wait_for("the second client's part", || part_len(&scratch) > 1_000_000);
            let its_own = scratch.names("out");
            match signal {
                None => {
                    relay.release(0);
                    let outcome = first.finish();
                    assert_local_error(&outcome);
                    outcome.stderr_has("another program has replaced").stderr_lacks("saved");
                }
                Some(signal) => _ = first.finish_after(signal).exits(130),
            }
            assert_eq!(scratch.names("out"), its_own, "{size} bytes, {signal:?}");
            relay.release(1);
            assert_saved(&second.finish(), &scratch, &body);
            server.stop();
        }
    }
}

/// A client that was killed in its last moment leaves a part with the file's own mode, and what comes next is unverified.
#[test]
fn a_part_that_others_may_read_becomes_private_again() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let scratch = Scratch::new();
    let body = content(8, 3_000_000);
    scratch.share("a", &body);
    let left = scratch.write("out/.a.xfer-part", b"left");
    fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(1_500_000));
    let running = get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("the part to grow", || part_len(&scratch) > 1_000_000);
    assert_eq!(mode(&left), 0o600);
    relay.release(0);
    assert_saved(&running.finish(), &scratch, &body);
    server.stop();
}

/// Twenty at once for one target: some are told, none harms the file, and what is there at the end is right.
#[test]
fn many_clients_for_one_target() {
    let scratch = Scratch::new();
    let body = content(4, 2_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let start = |_| get(&scratch, server.addr).own_log().args(["--no-log", "--force", "a"]).spawn();
    let clients: Vec<_> = (0..20).map(start).collect();
    let mut saved = 0;
    for client in clients {
        let outcome = client.finish();
        outcome.assert(matches!(outcome.status.code(), Some(0 | 5)), "saved, or told that another is at it");
        saved += usize::from(outcome.status.success());
    }
    assert!(saved >= 1);
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    server.stop();
}

/// What lies in the part's place is of no use, and must not stand in the way for ever.
#[test]
fn an_old_part_is_overwritten() {
    let scratch = Scratch::new();
    let body = content(5, 100_000);
    scratch.share("a", &body);
    scratch.write("out/.a.xfer-part", &content(6, 300_000));
    let server = Server::of(&scratch);
    get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop_content();
}

/// A hard link to something precious in the part's place: it must not be written through.
#[test]
fn a_hard_link_in_place_of_the_part_is_not_written_through() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let precious = scratch.write("precious", b"precious");
    fs::create_dir(scratch.out()).unwrap();
    fs::hard_link(&precious, scratch.out().join(".a.xfer-part")).unwrap();
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a").run();
    assert_eq!(fs::read(&precious).unwrap(), b"precious", "{}", outcome.report());
    outcome.assert(matches!(outcome.status.code(), Some(0 | 5)), "saved beside it, or told");
}

/// A FIFO in the part's place: opening it must not wait for a peer.
#[test]
fn a_fifo_in_place_of_the_part_does_not_hold_it_up() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    fs::create_dir(scratch.out()).unwrap();
    let fifo = scratch.out().join(".a.xfer-part");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a").run();
    outcome.assert(matches!(outcome.status.code(), Some(0 | 5)), "saved, or told");
    assert!(!is_part_of(&scratch.out().join("a"), &fifo));
}

fn is_part_of(target: &Path, fifo: &Path) -> bool {
    let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
    inode(target).is_some() && inode(target) == inode(fifo)
}

/// The time limit of a test that hangs is the harness's: here is a client that must not need it.
#[test]
fn a_client_on_a_full_disk_can_still_be_interrupted() {
    let scratch = Scratch::new();
    let server = ScriptedServer::stalling_after(b"OK".to_vec());
    let running = plain_get(&scratch, server.addr).args(["-o", "/dev/full", "a"]).spawn();
    running.wait_for_log("attempt 1");
    running.finish_after(Signal::INT).exits(130);
}
