//! The server's log names every file that did not finish: at which byte, to whom, why, and at the level of its kind.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;

use crate::harness::logfile::{self, LogLine};
use crate::harness::wire::{ask, dial, dial_slowly, read_head, request};
use crate::harness::wire2::{Get, Peer, frame};
use crate::harness::{Scratch, Server, cores, serve, wait_for};

/// Far more than the kernel takes in for a reader that does not read.
const BIG: u64 = 100_000_000;

/// Takes a second or more to hash.
const LONG: u64 = 4_000_000_000;

/// A connection in the middle of a file, in version 1 or 2.
fn reader(addr: SocketAddr, version: u8, name: &str) -> TcpStream {
    match version {
        1 => {
            let mut stream = dial_slowly(addr);
            stream.write_all(&request(name.as_bytes())).unwrap();
            read_head(&mut stream);
            stream
        }
        _ => {
            let mut peer = Peer::dial_slowly(addr);
            peer.ask(&Get::of(name));
            peer.file();
            peer.stream
        }
    }
}

/// The messages at this level that begin like this.
fn lines_of(log: &str, level: &str, begin: &str) -> Vec<LogLine> {
    let mut lines = logfile::lines(log);
    lines.retain(|line| line.level == level && line.message.starts_with(begin));
    lines
}

/// One line `cut 'NAME' after N/SIZE bytes to PEER: WHY (S s)` at this level, and no other about the file.
fn assert_cut(log: &str, level: &str, name: &str, size: u64, peer: SocketAddr, why: &str) {
    let about: Vec<_> = logfile::lines(log)
        .into_iter()
        .filter(|line| line.message.contains(&format!("'{name}'")) && !line.message.starts_with("progress of "))
        .collect();
    let [line] = &about[..] else { panic!("one line about {name}, not {about:#?}\nin the log:\n{log}") };
    assert_eq!(line.level, level, "{line:?}");
    let rest = line.message.strip_prefix(&format!("cut '{name}' after ")).unwrap_or_else(|| panic!("{line:?}"));
    let (at, rest) = rest.split_once('/').unwrap();
    let at: u64 = at.parse().unwrap();
    assert!(at < size, "{line:?}");
    let rest = rest.strip_prefix(&format!("{size} bytes to {peer}: {why} (")).unwrap_or_else(|| panic!("{line:?}"));
    let seconds: f64 = rest.strip_suffix(" s)").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    assert!((0.0..60.0).contains(&seconds), "{line:?}");
}

/// A server with `big`, and a reader in the middle of it.
fn with_reader(version: u8, args: &[&str], action: impl FnOnce(Server, TcpStream, &Scratch) -> String) {
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).args(args));
    let stream = reader(server.addr, version, "big");
    let peer = stream.local_addr().unwrap();
    let log = action(server, stream, &scratch);
    let progress = lines_of(&log, "INFO", &format!("progress of 'big' to {peer}: "));
    assert!(progress.iter().all(|line| line.message.ends_with(&format!("/{BIG} bytes)"))), "{log}");
}

#[test]
fn a_file_whose_peer_goes_away_is_named() {
    for version in [1, 2] {
        with_reader(version, &[], |server, stream, _| {
            let peer = stream.local_addr().unwrap();
            // With unread bytes, closing is a reset.
            drop(stream);
            server.wait_for_log("reason: reset by peer");
            let log = server.stop().log;
            assert_cut(&log, "WARN", "big", BIG, peer, "reset by peer");
            log
        });
    }
}

#[test]
fn a_file_whose_peer_does_not_read_is_named() {
    for version in [1, 2] {
        with_reader(version, &["--idle-timeout", "0.3"], |server, stream, _| {
            server.wait_for_log("reason: idle timeout");
            let log = server.stop().log;
            assert_cut(&log, "WARN", "big", BIG, stream.local_addr().unwrap(), "idle timeout: no byte taken for 0.3 s");
            log
        });
    }
}

