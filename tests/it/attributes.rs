//! What a saved file has besides its bytes, what is said of it, and what is there already.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use crate::harness::content::{digest, hex, md5_hex};
use crate::harness::wire2::{self, BLAKE3};
use crate::harness::{Plan, Program, Relay, Scratch, Server, content, get, process};
use crate::scripted_server::ScriptedServer;

/// What a comparison may cost on the wire, in both directions.
const HEADER_ONLY: u64 = 4096;

fn quick_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01"])
}

#[test]
fn the_time_of_modification_is_kept() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let times = [
        UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        UNIX_EPOCH,
        UNIX_EPOCH - Duration::new(86_400, 500_000_000),
        UNIX_EPOCH + Duration::new(4_000_000_000, 1),
    ];
    for time in times {
        let source = scratch.share("a", b"body");
        File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
        let outcome = quick_get(&scratch, server.addr).args(["--force", "a"]).run();
        outcome.exits(0);
        let saved = fs::metadata(scratch.out().join("a")).unwrap();
        let source = fs::metadata(source).unwrap();
        let time = |meta: &fs::Metadata| (meta.mtime(), meta.mtime_nsec());
        outcome.assert(time(&saved) == time(&source), &format!("{:?} expected, got {:?}", time(&source), time(&saved)));
    }
    server.stop_content();
}

/// Also where it comes in two pieces.
#[test]
fn the_time_of_a_resumed_file_is_kept() {
    let scratch = Scratch::new();
    let source = scratch.share("a", &content(1, 3_000_000));
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 987_654_321);
    File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(2_000_000, crate::harness::Cut::Reset),
        _ => Plan::faithful(),
    });
    quick_get(&scratch, relay.addr).arg("a").run().exits(0);
    assert_eq!(fs::metadata(scratch.out().join("a")).unwrap().modified().unwrap(), time);
    server.stop();
}

/// The permission bits, less what the umask takes; never set-id or sticky.
#[test]
fn the_mode_is_the_source_s_less_the_umask() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for (mode, umask) in [(0o644, 0o022), (0o755, 0o022), (0o777, 0o027), (0o600, 0o022), (0o666, 0), (0o444, 0o077)] {
        for special in [0, 0o4000, 0o2000, 0o1000, 0o7000] {
            let source = scratch.share("a", b"body");
            fs::set_permissions(&source, Permissions::from_mode(mode | special)).unwrap();
            let program = quick_get(&scratch, server.addr).args(["--force", "a"]);
            let outcome = program.after(&format!("umask {umask:03o}")).run();
            outcome.exits(0);
            let saved = fs::metadata(scratch.out().join("a")).unwrap().mode() & 0o7777;
            let expected = mode & !umask;
            outcome.assert(saved == expected, &format!("{:o} of {mode:o}, not {saved:o}", expected));
            fs::remove_file(source).unwrap();
        }
    }
    server.stop();
}

/// The server's word on modes is only a number.
#[test]
fn a_mode_of_strange_bits_is_cut_down() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|_, _| {
        let file = wire2::File { mode: u32::MAX, ..wire2::File::of(b"body") };
        [file.bytes(), wire2::data(b"body"), wire2::digest(&digest(1, b"body"))].concat()
    });
    let outcome = quick_get(&scratch, server.addr).args(["--retries", "1", "a"]).run();
    match outcome.status.code() {
        Some(0) => {
            let mode = fs::metadata(scratch.out().join("a")).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o777 & !process::umask(), "mode {mode:o}");
        }
        _ => _ = outcome.exits(4),
    }
}

#[test]
fn the_closing_line_names_the_digest() {
    let scratch = Scratch::new();
    let body = content(2, 100_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let outcome = quick_get(&scratch, server.addr).args(["--checksum", "blake3", "a"]).run();
    outcome.exits(0).stderr_has(&format!("blake3 {}", hex(&digest(BLAKE3, &body)))).stderr_has("verified");
    outcome.assert(outcome.stderr.lines().count() == 1, "one line");
    let outcome = quick_get(&scratch, server.addr).args(["--force", "--checksum", "md5", "a"]).run();
    outcome.exits(0).stderr_has(&format!("md5 {}", md5_hex(&body))).stderr_has("verified");
    let outcome = quick_get(&scratch, server.addr).args(["--force", "a"]).run();
    outcome.exits(0).stderr_has(&format!("md5 {}", md5_hex(&body)));
    server.stop_content();
}

#[test]
fn a_file_that_is_there_costs_a_header() {
    for options in [&[][..], &["--checksum", "blake3"]] {
        let scratch = Scratch::new();
        let body = content(3, 5_000_000);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        quick_get(&scratch, server.addr).arg("a").run().exits(0);
        let target = scratch.out().join("a");
        let before = fs::metadata(&target).unwrap();
        let relay = Relay::of(server.addr, Plan::faithful());
        let outcome = quick_get(&scratch, relay.addr).args(options).arg("a").run();
        outcome.exits(0).stderr_has("already up to date").prints_nothing_on_stdout();
        relay.wait_until_quiet();
        assert!(relay.traffic() < HEADER_ONLY, "{}", relay.report());
        let after = fs::metadata(&target).unwrap();
        let identity =
            |meta: &fs::Metadata| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        outcome.assert(identity(&before) == identity(&after), "untouched");
        assert_eq!(scratch.names("out"), ["a"]);
        server.stop_content();
    }
}

#[test]
fn other_content_of_the_same_size_is_fetched() {
    let scratch = Scratch::new();
    let body = content(4, 1_000_000);
    scratch.share("a", &body);
    scratch.write("out/a", &content(5, 1_000_000));
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = quick_get(&scratch, relay.addr).arg("a").run();
    outcome.exits(0).stderr_has("verified").stderr_lacks("already up to date");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    relay.wait_until_quiet();
    assert!(relay.to_client() < 1_000_000 + HEADER_ONLY, "{}", relay.report());
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    server.stop_content();
}

/// For another size not even a digest is made.
#[test]
fn content_of_another_size_is_fetched() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for (old, new) in [(10, 100_000), (100_000, 10), (0, 10), (10, 0)] {
        let body = content(6, new);
        scratch.share("a", &body);
        scratch.write("out/a", &content(7, old));
        let outcome = quick_get(&scratch, server.addr).arg("a").run();
        outcome.exits(0).stderr_has("verified");
        assert!(fs::read(scratch.out().join("a")).unwrap() == body, "{}", outcome.report());
    }
    server.stop_content();
}
