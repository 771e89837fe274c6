//! The logs on both sides: their names, modes and lines, and that no trouble with them ever stops a transfer.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::logfile::{self, matches_picture};
use crate::harness::wire::{ask, dial_slowly, drain, read_head, request};
use crate::harness::{Program, Scratch, Server, content, cores, get, plain_get, process, serve, wait_for};

/// More connections than lines fit into a pipe that nobody reads (64 KiB).
const MORE_THAN_A_PIPE: usize = 1000;

fn assert_log_file(dir: &Path, prefix: &str) -> String {
    let entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let name = entries[0].file_name().unwrap().to_str().unwrap();
    assert!(matches_picture(name, &format!("{prefix}_00000000_000000.log")), "{name}");
    let mode = fs::metadata(&entries[0]).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o640 & !process::umask(), "mode {mode:o}");
    fs::read_to_string(&entries[0]).unwrap()
}

fn assert_served(addr: SocketAddr, name: &str, body: &[u8]) {
    let reply = ask(addr, name.as_bytes());
    assert!(reply.starts_with(b"OK") && reply.ends_with(body), "{name}: {}", reply.escape_ascii());
}

#[test]
fn both_sides_log_into_the_folder_logs_by_default() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let client_dir = scratch.path("client");
    fs::create_dir(&client_dir).unwrap();
    let server = Server::start(serve(&scratch).own_log());
    let program = plain_get(&scratch, server.addr).own_log().in_dir(&client_dir).arg("a");
    program.run().exits(0).stderr_has("saved client_downloads/a: ");
    server.stop();
    let server_log = assert_log_file(&scratch.path("logs"), "server");
    logfile::assert_each_connection_closed_once(&server_log);
    assert!(server_log.contains("sent 'a' (4 bytes) to 127.0.0.1:"), "{server_log}");
    let client_log = assert_log_file(&client_dir.join("logs"), "client");
    assert!(!logfile::lines(&client_log).is_empty());
    assert!(client_log.contains(" - main - INFO - attempt 1 of 5: 'a' from 127.0.0.1:"), "{client_log}");
}

/// Started within one second, they would have one name; the lines of two processes in one file help nobody.
#[test]
fn a_log_name_that_is_taken_gets_the_process_id() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let start = |number: usize| {
        let program = plain_get(&scratch, server.addr).own_log().args(["--log-dir", "shared-logs", "-o"]);
        program.arg(format!("out-{number}")).arg("a").spawn()
    };
    let clients: Vec<_> = (0..8).map(start).collect();
    for client in clients {
        client.finish().exits(0).stderr_has("verified");
    }
    let names = scratch.names("shared-logs");
    assert_eq!(names.len(), 8, "{names:?}");
    let shape = |name: &String| {
        let (stem, pid) =
            (name[..22.min(name.len())].to_owned(), name.get(22..).unwrap_or("").trim_end_matches(".log"));
        let number = pid.strip_prefix('_').unwrap_or("0");
        matches_picture(&stem, "client_00000000_000000") && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    assert!(names.iter().all(shape), "{names:?}");
}

/// Containers that share a folder for logs: one process id, one second, and each has a log of its own. Who comes late finds
/// the other names taken, whatever time it is.
#[test]
fn processes_of_one_number_have_logs_of_their_own() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    fs::create_dir(scratch.path("logs")).unwrap();
    let now = jiff::Zoned::now();
    // The shell takes its own number for the names that are in the way, and then becomes the client.
    let stamps = (0..60).map(|seconds| {
        let then = &now + jiff::SignedDuration::from_secs(seconds);
        then.strftime("client_%Y%m%d_%H%M%S").to_string()
    });
    let taken: String = stamps
        .map(|stamp| format!(": >logs/{stamp}.log; : >logs/{stamp}_$$.log; : >logs/{stamp}_$$_2.log\n"))
        .collect();
    let before = 3 * 60;
    get(&scratch, server.addr).own_log().after(&taken).arg("a").run().exits(0);
    let names = scratch.names("logs");
    assert_eq!(names.len(), before + 1, "{names:?}");
    let own: Vec<&String> = names.iter().filter(|name| name.ends_with("_3.log")).collect();
    assert_eq!(own.len(), 1, "{names:?}");
    assert!(!logfile::lines(&fs::read_to_string(scratch.path("logs").join(own[0])).unwrap()).is_empty());
    server.stop();
}

