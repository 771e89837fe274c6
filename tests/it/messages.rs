//! What the client says of a failure: each fact once, and what to do.

use std::fs;
use std::net::TcpListener;

use rustix::io::Errno;

use crate::harness::fuse::{Call, Fuse, Quirks};
use crate::harness::wire::ClosedPort;
use crate::harness::wire2::{File, SHUTTING_DOWN, data, error};
use crate::harness::{Outcome, Program, Scratch, Server, content, get, plain_get};
use crate::scripted_server::ScriptedServer;

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
        format!("{refused} (is 'xfer serve' running there, on this port?); retrying in 0.1 s (attempt 2 of 3)"),
        format!("{refused}; retrying in 0.1 s (attempt 3 of 3)"),
        format!(
            "xfer: cannot fetch 'a': cannot connect to {}: connection refused (gave up after 3 attempts)",
            port.addr
        ),
        format!(
            "xfer: not tried: 'b' ({} cannot be reached); check the server, then run the same command again",
            port.addr
        ),
        String::from("xfer: 0 of 2 saved; 1 failed: 'a'; 1 not tried"),
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
        let expected = format!(
            "xfer: 'dir/nöpe' not found on {}; check the name (it may be a directory), or see the server's log",
            server.addr
        );
        outcome.exits(1).assert(error_lines(&outcome) == [&expected], &format!("{expected} expected"));
    }
}

/// A host that was typed needs no advice to type one, and a server that has answered was there.
#[test]
fn the_hint_knows_what_was_typed_and_what_has_answered() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    for (args, variable) in [(&["-H", "localhost"][..], ""), (&["xfer://localhost/b"], ""), (&[], "localhost")] {
        let program = Program::xfer(&scratch).args(["get", "--no-log", "--retries", "1", "-p"]);
        let program = program.arg(port.addr.port().to_string()).args(args).env("XFER_HOST", variable);
        let outcome = if args.len() == 1 { program.run() } else { program.arg("a").run() };
        outcome.exits(3).stderr_has("(is 'xfer serve' running on this machine, on this port?)").stderr_lacks("use -H");
    }
    // It takes one connection, and then there is no server.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        drop(listener);
        drop(connection);
    });
    let outcome = get(&scratch, addr).args(["--retries", "2", "--max-backoff", "0.1", "a"]).run();
    server.join().unwrap();
    outcome.exits(3).stderr_has("connection refused (has the server stopped?)").stderr_lacks("is 'xfer serve'");
}

/// The directory is there, and no file can be.
#[test]
fn a_directory_that_takes_no_files_is_not_called_missing() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    for args in [&["-d", "/proc"][..], &["-o", "/proc/a"]] {
        let line = "xfer: cannot save /proc/a: the directory /proc takes no new files; save elsewhere with -d";
        plain_get(&scratch, server.addr).args(args).arg("a").run().exits(5).has_one_error_line().stderr_has(line);
    }
    let outcome = plain_get(&scratch, server.addr).args(["-d", "/dev/null", "a"]).run();
    let line = "xfer: cannot create the directory /dev/null: it exists and is not a directory; save elsewhere with -d";
    outcome.exits(5).has_one_error_line().stderr_has(line);
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

/// Each failure of a disk has its words and its advice, whether the file is small or large.
#[test]
fn a_disk_that_fails_says_what_to_do() {
    let scratch = Scratch::new();
    scratch.share("small", &content(3, 3000));
    scratch.share("large", &content(3, 3_000_000));
    let server = Server::of(&scratch);
    let inodes = "the file system has no free inodes (see df -i); remove some files, or save elsewhere with -d";
    for (call, errno, verb, why) in [
        (Call::Write, Errno::NOSPC, "write", "the disk is full; free some space, or save elsewhere with -d"),
        (Call::Write, Errno::DQUOT, "write", "your disk quota is used up; free some space, or save elsewhere with -d"),
        (Call::Write, Errno::IO, "write", "input/output error; check the disk (see dmesg)"),
        (Call::Create, Errno::NOSPC, "save", inodes),
        (Call::Create, Errno::ROFS, "save", "the file system is read-only; save elsewhere with -d"),
        (Call::Create, Errno::ACCESS, "save", "permission denied; check the permissions of the directory "),
        (
            Call::Rename,
            Errno::PERM,
            "replace",
            "operation not permitted: the file or its directory may be immutable (see lsattr)",
        ),
        (Call::Rename, Errno::NAMETOOLONG, "save", "the name is too long for this file system; choose another with -o"),
    ] {
        let quirks = Quirks { has_no_inodes: call == Call::Create, ..Quirks::refusing(call, errno) };
        let quirks = Quirks { files: vec![("small", 1, 1), ("large", 1, 1)], ..quirks };
        let Some(fuse) = Fuse::mount(&scratch, "odd", quirks) else { return };
        for name in ["small", "large"] {
            let outcome = plain_get(&scratch, server.addr).arg("-d").arg(fuse.folder()).arg(name).run();
            let line = format!("xfer: cannot {verb} {}: {why}", fuse.path(name).display());
            outcome
                .exits(5)
                .has_one_error_line()
                .assert(outcome.stderr.starts_with(&line), &format!("{line:?} expected"));
        }
    }
}

/// The reset of the count is no secret: five attempts that got nowhere, behind those that did.
#[test]
fn giving_up_counts_the_attempts_in_a_row() {
    let scratch = Scratch::new();
    let body = content(5, 3_000_000);
    let server = ScriptedServer::answering_gets(move |number, get| {
        let (from, all) = (usize::try_from(get.offset).unwrap(), File::of(&body));
        let file = File { offset: get.offset, ..all }.bytes();
        match number {
            0 | 1 => [file, data(&body[from..from + 1_000_000]), error(SHUTTING_DOWN, "")].concat(),
            _ => error(SHUTTING_DOWN, "The server is shutting down"),
        }
    });
    let outcome = get(&scratch, server.addr).args(["--retries", "2", "--max-backoff", "0.1", "a"]).run();
    outcome.exits(3).has_one_error_line().stderr_has(&format!(
        "xfer: cannot fetch 'a': {} is shutting down (gave up after 2 attempts in a row without progress); kept 1.9 MiB \
         of 2.9 MiB in {}/.a.xfer-part; run the same command to resume\n",
        server.addr,
        scratch.out().display()
    ));
}