#[test]
fn a_file_that_is_cut_by_a_shutdown_is_named() {
    for version in [1, 2] {
        with_reader(version, &["--drain", "0.2"], |server, stream, _| {
            let log = server.stop().log;
            assert_cut(
                &log,
                "WARN",
                "big",
                BIG,
                stream.local_addr().unwrap(),
                "drain timeout: not finished within 0.2 s",
            );
            log
        });
        with_reader(version, &[], |server, stream, _| {
            server.signal(Signal::TERM);
            server.wait_for_log("stopping: SIGTERM; finishing 1 transfer within 10 s; a second signal stops at once");
            let outcome = server.into_running().finish_after(Signal::INT);
            outcome.exits(130).log_has(" - main - INFO - stopping at once: SIGINT, the second signal\n");
            assert_cut(&outcome.log, "WARN", "big", BIG, stream.local_addr().unwrap(), "shutdown");
            outcome.log.clone()
        });
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_named() {
    for version in [1, 2] {
        with_reader(version, &[], |server, mut stream, scratch| {
            File::options().write(true).open(scratch.files().join("big")).unwrap().set_len(BIG / 2).unwrap();
            // Nothing more is asked: in version 2 the connection would stay open behind the error.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            crate::harness::wire::drain(&mut stream);
            let peer = stream.local_addr().unwrap();
            drop(stream);
            server.wait_for_log("reason: ");
            let log = server.stop().log;
            let why = format!("file changed: it became shorter: {} bytes instead of {BIG}", BIG / 2);
            assert_cut(&log, "WARN", "big", BIG, peer, &why);
            log
        });
    }
}

/// Nothing of it has gone yet: version 1 waits for the digest.
#[test]
fn a_file_that_is_cut_while_it_is_hashed_is_named() {
    let scratch = Scratch::new();
    scratch.share_sparse("long", LONG);
    let server = Server::start(serve(&scratch).args(["--drain", "0"]));
    let mut stream = dial(server.addr);
    stream.write_all(&request(b"long")).unwrap();
    let peer = stream.local_addr().unwrap();
    wait_for("it to be hashed", || {
        server.signal(Signal::USR1);
        server.log().contains(&format!("hashing 'long' for {peer}: "))
    });
    let log = server.stop().log;
    assert!(log.contains(" - main - INFO - stopping: SIGTERM; cutting off 1 transfer\n"), "{log}");
    let log: String = log.lines().filter(|line| !line.contains("hashing ")).map(|line| format!("{line}\n")).collect();
    assert_cut(&log, "WARN", "long", LONG, peer, "drain timeout: not finished within 0 s");
}

/// A comparison brings no byte of the file.
#[test]
fn a_digest_that_was_not_sent_is_named() {
    let scratch = Scratch::new();
    scratch.share_sparse("long", LONG);
    let server = Server::start(serve(&scratch).args(["--drain", "0"]));
    let mut peer = Peer::dial(server.addr);
    peer.ask(&Get::of("long").digest_only(LONG));
    peer.file();
    let log = server.stop().log;
    let to = peer.stream.local_addr().unwrap();
    let lines = lines_of(
        &log,
        "WARN",
        &format!("failed to send the digest of 'long' to {to}: drain timeout: not finished within 0 s ("),
    );
    assert_eq!(lines.len(), 1, "{log}");
}

/// What a peer asked for and does not take is named too, where many small files wait in one piece.
#[test]
fn small_files_that_were_not_taken_are_named() {
    let scratch = Scratch::new();
    scratch.share("small", &[b'x'; 10_000]);
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.3"]));
    let mut peer = Peer::dial_slowly(server.addr);
    peer.say(&Get::of("small").bytes().repeat(500));
    server.wait_for_log("reason: idle timeout");
    let log = server.stop().log;
    let to = peer.stream.local_addr().unwrap();
    let cut = lines_of(&log, "WARN", "cut 'small' after ");
    let is_right = |line: &&LogLine| {
        line.message.contains(&format!("/10000 bytes to {to}: idle timeout: no byte taken for 0.3 s ("))
    };
    assert!(!cut.is_empty() && cut.len() <= 10 && cut.iter().filter(is_right).count() == cut.len(), "{cut:#?}");
    let sent = lines_of(&log, "INFO", "sent 'small' (10000 bytes) to ").len();
    let closing = log.lines().find(|line| line.contains("reason: ")).unwrap();
    assert!(closing.contains(&format!(": {sent} replies, ")), "what was cut counts as no reply: {closing}");
}

/// Lines about cuts are limited as those about refusals are.
#[test]
fn a_peer_that_cuts_again_and_again_does_not_fill_the_log() {
    let scratch = Scratch::new();
    scratch.share("small", &[b'x'; 3000]);
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.3"]));
    let mut peer = Peer::dial_slowly(server.addr);
    // Enough refusals for all the lines that the connection has.
    let many = [Get::of("none").bytes().repeat(12), Get::of("small").bytes().repeat(1500)].concat();
    peer.say(&many);
    server.wait_for_log("reason: idle timeout");
    let log = server.stop().log;
    assert_eq!(lines_of(&log, "WARN", "cut ").len(), 0, "{log}");
    assert_eq!(lines_of(&log, "WARN", "refused 'none' to ").len(), 10, "{log}");
    assert_eq!(lines_of(&log, "WARN", "refused more requests from 127.0.0.1:").len(), 1, "{log}");
}

/// By its level an operator finds what went wrong.
#[test]
fn every_line_has_the_level_of_its_kind() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share(".hidden", b"body");
    let server = Server::start(serve(&scratch).args(["--request-timeout", "0.3", "--max-conns-per-ip", "1"]));
    ask(server.addr, b"a");
    wait_for("its end", || server.log().matches("reason: ").count() == 1);
    let mut peer = Peer::dial(server.addr);
    peer.get(&Get::of("a")).assert_brings(b"body");
    for refused in [Get::of("none").bytes(), Get::of(".hidden").bytes(), frame(0x05, b"?")] {
        peer.say(&refused);
        peer.frame();
    }
    // A second one of this address is one too many, while the first has something to do.
    peer.say(&Get::of("a").bytes()[..9]);
    wait_for("half a request", || {
        let mut second = Peer::dial(server.addr);
        second.ask(&Get::of("one too many"));
        second.frame();
        server.log().contains("reason: too many connections")
    });
    wait_for("its time to be over", || server.log().contains("reason: request timeout"));
    let log = server.stop().log;
    let expected = [
        ("INFO", "sent 'a' (4 bytes) to "),
        ("WARN", "refused 'none' to "),
        ("WARN", "refused '.hidden' to "),
        ("WARN", "refused a request from "),
        ("WARN", "refused 'one too many' to "),
        ("INFO", "closed "),
        ("WARN", "closed "),
        ("INFO", "connection from "),
        ("INFO", "stopping: SIGTERM"),
        ("INFO", "stopped: "),
    ];
    for (level, begin) in expected {
        assert!(!lines_of(&log, level, begin).is_empty(), "no {level} - {begin}:\n{log}");
    }
    for line in logfile::lines(&log) {
        let Some(reason) = line.reason() else { continue };
        // Another line has said that it was one too many, as with all that is refused.
        assert_eq!(line.level, if reason == "request timeout" { "WARN" } else { "INFO" }, "{line:?}");
    }
    let told = " too many connections: an address can have at most 1 (--max-conns-per-ip)";
    assert!(log.lines().any(|line| line.contains(" - refused 'one too many' to ") && line.ends_with(told)), "{log}");
}

/// Which program, what it shares, where, and who can read that.
#[test]
fn the_start_names_the_version_and_what_is_shared() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let (version, dir) = (env!("CARGO_PKG_VERSION"), scratch.files().canonicalize().unwrap());
    let line = format!(
        " - main - INFO - xfer {version} (process {}) sharing the directory {} on {}: only this machine can reach it\n",
        server.pid(),
        dir.display(),
        server.addr
    );
    server.stop_content().log_has(&line);
}