/// The times of the lines and of the name, for each way to name a zone: a place, a file, a rule.
#[test]
fn the_log_is_in_the_time_zone_that_tz_names() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let place = Path::new("/usr/share/zoneinfo/Asia/Kolkata");
    let mut zones = vec![("<+0530>-5:30", true), ("", false), ("UTC", false)];
    if place.exists() {
        zones.extend([("Asia/Kolkata", true), (":Asia/Kolkata", true), ("/usr/share/zoneinfo/Asia/Kolkata", true)]);
    } else {
        eprintln!("not tried: names of time zones (package tzdata is not installed)");
    }
    for (zone, is_in_india) in zones {
        let ahead = jiff::SignedDuration::from_mins(if is_in_india { 5 * 60 + 30 } else { 0 });
        let local = || (jiff::Timestamp::now() + ahead).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let before = local();
        get(&scratch, server.addr).env("TZ", zone).args(["--force", "a"]).run().exits(0);
        let after = local();
        let log = fs::read_to_string(scratch.path("client.log")).unwrap();
        let last = log.lines().last().unwrap_or_default().get(..19).unwrap_or_default().to_owned();
        assert!(before <= last && last <= after, "TZ={zone}: {last} is not in {before} to {after}:\n{log}");
        fs::remove_file(scratch.path("client.log")).unwrap();
    }
    server.stop();
}

/// One that is not there is UTC, as everywhere, and the log says so.
#[test]
fn a_time_zone_that_is_unknown_is_told_of() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).env("TZ", "Nowhere/At All").arg("a").run();
    outcome.exits(0).log_has(" - main - WARN - unknown time zone 'Nowhere/At All' in TZ: the log is in UTC");
    server.stop();
}

#[test]
fn a_named_log_file_is_used_and_appended_to() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("server.log", b"2026-01-15 20:10:33.123 - main - INFO - an older line\n");
    let server = Server::of(&scratch);
    assert_served(server.addr, "a", b"body");
    let log = server.stop_content().log;
    assert!(log.starts_with("2026-01-15 20:10:33.123 - main - INFO - an older line\n"), "{log}");
    assert!(log.contains("sent 'a'") && !scratch.path("logs").exists());
}

#[test]
fn no_log_writes_no_log() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).own_log().arg("--no-log"));
    get(&scratch, server.addr).own_log().args(["--no-log", "a"]).run().exits(0);
    server.stop_content();
    assert_eq!(scratch.names(""), ["files", "out"]);
}

/// A file is in the way of the folder: unwritable even for root.
#[test]
fn a_default_log_folder_that_cannot_be_made_is_a_warning() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("logs", b"in the way");
    let server = Server::start(serve(&scratch).own_log());
    let outcome = get(&scratch, server.addr).own_log().arg("a").run();
    outcome.exits(0).stderr_has("logs").stderr_has("verified");
    let served = server.stop();
    served.stderr_has("logs");
    let warnings = served.stderr.lines().filter(|line| line.contains("WARN")).count();
    served.assert(warnings <= 1, "one warning is enough");
}

