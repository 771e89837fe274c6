//! What the user of the server may not read or enter, and what it may enter and not read.
//!
//! Root may do everything. Where these tests run as root, the server runs as nobody, and the files are root's.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::wire::{ask, refusal};
use crate::harness::{Program, Scratch, Server, get, serve_dir, wait_for};

/// A server of this folder, run by a user to whom modes mean something.
fn serve_restricted(scratch: &Scratch, dir: &Path) -> Program {
    serve_dir(scratch, dir).unprivileged(scratch)
}

/// The same mode for owner and others, until the test is over: then all can be removed again.
struct Mode(PathBuf);

impl Mode {
    fn set(path: PathBuf, bits: u32) -> Mode {
        fs::set_permissions(&path, Permissions::from_mode(bits * 0o111)).unwrap();
        Mode(path)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = fs::set_permissions(&self.0, Permissions::from_mode(0o755));
    }
}

const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

/// As a web server has it: files can be fetched by their names, and nobody lists them.
#[test]
fn a_folder_that_may_only_be_entered_is_served() {
    let scratch = Scratch::for_everybody();
    scratch.share("a", b"body");
    scratch.share("sub/b", b"another");
    let _modes = [Mode::set(scratch.files().join("sub"), EXECUTE), Mode::set(scratch.files(), EXECUTE)];
    for options in [&[][..], &["--no-sandbox"]] {
        let server = Server::start(serve_restricted(&scratch, &scratch.files()).args(options));
        for round in ["at the start", "opened again"] {
            for (name, body) in [("a", &b"body"[..]), ("sub/b", b"another")] {
                let reply = ask(server.addr, name.as_bytes());
                assert!(reply.starts_with(b"OK") && reply.ends_with(body), "{round}: {}", reply.escape_ascii());
            }
            server.signal(Signal::HUP);
            server.wait_for_log("reopened the directory");
        }
        server.stop_content();
        fs::remove_file(scratch.path("server.log")).unwrap();
    }
}

#[test]
fn a_file_that_may_not_be_read_is_not_found() {
    let scratch = Scratch::for_everybody();
    let secret = scratch.share("secret", b"secret");
    scratch.share("closed/f", b"secret");
    let _modes = [Mode::set(secret, WRITE), Mode::set(scratch.files().join("closed"), READ)];
    let server = Server::start(serve_restricted(&scratch, &scratch.files()));
    for name in ["secret", "closed/f"] {
        assert_eq!(refusal(&ask(server.addr, name.as_bytes())), format!("File '{name}' not found on server"));
    }
    let why = "not found (permission denied)";
    wait_for("the reason of both in the log", || server.log().matches(why).count() == 2);
    get(&scratch, server.addr).arg("secret").run().exits(1).stderr_has("'secret' not found");
    server.stop_blaming_peers();
}

/// No file could be opened in it; so the server says so, and does not run.
#[test]
fn a_folder_that_may_not_be_entered_is_refused_at_the_start() {
    for (bits, what, why) in [
        (
            READ | WRITE,
            "files",
            "the user of the server has no x permission on it; share a directory that this user can enter",
        ),
        (0, "files", "the user of the server has no x permission on it; share a directory that this user can enter"),
        (READ, "", "the user of the server has no x permission on a directory above it"),
    ] {
        let scratch = Scratch::for_everybody();
        // The binary and the log lie elsewhere: the folder above may be closed.
        let elsewhere = Scratch::for_everybody();
        let _mode = Mode::set(scratch.path(what), bits);
        let outcome = serve_restricted(&elsewhere, &scratch.files()).run();
        outcome.exits(1).has_one_error_line().prints_nothing_on_stdout();
        let dir = scratch.files();
        outcome.stderr_has(&format!("xfer: cannot share {}: permission denied: {why}", dir.display()));
        assert_eq!(elsewhere.names(""), ["files", "xfer"], "not even a log: {}", outcome.report());
    }
}
