//! Files arrive whole, under the right name, from one client or many.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::harness::{Outcome, Running, Scratch, Server, content, cores, get, md5_hex, plain_get, process, wire};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One client, one file, in order: what it says and what it leaves.
fn assert_saved(outcome: &Outcome, scratch: &Scratch, name: &str, body: &[u8]) {
    let path = scratch.out().join(name);
    outcome.exits(0).prints_nothing_on_stdout().stderr_has("verified");
    let saved = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), outcome.report()));
    outcome.assert(saved == body, &format!("{name} must hold the {} bytes that were served", body.len()));
}

#[test]
fn one_file_is_saved_and_told_in_one_line() {
    let scratch = Scratch::new();
    let body = content(1, 10_000);
    scratch.share("a.bin", &body);
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a.bin").run();
    assert_saved(&outcome, &scratch, "a.bin", &body);
    outcome.assert(outcome.stderr.lines().count() == 1, "one line on stderr");
    outcome.assert(outcome.stderr.starts_with("saved "), "it begins with `saved`");
    outcome.stderr_has("out/a.bin: ").stderr_has(&md5_hex(&body)).shows_no_control_characters();
    assert_eq!(scratch.names("out"), ["a.bin"]);
    let log = server.stop_content().log;
    assert!(log.contains("sent 'a.bin' (10000 bytes) to 127.0.0.1:"), "{log}");
    assert!(log.contains("1 reply, 10000 bytes") || log.contains("1 reply, 10"), "{log}");
    assert!(log.contains("reason: complete"), "{log}");
}

#[test]
fn sizes_around_every_edge() {
    let scratch = Scratch::new();
    let edges = [4 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, MIB, 2 * MIB];
    let around = edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]);
    let sizes: Vec<usize> = [0, 1, 10_000_000].into_iter().chain(around).collect();
    let name = |size: &usize| format!("{size}.bin");
    for size in &sizes {
        scratch.share(name(size), &content(*size as u64, *size));
    }
    let server = Server::of(&scratch);
    // One command for all files, and one command for each: the first file of a process and the later ones.
    let outcome = get(&scratch, server.addr).args(sizes.iter().map(name)).run();
    for size in &sizes {
        assert_saved(&outcome, &scratch, &name(size), &content(*size as u64, *size));
    }
    outcome.stderr_has(&format!("{0} of {0} saved", sizes.len()));
    fs::remove_dir_all(scratch.out()).unwrap();
    for size in &sizes {
        let outcome = get(&scratch, server.addr).arg(name(size)).run();
        assert_saved(&outcome, &scratch, &name(size), &content(*size as u64, *size));
    }
    server.stop_content();
}

#[test]
fn awkward_names_are_served_and_saved_as_they_are() {
    let scratch = Scratch::new();
    let long = "n".repeat(255);
    let long_unicode = "é".repeat(127);
    let names = [
        "help",
        "with space",
        " leading and trailing ",
        "naïve-日本語-🦀.txt",
        "it's \"quoted\" `here`.txt",
        "back\\slash",
        "$HOME;*?[a]&|<>%n%s{}",
        "a.b..c",
        "two..dots",
        "..fine..".trim_start_matches('.'),
        "=value",
        "127.0.0.1.txt",
        &long,
        &long_unicode,
    ];
    for (number, name) in names.iter().enumerate() {
        scratch.share(name, &content(number as u64, 1000 + number));
    }
    let server = Server::of(&scratch);
    for (number, name) in names.iter().enumerate() {
        let outcome = get(&scratch, server.addr).arg(name).run();
        assert_saved(&outcome, &scratch, name, &content(number as u64, 1000 + number));
    }
    assert_eq!(scratch.names("out").len(), names.len());
    server.stop_content();
}

#[test]
fn names_that_look_like_options() {
    let scratch = Scratch::new();
    for name in ["-x", "--help", "--version", "-o"] {
        scratch.share(name, name.as_bytes());
    }
    let server = Server::of(&scratch);
    for name in ["-x", "--help", "--version", "-o"] {
        let outcome = get(&scratch, server.addr).args(["--", name]).run();
        assert_saved(&outcome, &scratch, name, name.as_bytes());
    }
    fs::remove_file(scratch.out().join("-x")).unwrap();
    let outcome = get(&scratch, server.addr).arg("./-x").run();
    assert_saved(&outcome, &scratch, "-x", b"-x");
    server.stop_content();
}

/// A file may be called anything; what the terminal and the log show of it is escaped.
#[test]
fn names_with_control_characters_are_escaped_where_they_are_shown() {
    let scratch = Scratch::new();
    let names = ["new\nline", "esc\x1b[31m", "tab\t", "del\x7f", "c1\u{9b}31m", "turn\u{202e}ed"];
    for name in names {
        scratch.share(name, name.as_bytes());
    }
    let server = Server::of(&scratch);
    for name in names {
        let outcome = get(&scratch, server.addr).arg(name).run();
        assert_saved(&outcome, &scratch, name, name.as_bytes());
        outcome.shows_no_control_characters();
    }
    server.stop_content();
}