#[test]
fn a_named_log_that_cannot_be_written_is_an_error() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let blocker = scratch.write("in-the-way", b"");
    let beneath = blocker.join("x.log");
    let server = Server::of(&scratch);
    for (option, path) in [("--log-dir", &blocker), ("--log-file", &beneath), ("--log-dir", &beneath)] {
        let outcome = serve(&scratch).own_log().arg(option).arg(path).run();
        outcome.exits(1).has_one_error_line().stderr_has("in-the-way").prints_nothing_on_stdout();
        let outcome = get(&scratch, server.addr).own_log().arg(option).arg(path).arg("a").run();
        outcome.exits(5).has_one_error_line().stderr_has("in-the-way");
    }
    assert_eq!(scratch.names("out"), [""; 0]);
    server.stop_content();
}

#[test]
fn two_kinds_of_log_are_a_mistake() {
    let scratch = Scratch::new();
    for options in [["--no-log", "--log-file=x"], ["--no-log", "--log-dir=x"], ["--log-dir=x", "--log-file=x"]] {
        serve(&scratch).own_log().args(options).run().exits(2).has_one_error_line();
    }
}

/// A reader that takes its time sees every tenth go by; the log shows them in order, each once.
#[test]
fn progress_is_logged_every_ten_percent() {
    let scratch = Scratch::new();
    let size = 60_000_000;
    scratch.share_sparse("big", size);
    let server = Server::of(&scratch);
    let mut reader = dial_slowly(server.addr);
    let peer = reader.local_addr().unwrap();
    std::io::Write::write_all(&mut reader, &request(b"big")).unwrap();
    assert_eq!(read_head(&mut reader).size, size);
    assert_eq!(drain(&mut reader), size);
    drop(reader);
    server.wait_for_log("reason: complete");
    let log = server.stop_content().log;
    let progress: Vec<(u64, u64)> = log.lines().filter_map(|line| progress_of(line, peer, size)).collect();
    let steps: Vec<u64> = progress.iter().map(|(step, _)| *step).filter(|step| *step < 100).collect();
    assert_eq!(steps, [10, 20, 30, 40, 50, 60, 70, 80, 90], "{log}");
    for (step, bytes) in progress {
        assert!(bytes * 100 >= step * size && bytes * 100 < (step + 10) * size, "{step}% of {size} are not {bytes}");
    }
    let closing = format!("closed {peer}: 1 reply, ");
    assert_eq!(log.matches(&closing).count(), 1, "{log}");
}

/// `progress of 'big' to ADDR: 40% (419430/1048576 bytes)`
fn progress_of(line: &str, peer: SocketAddr, size: u64) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once(&format!("progress of 'big' to {peer}: "))?;
    let (step, rest) = rest.split_once("% (").unwrap();
    let bytes = rest.strip_suffix(&format!("/{size} bytes)")).unwrap();
    Some((step.parse().unwrap(), bytes.parse().unwrap()))
}

#[test]
fn a_file_of_one_turn_logs_no_progress() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 1000));
    let server = Server::of(&scratch);
    ask(server.addr, b"a");
    let log = server.stop_content().log;
    assert!(!log.contains("progress"), "{log}");
}

/// One line for each way to end, each under its own name.
#[test]
fn every_connection_closes_with_one_line_and_its_reason() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share_sparse("big", 50_000_000);
    let server = Server::start(serve(&scratch).args(["--request-timeout", "0.3"]));
    ask(server.addr, b"a");
    ask(server.addr, b"none");
    ask(server.addr, &[b'n'; 5000]);
    crate::harness::wire::exchange(server.addr, b"GET / HTTP/1.0\r\n\r\n");
    crate::harness::wire::exchange(server.addr, b"\0");
    drop(crate::harness::wire::dial(server.addr));
    wait_for("six closing lines", || server.log().matches("reason: ").count() == 6);
    let mut reader = dial_slowly(server.addr);
    std::io::Write::write_all(&mut reader, &request(b"big")).unwrap();
    read_head(&mut reader);
    // Closing with unread bytes is a reset.
    drop(reader);
    wait_for("the seventh closing line", || server.log().matches("reason: ").count() == 7);
    let log = server.stop().log;
    let mut reasons = logfile::reasons(&log);
    let last = reasons.pop().unwrap();
    reasons.sort();
    let expected = ["bad request", "complete", "peer closed", "refused", "request timeout", "unknown protocol"];
    assert_eq!(reasons, expected, "{log}");
    assert!(last == "reset by peer" || last == "peer closed", "{log}");
    assert!(log.contains("0 replies, 0 bytes") || log.contains("0 replies, "), "{log}");
    logfile::assert_each_connection_closed_once(&log);
}

