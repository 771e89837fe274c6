//! Where a file is written: `-o`, `-d`, what is already there, links, devices, pipes, and names that cannot be saved.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::wire::{ClosedPort, metadata};
use crate::harness::{Program, Scratch, Server, content, cores, get, plain_get, process, wait_for};
use crate::scripted_server::{ScriptedServer, answer};

fn get_to(scratch: &Scratch, server: &Server, path: impl AsRef<std::ffi::OsStr>) -> Program {
    plain_get(scratch, server.addr).arg("-o").arg(path)
}

fn identity(path: &Path) -> (u64, i64, i64, Vec<u8>) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec(), fs::read(path).unwrap())
}

#[test]
fn output_to_a_named_file() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    get_to(&scratch, &server, "renamed").arg("a").run().exits(0).stderr_has("saved renamed: ").stderr_has("verified");
    assert_eq!(fs::read(scratch.path("renamed")).unwrap(), b"body");
    assert!(!scratch.path("client_downloads").exists(), "-o alone makes no directory");
    server.stop_content();
}

#[test]
fn output_to_stdout_is_exactly_the_file() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let outcome = get_to(&scratch, &server, "-").arg("a").run();
    outcome.exits(0).assert(outcome.stdout == body, "stdout must be the file");
    assert!(!scratch.path("-").exists() && !scratch.path("client_downloads").exists());
    server.stop_content();
}

#[test]
fn output_to_a_device_leaves_it_a_device() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 500_000));
    let server = Server::of(&scratch);
    get_to(&scratch, &server, "/dev/null").arg("a").run().exits(0).stderr_has("verified");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    // The same through a link.
    symlink("/dev/null", scratch.path("link")).unwrap();
    get_to(&scratch, &server, "link").arg("a").run().exits(0);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    server.stop_content();
}

#[test]
fn output_to_a_fifo_is_read_by_its_reader() {
    let scratch = Scratch::new();
    let body = content(2, 700_000);
    scratch.share("a", &body);
    let fifo = scratch.path("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    let server = Server::of(&scratch);
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    get_to(&scratch, &server, &fifo).arg("a").run().exits(0).stderr_has("verified");
    assert!(reader.join().unwrap() == body);
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "still a FIFO");
    server.stop_content();
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 5_000_000));
    let server = Server::of(&scratch);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = get_to(&scratch, &server, "-").arg("a").stdout(writer).run();
    outcome.exits(141).assert(outcome.stderr.is_empty(), "nothing on stderr");
}

/// What went out cannot be taken back: the bytes may not come twice, and the failure must show in the exit code.
#[test]
fn stdout_gets_no_byte_twice_when_the_server_breaks_off() {
    let scratch = Scratch::new();
    let body = content(4, 300_000);
    let server = ScriptedServer::answering(metadata("a", &body), body[..200_000].to_vec());
    let program = plain_get(&scratch, server.addr).args(["--retries", "3", "--max-backoff", "0.01", "-o", "-", "a"]);
    let outcome = program.run();
    outcome.exits(3).assert(body.starts_with(&outcome.stdout), "a beginning of the file, once");
}

#[test]
fn stdout_with_a_wrong_digest_exits_4() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering(metadata("a", b"body"), b"bode".to_vec());
    let outcome = plain_get(&scratch, server.addr).args(["--max-backoff", "0.01", "-o", "-", "a"]).run();
    outcome.exits(4).assert(b"bode".starts_with(&outcome.stdout), "never written twice");
}

/// As any other program would have made it; a part that nobody else could read would become such a file.
#[test]
fn the_mode_of_a_new_file_is_the_usual_one() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    get(&scratch, server.addr).arg("a").run().exits(0);
    let mode = fs::metadata(scratch.out().join("a")).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o666 & !process::umask(), "mode {mode:o}");
    server.stop_content();
}

#[test]
fn a_target_directory_is_made_with_its_parents() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    plain_get(&scratch, server.addr).args(["-d", "x/y/z", "a"]).run().exits(0);
    assert_eq!(fs::read(scratch.path("x/y/z/a")).unwrap(), b"body");
    server.stop_content();
}

#[test]
fn a_link_as_target_is_replaced_and_not_written_through() {
    let scratch = Scratch::new();
    scratch.share("a", b"new body");
    let precious = scratch.write("precious", b"precious");
    fs::create_dir(scratch.out()).unwrap();
    let target = scratch.out().join("a");
    let server = Server::of(&scratch);
    for to in [precious.as_path(), Path::new("dangling")] {
        let _ = fs::remove_file(&target);
        symlink(to, &target).unwrap();
        get(&scratch, server.addr).arg("a").run().exits(0);
        assert!(fs::symlink_metadata(&target).unwrap().is_file());
        assert_eq!(fs::read(&target).unwrap(), b"new body");
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
    }
    assert!(!scratch.out().join("dangling").exists());
    server.stop_content();
}

