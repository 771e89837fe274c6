//! `xfer serve FILE`: one name of its directory is shared, and nothing else of it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::harness::wire::{ask, refusal};
use crate::harness::{Program, Scratch, Server, get, serve_dir, wait_for};

fn assert_served(server: &Server, name: &str, body: &[u8]) {
    let reply = ask(server.addr, name.as_bytes());
    assert!(reply.starts_with(b"OK") && reply.ends_with(body), "{name}: {}", reply.escape_ascii());
}

fn assert_not_found(server: &Server, name: &str) {
    let message = refusal(&ask(server.addr, name.as_bytes()));
    assert_eq!(message, format!("File '{name}' not found on server"));
}

/// One that ends before it listens, with a line that names the file and has this in it.
fn assert_fails(scratch: &Scratch, file: &Path, why: &str) {
    let outcome = Program::xfer(scratch).arg("serve").arg(file).args(["-p", "0", "--no-log"]).run();
    outcome.exits(1).has_one_error_line().prints_nothing_on_stdout();
    outcome.stderr_has("xfer: cannot share ").stderr_has(file.to_str().unwrap()).stderr_has(why);
}

#[test]
fn only_that_one_file_is_shared() {
    let scratch = Scratch::new();
    let file = scratch.share("a.bin", b"shared");
    scratch.share("b.bin", b"secret");
    scratch.share("sub/a.bin", b"secret");
    scratch.share(".hidden", b"secret");
    scratch.write("outside", b"secret");
    for args in [&[][..], &["--hidden"], &["--no-sandbox"]] {
        let server = Server::start(serve_dir(&scratch, &file).args(args));
        assert_served(&server, "a.bin", b"shared");
        let absolute = file.to_str().unwrap();
        let others = ["b.bin", "sub/a.bin", ".hidden", "..", ".", "../outside", "../files/a.bin", "a.bin/", absolute];
        for name in others.into_iter().chain(["./a.bin", "A.BIN", "sub", "a.bi", "a.bin2", "server.log", "none"]) {
            assert_not_found(&server, name);
        }
        get(&scratch, server.addr).args(["--force", "a.bin"]).run().exits(0);
        let log = server.stop().log;
        let line = format!(" sharing the file {} on ", file.canonicalize().unwrap().display());
        assert!(log.contains(&line), "{log}");
        assert!(log.contains("refused 'b.bin' to 127.0.0.1:"), "{log}");
        assert!(log.contains(": not found (not the file that is shared)\n"), "{log}");
        fs::remove_file(scratch.path("server.log")).unwrap();
    }
}

/// A bare word is a file of the directory that one is in.
#[test]
fn a_bare_name_is_shared() {
    let scratch = Scratch::new();
    scratch.write("a.bin", b"shared");
    scratch.write("b.bin", b"secret");
    let server = Server::start(serve_dir(&scratch, Path::new("a.bin")));
    assert_served(&server, "a.bin", b"shared");
    assert_not_found(&server, "b.bin");
    server.stop();
}

/// It is a name: what is put in its place is served, also within the sandbox.
#[test]
fn a_file_that_is_replaced_is_served_anew() {
    let scratch = Scratch::new();
    let file = scratch.share("a", b"old");
    let server = Server::start(serve_dir(&scratch, &file));
    assert_served(&server, "a", b"old");
    scratch.share("a.new", b"new one");
    fs::rename(scratch.files().join("a.new"), &file).unwrap();
    assert_served(&server, "a", b"new one");
    fs::remove_file(&file).unwrap();
    assert_not_found(&server, "a");
    scratch.share("a", b"back");
    assert_served(&server, "a", b"back");
    server.stop();
}

/// A directory in the place of the file would share far more than was meant.
#[test]
fn sighup_shares_the_file_again_and_never_a_directory() {
    let scratch = Scratch::new();
    let file = scratch.share("a", b"body");
    let server = Server::start(serve_dir(&scratch, &file));
    server.signal(Signal::HUP);
    let real = file.canonicalize().unwrap();
    server.wait_for_log(&format!(" - INFO - reopened the file {}\n", real.display()));
    assert_served(&server, "a", b"body");
    fs::remove_file(&file).unwrap();
    scratch.share("a/secret", b"secret");
    server.signal(Signal::HUP);
    let complaint =
        format!(" - ERROR - cannot share {}: a directory; still sharing the file {}\n", file.display(), real.display());
    server.wait_for_log(&complaint);
    for name in ["a/secret", "secret", "a"] {
        assert_not_found(&server, name);
    }
    fs::remove_dir_all(&file).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log("no such file or directory; still sharing the file ");
    scratch.share("a", b"again");
    assert_served(&server, "a", b"again");
    server.stop();
}