#[test]
fn sighup_reopens_the_log() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share("b", b"body");
    let server = Server::of(&scratch);
    assert_served(server.addr, "a", b"body");
    server.wait_for_log("reason: complete");
    let log = scratch.path("server.log");
    fs::rename(&log, scratch.path("server.log.1")).unwrap();
    server.signal(Signal::HUP);
    wait_for("the log to be opened again", || log.exists());
    assert_served(server.addr, "b", b"body");
    let new = server.stop_content().log;
    let old = scratch.text("server.log.1");
    assert!(old.contains("sent 'a'") && !old.contains("sent 'b'"), "{old}");
    assert!(new.contains("sent 'b'") && !new.contains("sent 'a'"), "{new}");
}

/// The new place cannot be opened: better the old log than none, and no end of the service.
#[test]
fn sighup_without_a_place_for_the_log_goes_on() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let dir = scratch.path("logdir");
    fs::create_dir(&dir).unwrap();
    let server = Server::start(serve(&scratch).log_file(dir.join("x.log")));
    fs::rename(&dir, scratch.path("gone")).unwrap();
    fs::write(&dir, b"in the way").unwrap();
    server.signal(Signal::HUP);
    (0..5).for_each(|_| assert_served(server.addr, "a", b"body"));
    server.stop();
}

/// Both sides: ENOSPC on every line.
#[test]
fn a_full_log_disk_stops_no_transfer() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    scratch.share("a", &body);
    let server = Server::start(serve(&scratch).own_log().args(["--log-file", "/dev/full"]));
    for _ in 0..5 {
        let program = get(&scratch, server.addr).own_log().args(["--log-file", "/dev/full", "--force", "a"]);
        program.run().exits(0).stderr_has("verified");
        assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    }
    let outcome = server.into_running().finish_after(Signal::TERM);
    outcome.exits(0).stderr_has("sent 'a'");
}

/// The log reaches the limit on the size of a file: as full as a full disk, and a signal that kills by default.
#[test]
fn a_log_at_its_size_limit_stops_no_transfer() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let limit = Rlimit { current: Some(2000), maximum: Some(2000) };
    prlimit(Some(server.process()), Resource::Fsize, limit).unwrap();
    for _ in 0..100 {
        let reply = ask(server.addr, b"none");
        assert!(reply.starts_with(b"ERROR"), "{}", reply.escape_ascii());
    }
    assert_served(server.addr, "a", b"body");
    server.into_running().finish_after(Signal::TERM).exits(0);
    assert!(fs::metadata(scratch.path("server.log")).unwrap().len() <= 2000);
}

fn assert_serves_many(scratch: &Scratch, server: &Server) {
    for _ in 0..MORE_THAN_A_PIPE {
        let reply = ask(server.addr, b"none, with a name that makes the lines of the log a little longer");
        assert!(reply.starts_with(b"ERROR"), "{}", reply.escape_ascii());
    }
    let outcome = get(scratch, server.addr).args(["--force", "a"]).run();
    outcome.exits(0).stderr_has("verified");
}

/// `xfer serve 2>&1 | less`, and nobody scrolls.
#[test]
fn a_console_that_nobody_reads_does_not_stop_the_server() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let server = Server::start(serve(&scratch).stderr(writer));
    assert_serves_many(&scratch, &server);
    let log = server.log();
    assert!(log.matches("refused '").count() >= MORE_THAN_A_PIPE, "the log file is complete all the same");
    server.stop();
    let mut console = String::new();
    reader.read_to_string(&mut console).unwrap();
    assert!(console.contains("refused '"), "what fitted is there: {console}");
}