/// The part's name is foreseeable: a link that waits there must not lead the bytes elsewhere.
#[test]
fn a_link_in_place_of_the_part_is_not_followed() {
    let scratch = Scratch::new();
    scratch.share("a", b"new body");
    let precious = scratch.write("precious", b"precious");
    fs::create_dir(scratch.out()).unwrap();
    symlink(&precious, scratch.out().join(".a.xfer-part")).unwrap();
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a").run();
    assert_eq!(fs::read(&precious).unwrap(), b"precious", "{}", outcome.report());
    // Either the link is out of the way and the file saved, or it is an error of the local disk.
    match outcome.status.code() {
        Some(0) => assert_eq!(fs::read(scratch.out().join("a")).unwrap(), b"new body"),
        _ => _ = outcome.exits(5).has_one_error_line(),
    }
}

#[test]
fn the_same_content_already_there_is_left_alone() {
    let scratch = Scratch::new();
    let body = content(5, 200_000);
    scratch.share("a", &body);
    let target = scratch.write("out/a", &body);
    let before = identity(&target);
    let server = Server::of(&scratch);
    get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("already up to date").prints_nothing_on_stdout();
    assert!(identity(&target) == before, "same inode, same time, same content");
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop();
}

#[test]
fn other_content_is_replaced() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for (name, old) in [("same-size", "old body"), ("shorter", "old"), ("longer", "very old body"), ("empty", "")] {
        scratch.share(name, b"new body");
        let target = scratch.write(Path::new("out").join(name), old.as_bytes());
        get(&scratch, server.addr).arg(name).run().exits(0).stderr_has("replaced ").stderr_lacks("saved");
        assert_eq!(fs::read(&target).unwrap(), b"new body");
    }
    server.stop();
}

#[test]
fn force_fetches_again_what_is_already_there() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let target = scratch.write("out/a", b"body");
    let before = identity(&target);
    let server = Server::of(&scratch);
    get(&scratch, server.addr).args(["--force", "a"]).run().exits(0).stderr_lacks("already up to date");
    let after = identity(&target);
    assert_eq!(after.3, b"body");
    assert_ne!(before.0, after.0, "a new file took its place");
    server.stop_content();
}

#[test]
fn no_clobber_keeps_what_is_there() {
    let scratch = Scratch::new();
    scratch.share("a", b"new body");
    scratch.share("b", b"other body");
    let target = scratch.write("out/a", b"old body");
    let before = identity(&target);
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).args(["--no-clobber", "a", "b"]).run();
    assert!(identity(&target) == before, "{}", outcome.report());
    assert_eq!(fs::read(scratch.out().join("b")).unwrap(), b"other body", "{}", outcome.report());
    server.stop();
}

#[test]
fn two_files_for_one_target_are_a_mistake_before_connecting() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, _| ());
    let outcome = get(&scratch, server.addr).args(["a/x", "b/x"]).run();
    outcome.exits(2).has_one_error_line().stderr_has("x");
    assert_eq!(server.connections(), 0, "{}", outcome.report());
    let outcome = plain_get(&scratch, server.addr).args(["-o", "one", "a", "b"]).run();
    outcome.exits(2).has_one_error_line();
    assert_eq!(server.connections(), 0, "{}", outcome.report());
}

#[test]
fn names_that_cannot_be_saved_are_a_mistake_before_connecting() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, _| ());
    let names = ["", "a/", "/", ".", "..", "a/.", "a/..", ".x.xfer-part", "x.xfer-part", "a/x.xfer-part.state"];
    for name in names {
        let outcome = get(&scratch, server.addr).args(["--", name]).run();
        outcome.exits(2).has_one_error_line().prints_nothing_on_stdout();
        assert_eq!(server.connections(), 0, "{}", outcome.report());
    }
    assert_eq!(scratch.names("out"), [""; 0]);
}

/// Opening a FIFO waits for its reader: that wait ends with Ctrl-C like every other.
#[test]
fn a_fifo_without_a_reader_can_be_interrupted() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let fifo = scratch.path("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    let server = Server::of(&scratch);
    let running = get_to(&scratch, &server, &fifo).arg("a").spawn();
    running.wait_for_log("127.0.0.1");
    running.finish_after(rustix::process::Signal::INT).exits(130).took_less_than(Duration::from_secs(1));
}