/// Whoever names it means it.
#[test]
fn a_hidden_file_that_is_named_is_shared() {
    let scratch = Scratch::new();
    let file = scratch.share(".a", b"body");
    scratch.share(".b", b"secret");
    let server = Server::start(serve_dir(&scratch, &file));
    assert_served(&server, ".a", b"body");
    assert_not_found(&server, ".b");
    server.stop();
}

/// Links are followed as in any shared directory.
#[test]
fn a_link_is_followed_within_its_directory() {
    let scratch = Scratch::new();
    scratch.share("releases/42", b"body");
    scratch.write("outside", b"secret");
    let inside = scratch.files().join("inside");
    symlink("releases/42", &inside).unwrap();
    let server = Server::start(serve_dir(&scratch, &inside));
    assert_served(&server, "inside", b"body");
    assert_not_found(&server, "releases/42");
    fs::remove_file(&inside).unwrap();
    symlink("../outside", &inside).unwrap();
    assert_not_found(&server, "inside");
    server.stop();
    assert_fails(&scratch, &inside, "leads out of the shared directory");
}

#[test]
fn what_is_no_file_to_share_says_why() {
    let scratch = Scratch::new();
    assert_fails(&scratch, &scratch.path("none"), ": no such file or directory");
    assert_fails(&scratch, &scratch.path("none/none"), ": no such file or directory");
    let file = scratch.share("a", b"body");
    assert_fails(&scratch, &file.join("b"), ": not a directory");
    let fifo = scratch.path("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    assert_fails(&scratch, &fifo, ": neither a directory nor a regular file");
    assert_fails(&scratch, Path::new("/dev/null"), ": neither a directory nor a regular file");
    assert_fails(&scratch, Path::new("/proc/cpuinfo"), ": a file of proc, whose size is not that of its content");
    let part = scratch.share(".a.xfer-part", b"body");
    assert_fails(&scratch, &part, ": partial file of a download");
    let dangling = scratch.path("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert_fails(&scratch, &dangling, ": no such file or directory");
}

#[test]
fn a_file_that_may_not_be_read_says_so_at_the_start() {
    let scratch = Scratch::for_everybody();
    let file = scratch.share("a", b"body");
    fs::set_permissions(scratch.files(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let program = Program::xfer(&scratch).unprivileged(&scratch).arg("serve").arg(&file).args(["-p", "0", "--no-log"]);
    program.run().exits(1).has_one_error_line().stderr_has(": permission denied");
}

/// The log of this run is private, whatever it is called.
#[test]
fn its_own_log_is_not_shared() {
    let scratch = Scratch::new();
    let log = scratch.write("server.log", b"");
    let outcome = serve_dir(&scratch, &log).run();
    outcome.exits(1).has_one_error_line().stderr_has(": a log of xfer");
}

/// The line can be pasted as it stands: no shell and no URL sees anything in it.
#[test]
fn the_line_to_paste_names_the_file() {
    let scratch = Scratch::new();
    for (name, encoded) in [("a.bin", "a.bin"), ("a b'$(x)?#%.tar", "a%20b%27%24%28x%29%3F%23%25.tar"), ("ä", "%C3%A4")]
    {
        let file = scratch.share(name, b"body");
        let server = Server::start(serve_dir(&scratch, &file));
        let port = server.addr.port();
        let url = format!("xfer://127.0.0.1:{port}/{encoded}");
        server.wait_for_stderr(&format!("to fetch on this machine: xfer get {url}\n"));
        // In a shell, as a person pastes it.
        let (paste, out) = (format!("set -- get {url} --no-log -d out"), scratch.out().join(name));
        Program::xfer(&scratch).after(&paste).run().exits(0);
        assert_eq!(fs::read(out).unwrap(), b"body");
        server.stop_content();
        fs::remove_file(scratch.path("server.log")).unwrap();
    }
    let raw = scratch.files().join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::write(&raw, b"body").unwrap();
    let server = Server::start(serve_dir(&scratch, &raw));
    server.wait_for_stderr("/%FF\n");
    wait_for("the log", || server.log().contains("sharing the file "));
    server.stop_content();
}