#[test]
fn a_console_that_has_gone_away_does_not_stop_the_server() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::start(serve(&scratch).stderr(writer));
    assert_serves_many(&scratch, &server);
    server.stop();
}

#[test]
fn a_closed_console_does_not_stop_either_side() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).after("exec 2>&-"));
    let outcome = get(&scratch, server.addr).arg("a").after("exec 2>&- 0<&-").run();
    outcome.exits(0);
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), b"body");
    // A descriptor 2 that belongs to a socket or a file by now would show as log lines in the wrong place.
    assert_serves_many(&scratch, &server);
    assert_served(server.addr, "a", b"body");
    server.stop();
}

#[test]
fn a_full_console_does_not_stop_the_client() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    get(&scratch, server.addr).arg("a").stderr(full).run().exits(0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    get(&scratch, server.addr).args(["--force", "a"]).stderr(writer).run().exits(0);
    server.stop_content();
}

/// A client with the server's log on stderr, and quiet or talkative at will.
#[test]
fn quiet_and_verbose() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let _cores = cores::quiet_cores();
    let server = Server::start(serve(&scratch).arg("-q"));
    get(&scratch, server.addr).args(["-q", "a"]).run().exits(0).assert_quiet();
    let outcome = get(&scratch, server.addr).args(["-q", "none"]).run();
    outcome.exits(1).has_one_error_line();
    let served = server.stop();
    served.assert(!served.stderr.contains(" - INFO - "), "no INFO on the console with -q");
    let server = Server::start(serve(&scratch).log_file(scratch.path("verbose.log")).arg("-v"));
    get(&scratch, server.addr).args(["-v", "--force", "a"]).run().exits(0).stderr_has("replaced ");
    server.stop();
}

/// Lines on the console have the shape of those in the file.
#[test]
fn the_console_shows_the_log() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    assert_served(server.addr, "a", b"body");
    let outcome = server.stop_content();
    for fragment in ["connection from 127.0.0.1:", "sent 'a' (4 bytes) to 127.0.0.1:", "reason: complete"] {
        let of_console = outcome.stderr.lines().find(|line| line.contains(fragment));
        outcome.assert(of_console.is_some_and(|line| logfile::LogLine::parse(line).is_some()), fragment);
    }
}

/// What a person needs to start: who can read what, and the line to paste on another machine.
#[test]
fn the_start_says_how_to_fetch() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch));
    server.wait_for_stderr("xfer get ");
    server.wait_for_stderr("files");
    server.stop_content();
}

/// The journal of a service manager is a socket or a pipe, and stdin is /dev/null or closed.
#[test]
fn stdin_does_not_matter() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).stdin(Stdio::piped()));
    let program: Program = get(&scratch, server.addr).arg("a").stdin(Stdio::piped());
    program.run().exits(0);
    server.stop_content();
}

/// In a folder that others write to, what waits under the next names leads elsewhere.
#[test]
fn a_log_is_never_opened_through_a_link() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let victim = scratch.write("victim", b"precious");
    let now = jiff::Zoned::now();
    for seconds in 0..60 {
        let stamp = (&now + jiff::SignedDuration::from_secs(seconds)).strftime("%Y%m%d_%H%M%S").to_string();
        fs::create_dir_all(scratch.path("logs")).unwrap();
        symlink(&victim, scratch.path(format!("logs/client_{stamp}.log"))).unwrap();
    }
    let server = Server::of(&scratch);
    get(&scratch, server.addr).own_log().args(["--log-dir"]).arg(scratch.path("logs")).arg("a").run().exits(0);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    let regular = |name: &String| scratch.path("logs").join(name).symlink_metadata().unwrap().is_file();
    assert_eq!(scratch.names("logs").iter().filter(|name| regular(name)).count(), 1, "its own log under another name");
    server.stop();
}