/// With no server at all, nothing is made that looks like a file.
#[test]
fn a_failed_transfer_leaves_the_old_file() {
    let scratch = Scratch::new();
    let target = scratch.write("out/a", b"old body");
    let before = identity(&target);
    let port = ClosedPort::new();
    get(&scratch, port.addr).args(["--retries", "1", "a"]).run().exits(3);
    assert!(identity(&target) == before);
}

/// A reader of the target sees the old file or the new one, never a part of one.
#[test]
fn the_target_changes_in_one_step() {
    let scratch = Scratch::new();
    let body = content(6, 4_000_000);
    let target = scratch.write("out/a", b"old body");
    let mut reader = File::open(&target).unwrap();
    let half = body[..2_000_000].to_vec();
    let server = ScriptedServer::stalling_after([b"OK".to_vec(), metadata("a", &body), half].concat());
    let running = get(&scratch, server.addr).arg("a").spawn();
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    assert_eq!(fs::read(&target).unwrap(), b"old body");
    running.finish_after(rustix::process::Signal::TERM).exits(143);
    let mut old = Vec::new();
    reader.read_to_end(&mut old).unwrap();
    assert_eq!(old, b"old body");
    assert_eq!(fs::read(&target).unwrap(), b"old body");
}

/// Attempts of one body: each of the first ones breaks off after what is `sent`, the last one brings it all.
fn stdout_after_cuts(sent: Vec<Vec<u8>>) -> crate::harness::Outcome {
    let scratch = Scratch::new();
    let body = content(4, 300_000);
    let head = metadata("a", &body);
    let server = ScriptedServer::new(move |number, stream| {
        answer(stream, &head, sent.get(number).unwrap_or(&body));
    });
    plain_get(&scratch, server.addr).args(["--max-backoff", "0.01", "-o", "-", "a"]).run()
}

#[test]
fn stdout_goes_on_after_a_cut() {
    let body = content(4, 300_000);
    let outcome = stdout_after_cuts(vec![body[..200_000].to_vec()]);
    outcome.exits(0).stderr_has("verified").assert(outcome.stdout == body, "the file, once");
}

/// The second attempt may bring the right file: what the first one brought is out, and was another.
#[test]
fn stdout_is_not_called_verified_for_bytes_of_another_attempt() {
    let wrong = content(5, 200_000);
    // Also if an attempt in between brings less, or nothing.
    for between in [None, Some(0), Some(100_000)] {
        let mut sent = vec![wrong.clone()];
        sent.extend(between.map(|len| content(4, 300_000)[..len].to_vec()));
        let outcome = stdout_after_cuts(sent);
        outcome.stderr_lacks("verified").assert(outcome.stdout == wrong, "nothing of a later attempt");
        outcome.exits(4);
    }
}

/// As `/dev/stdout` is: behind it is an open file and not a name.
#[test]
fn output_to_a_link_to_an_open_file_leaves_the_link() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let link = scratch.path("stdout-link");
    symlink("/proc/self/fd/1", &link).unwrap();
    let server = Server::of(&scratch);
    let stdout = File::create(scratch.path("captured")).unwrap();
    get_to(&scratch, &server, &link).arg("a").stdout(stdout).run().exits(0);
    assert!(link.is_symlink());
    assert_eq!(fs::read(scratch.path("captured")).unwrap(), b"body");
    server.stop();
}

#[test]
fn a_stdout_that_somebody_made_non_blocking_gets_it_all() {
    let scratch = Scratch::new();
    let body = content(6, 1_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let full = writer.try_clone().unwrap();
    let running = get_to(&scratch, &server, "-").arg("a").stdout(writer).spawn();
    // Only once the pipe is full, at however many bytes.
    wait_for("the pipe to fill", || {
        let mut poll = [PollFd::new(&full, PollFlags::OUT)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).unwrap() == 0
    });
    drop(full);
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    running.finish().exits(0);
    assert!(received == body);
    server.stop();
}

/// Between the first look and the end somebody else may make the file.
#[test]
fn no_clobber_keeps_what_appears_during_the_transfer() {
    let scratch = Scratch::new();
    let body = content(7, 100_000);
    let (head, target) = (metadata("a", &body), scratch.out().join("a"));
    let appearing = target.clone();
    let server = ScriptedServer::new(move |_, stream| {
        fs::create_dir_all(appearing.parent().unwrap()).unwrap();
        fs::write(&appearing, b"mine").unwrap();
        answer(stream, &head, &body);
    });
    get(&scratch, server.addr).args(["--no-clobber", "a"]).run().exits(0).stderr_has("kept");
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert_eq!(scratch.names("out"), ["a"], "no part is left");
}