/// Version 1 sends UTF-8: another name cannot be asked for in it, and must be refused without a panic or a wrong file.
#[test]
fn a_name_that_is_not_utf8_needs_version_2() {
    let scratch = Scratch::new();
    let name = std::ffi::OsStr::from_bytes(b"latin-\xe9");
    fs::write(scratch.files().join(name), b"body").unwrap();
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg(name).run();
    outcome.exits(0).stderr_has("verified").shows_no_control_characters();
    assert_eq!(fs::read(scratch.out().join(name)).unwrap(), b"body");
    fs::remove_file(scratch.out().join(name)).unwrap();
    let outcome = get(&scratch, server.addr).arg("--v1").arg(name).run();
    let code = outcome.status.code();
    outcome.assert(matches!(code, Some(1..=5)), "an error, not a crash").has_one_error_line();
    outcome.shows_no_control_characters();
    assert_eq!(scratch.names("out"), [""; 0]);
}

#[test]
fn a_name_in_a_sub_directory_is_saved_as_its_last_component() {
    let scratch = Scratch::new();
    scratch.share("a/b/c.txt", b"deep");
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a/b/c.txt").run();
    assert_saved(&outcome, &scratch, "c.txt", b"deep");
    assert_eq!(scratch.names("out"), ["c.txt"]);
    server.stop_content();
}

#[test]
fn one_missing_file_does_not_keep_the_others_from_being_saved() {
    let scratch = Scratch::new();
    scratch.share("a", b"first");
    scratch.share("c", b"third");
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).args(["a", "b", "c"]).run();
    outcome.exits(1).stderr_has("2 of 3 saved").stderr_has("b").prints_nothing_on_stdout();
    outcome.stderr_has("not found");
    assert_eq!(scratch.names("out"), ["a", "c"]);
    assert_eq!(fs::read(scratch.out().join("c")).unwrap(), b"third");
    server.stop();
}

/// Without a terminal there is no bar, unless it is asked for; and in no mode a byte on stdout.
#[test]
fn progress_in_every_mode() {
    let scratch = Scratch::new();
    let body = content(1, 5_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    for mode in ["auto", "always", "never"] {
        let outcome = get(&scratch, server.addr).args(["--force", "--progress", mode, "a"]).run();
        assert_saved(&outcome, &scratch, "a", &body);
        if mode != "always" {
            outcome.shows_no_control_characters();
            outcome.assert(outcome.stderr.lines().count() == 1, "one line on stderr");
        }
    }
    server.stop_content();
}

#[test]
fn from_file_lists_what_to_get() {
    let scratch = Scratch::new();
    scratch.share("a", b"first");
    scratch.share("b with space", b"second");
    scratch.write("list", b"a\nb with space\n");
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).args(["--from-file", "list"]).run();
    outcome.exits(0).stderr_has("2 of 2 saved");
    assert_eq!(scratch.names("out"), ["a", "b with space"]);
    fs::remove_dir_all(scratch.out()).unwrap();
    let list = fs::File::open(scratch.path("list")).unwrap();
    let outcome = get(&scratch, server.addr).args(["--from-file", "-"]).stdin(list).run();
    outcome.exits(0).stderr_has("2 of 2 saved");
    assert_eq!(scratch.names("out"), ["a", "b with space"]);
    server.stop_content();
}

/// The issue's own measure: 100 clients, one thread, less than 30 MB.
#[test]
fn a_hundred_clients_at_once_in_one_thread_and_30_mb() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let body = content(7, 10_000_000);
    scratch.share("a.bin", &body);
    let server = Server::of(&scratch);
    let start = |number| {
        let program = plain_get(&scratch, server.addr).own_log().args(["--no-log", "--no-sync"]);
        program.args(["-o", &format!("out-{number}"), "a.bin"]).spawn()
    };
    let clients: Vec<Running> = (0..100).map(start).collect();
    for (number, client) in clients.into_iter().enumerate() {
        client.finish().exits(0).stderr_has("verified");
        let path = scratch.path(format!("out-{number}"));
        assert!(fs::read(&path).unwrap() == body, "{} differs", path.display());
        assert_eq!(process::threads(server.pid()), 1);
    }
    let peak = process::peak_resident_kib(server.pid());
    assert!(peak < 30_000, "{peak} KiB resident at the peak");
    let log = server.stop_content().log;
    assert_eq!(log.matches("reason: complete").count(), 100, "{log}");
}

/// tmpfs refuses the reads that do not wait (RWF_NOWAIT): the server must fall back.
#[test]
fn a_root_on_tmpfs_is_served() {
    let scratch = Scratch::in_memory();
    let body = content(3, 3_000_000);
    scratch.share("a.bin", &body);
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a.bin").run();
    assert_saved(&outcome, &scratch, "a.bin", &body);
    server.stop();
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_breaks_the_reply_off() {
    let scratch = Scratch::new();
    let path = scratch.share_sparse("big", 40_000_000);
    let server = Server::of(&scratch);
    let mut stream = wire::dial_slowly(server.addr);
    stream.write_all(&wire::request(b"big")).unwrap();
    assert_eq!(wire::read_head(&mut stream).size, 40_000_000);
    truncate(&path, 1_000_000);
    let received = wire::drain(&mut stream);
    assert!(received < 40_000_000, "the rest of the file is gone: it cannot have been sent");
    server.wait_for_log("reason: file changed");
    server.stop();
}

fn truncate(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}