/// A link that was switched leads elsewhere now, and the log says where.
#[test]
fn after_sighup_the_log_says_what_is_shared_now() {
    let scratch = Scratch::new();
    for release in ["41", "42"] {
        scratch.write(format!("releases/{release}/a"), release.as_bytes());
    }
    let link = scratch.path("current");
    std::os::unix::fs::symlink("releases/41", &link).unwrap();
    let server = Server::start(crate::harness::serve_dir(&scratch, &link));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("releases/42", &link).unwrap();
    server.signal(Signal::HUP);
    let now = scratch.path("releases/42").canonicalize().unwrap();
    server.wait_for_log(&format!(" - main - INFO - reopened the directory {}\n", now.display()));
    let log_file = scratch.path("server.log");
    server.wait_for_log(&format!(" - main - INFO - reopened the log file {}\n", log_file.display()));
    assert!(ask(server.addr, b"a").ends_with(b"42"));
    server.stop_content();
}

/// A log that was rotated begins with what every log begins with: which program, which process, what and where.
#[test]
fn a_rotated_log_begins_like_any_other() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    std::fs::rename(scratch.path("server.log"), scratch.path("server.log.1")).unwrap();
    server.signal(Signal::HUP);
    wait_for("both lines of the new log", || {
        scratch.path("server.log").exists() && server.log().contains("reopened the directory ")
    });
    let log = server.log();
    let first = logfile::lines(&log).remove(0).message;
    let (version, dir) = (env!("CARGO_PKG_VERSION"), scratch.files().canonicalize().unwrap());
    let begin = format!("xfer {version} (process {}, up ", server.pid());
    let end = format!(" s) sharing the directory {} on {}", dir.display(), server.addr);
    assert!(first.starts_with(&begin) && first.ends_with(&end), "{log}");
    server.stop_content();
}

