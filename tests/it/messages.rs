//! What the client says of a failure: each fact once, and what to do.

use std::fs;

use crate::harness::wire::ClosedPort;
use crate::harness::{Outcome, Program, Scratch, Server, content, get};

/// The lines of an outcome about failed attempts and failures.
fn error_lines(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.starts_with("xfer: ")).collect()
}

#[test]
fn a_refused_connection_has_its_hint_once() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let args = ["--retries", "3", "--max-backoff", "0.1", "a", "b"];
    let outcome = get(&scratch, port.addr).args(args).run();
    let refused = format!("xfer: cannot connect to {}: connection refused", port.addr);
    let expected = [
        format!("{refused} (is 'xfer serve' running there, on this port?); attempt 2 of 3 in 0.1 s"),
        format!("{refused}; attempt 3 of 3 in 0.1 s"),
        format!(
            "xfer: cannot fetch 'a': cannot connect to {}: connection refused (gave up after 3 attempts)",
            port.addr
        ),
        format!(
            "xfer: not tried: 'b' ({} cannot be reached); check the server, then run the same command again",
            port.addr
        ),
        String::from("xfer: 0 of 2 saved, 1 failed, 1 not tried"),
    ];
    outcome.exits(3).assert(error_lines(&outcome) == expected, &format!("{expected:#?} expected"));
    outcome.log_has(" - WARN - cannot connect to ").log_has(" - ERROR - cannot fetch 'a': ");
}

#[test]
fn without_a_host_the_hint_says_how_to_name_one() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let port = port.addr.port();
    let program = Program::xfer(&scratch).args(["get", "--no-log", "--retries", "1", "-p"]).arg(port.to_string());
    let outcome = program.arg("a").run();
    let expected = format!(
        "xfer: cannot fetch 'a': cannot connect to localhost:{port}: connection refused (is 'xfer serve' running on this \
         machine, on this port? use -H to name another machine)"
    );
    outcome.exits(3).assert(error_lines(&outcome) == [&expected], &format!("{expected} expected"));
}

#[test]
fn not_found_is_said_once_in_both_versions() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for version in [&[][..], &["--v1"]] {
        let outcome = get(&scratch, server.addr).args(version).arg("dir/nöpe").run();
        let expected =
            format!("xfer: 'dir/nöpe' not found on {}; check the name, or see the server's log", server.addr);
        outcome.exits(1).assert(error_lines(&outcome) == [&expected], &format!("{expected} expected"));
    }
}

/// What the target held before decides what the line says, for small and large files, in both versions.
#[test]
fn a_target_is_saved_replaced_or_up_to_date() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for (name, len) in [("small", 1000), ("large", 3 << 20)] {
        for version in [&[][..], &["--v1"]] {
            scratch.share(name, &content(1, len));
            let fetch = |more: &[&str]| get(&scratch, server.addr).args(version).args(more).arg(name).run();
            let out = scratch.out();
            let path = out.join(name);
            let about = |verb: &str| format!("{verb} {}: ", path.display());
            let begins = |outcome: &Outcome, line: &str| {
                outcome.exits(0).assert(outcome.stderr.starts_with(line), &format!("{line} expected"));
                outcome.assert(outcome.stderr.lines().count() == 1, "one line");
            };
            begins(&fetch(&[]), &about("saved"));
            let outcome = fetch(&[]);
            begins(&outcome, &format!("{} is already up to date: ", path.display()));
            outcome.assert(outcome.stderr.ends_with(", verified\n"), "no time and no speed");
            begins(&fetch(&["--force"]), &about("replaced"));
            fs::write(&path, "something else").unwrap();
            begins(&fetch(&[]), &about("replaced"));
            begins(&fetch(&["--no-clobber"]), &format!("kept {}: it already exists (--no-clobber)", path.display()));
            fs::remove_file(&path).unwrap();
        }
    }
}