/// How fast, in the units of all that a person reads; and which clients still speak version 1.
#[test]
fn a_sent_file_has_its_speed_and_an_old_client_its_version() {
    let scratch = Scratch::new();
    scratch.share("a", &[b'x'; 5000]);
    scratch.share("empty", b"");
    let server = Server::of(&scratch);
    ask(server.addr, b"a");
    let mut peer = Peer::dial(server.addr);
    peer.get(&Get::of("a")).assert_brings(&[b'x'; 5000]);
    peer.get(&Get::of("empty")).assert_brings(b"");
    drop(peer);
    wait_for("both to be closed", || server.log().matches("reason: ").count() == 2);
    let log = server.stop_content().log;
    let sent = lines_of(&log, "INFO", "sent 'a' (5000 bytes) to ");
    let has_speed = |line: &LogLine| line.message.ends_with("iB/s") && line.message.contains(" s, ");
    assert!(sent.len() == 2 && sent.iter().all(has_speed), "{sent:#?}");
    assert!(lines_of(&log, "INFO", "sent 'empty' (0 bytes) to ")[0].message.ends_with(" s"), "{log}");
    let closed: Vec<bool> =
        lines_of(&log, "INFO", "closed ").iter().map(|line| line.message.contains(" s, version 1, reason: ")).collect();
    assert_eq!(closed, [true, false], "{log}");
}

/// Ten lines within a millisecond say no more than one.
#[test]
fn a_small_file_that_goes_fast_logs_no_progress() {
    let scratch = Scratch::new();
    scratch.share_sparse("small", 1_000_000);
    scratch.share_sparse("large", 10_000_000);
    let server = Server::of(&scratch);
    for name in ["small", "large"] {
        let mut peer = Peer::dial(server.addr);
        peer.ask(&Get::of(name));
        peer.finish_asking();
        crate::harness::wire::drain(&mut peer.stream);
    }
    wait_for("both to be closed", || server.log().matches("reason: ").count() == 2);
    let log = server.stop_content().log;
    assert_eq!(lines_of(&log, "INFO", "progress of 'large' to ").len(), 10, "{log}");
    // On a machine that is very busy it may take a second.
    let took = |line: &LogLine| -> f64 {
        line.message.split(" in ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    let was_fast = took(&lines_of(&log, "INFO", "sent 'small' ")[0]) < 1.0;
    assert!(!was_fast || lines_of(&log, "INFO", "progress of 'small' to ").is_empty(), "{log}");
}
