//! Folders like /tmp, where everybody may put things: nothing is written to what a stranger has left there.
//!
//! Only root can make the strangers' files. For everybody else a test of the rule itself stands for it (get/strangers.rs),
//! and here what is their own.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

use crate::harness::{Outcome, Scratch, Server, plain_get};

const STRANGER: u32 = 65_534;

/// What is fetched: it fits into a pipe.
const BODY: &[u8] = b"secret";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder of this mode, and whether it is the stranger's.
fn folder(scratch: &Scratch, mode: u32, is_strangers: bool) -> PathBuf {
    let path = scratch.path(format!("{mode:o}-{is_strangers}"));
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    if is_strangers {
        chown(&path, Some(STRANGER), None).unwrap();
    }
    path
}

/// A pipe that anybody may use, and its reader, which waits for nobody.
fn pipe(path: &Path, is_strangers: bool) -> File {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o666)).unwrap();
    if is_strangers {
        chown(path, Some(STRANGER), None).unwrap();
    }
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).unwrap()
}

/// What has come: nothing, where nobody has written.
fn read(mut pipe: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}

fn get_to(scratch: &Scratch, server: &Server, path: &Path) -> Outcome {
    plain_get(scratch, server.addr).arg("a").arg("-o").arg(path).run()
}

fn assert_refused(outcome: &Outcome, bytes: &[u8]) {
    outcome.exits(5).has_one_error_line().stderr_has("belongs to another user");
    assert_eq!(bytes, b"", "{}", outcome.report());
}

fn assert_written(outcome: &Outcome, bytes: &[u8]) {
    outcome.exits(0).stderr_has("verified");
    assert_eq!(bytes, BODY, "{}", outcome.report());
}

#[test]
fn pipes_of_strangers_get_nothing() {
    let scratch = Scratch::new();
    scratch.share("a", BODY);
    let server = Server::of(&scratch);
    // Mode and owner of the folder, owner of the pipe, and whether it is refused.
    let cases = [
        (0o1777, false, true, true),
        (0o1775, false, true, true),
        (0o1777, true, true, false),
        (0o1777, true, false, false),
        (0o1777, false, false, false),
        (0o1755, false, true, false),
        (0o755, false, false, false),
    ];
    for (number, (mode, folder_is_strangers, pipe_is_strangers, is_refused)) in cases.into_iter().enumerate() {
        if (folder_is_strangers || pipe_is_strangers) && !is_root() {
            continue;
        }
        let scratch = Scratch::new();
        let path = folder(&scratch, mode, folder_is_strangers).join(format!("pipe{number}"));
        let reader = pipe(&path, pipe_is_strangers);
        let outcome = get_to(&scratch, &server, &path);
        match is_refused {
            true => assert_refused(&outcome, &read(reader)),
            false => assert_written(&outcome, &read(reader)),
        }
    }
    server.stop();
}

/// Neither a link that a stranger has left, wherever it leads, nor one of ours to what is theirs.
#[test]
fn links_lead_to_nothing_of_strangers() {
    let scratch = Scratch::new();
    scratch.share("a", BODY);
    let server = Server::of(&scratch);
    let shared = folder(&scratch, 0o1777, false);
    let (inner, link) = (scratch.path("inner"), shared.join("link"));
    let reader = pipe(&inner, false);
    symlink("../inner", &link).unwrap();
    let outcome = get_to(&scratch, &server, &link);
    assert_written(&outcome, &read(reader.try_clone().unwrap()));
    if is_root() {
        lchown(&link, Some(STRANGER), None).unwrap();
        let outcome = get_to(&scratch, &server, &link);
        // Where Linux itself does not follow it (fs.protected_symlinks), it is replaced by the file.
        let is_replaced = fs::symlink_metadata(&link).unwrap().is_file();
        outcome.assert(is_replaced || outcome.stderr.contains("belongs to another user"), "not followed");
        assert_eq!(read(reader), b"", "{}", outcome.report());

        let (theirs, ours) = (shared.join("theirs"), scratch.path("ours"));
        let reader = pipe(&theirs, true);
        symlink(&theirs, &ours).unwrap();
        assert_refused(&get_to(&scratch, &server, &ours), &read(reader));
    }
    server.stop();
}

/// A log goes into a file as well as what is fetched: of ours, also behind a link of ours, and of nobody else.
#[test]
fn a_log_is_not_written_to_what_is_a_strangers() {
    let scratch = Scratch::new();
    scratch.share("a", BODY);
    let server = Server::of(&scratch);
    let shared = folder(&scratch, 0o1777, false);
    let get = |log: &Path| plain_get(&scratch, server.addr).args(["a", "-o", "/dev/null"]).log_file(log).run();
    let (link, new) = (shared.join("link"), scratch.path("new.log"));
    symlink(&new, &link).unwrap();
    for log in [&link, &shared.join("log"), &shared.join("log")] {
        get(log).exits(0).log_has("verified");
    }
    assert!(new.is_file(), "through a link of ours, to what was not there");
    if is_root() {
        let before = fs::read(&new).unwrap();
        lchown(&link, Some(STRANGER), None).unwrap();
        get(&link).exits(5).has_one_error_line().stderr_has("cannot write the log file");
        assert_eq!(fs::read(&new).unwrap(), before);
        fs::write(shared.join("theirs"), b"theirs\n").unwrap();
        chown(shared.join("theirs"), Some(STRANGER), None).unwrap();
        get(&shared.join("theirs")).exits(5).has_one_error_line().stderr_has("cannot write the log file");
        assert_eq!(fs::read(shared.join("theirs")).unwrap(), b"theirs\n");
    }
    server.stop();
}

/// What the shell has opened is written to, whosever it is.
#[test]
fn what_is_open_already_is_nobodys_trap() {
    let scratch = Scratch::new();
    scratch.share("a", BODY);
    let server = Server::of(&scratch);
    let path = folder(&scratch, 0o1777, false).join("pipe");
    let reader = pipe(&path, is_root());
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let outcome = plain_get(&scratch, server.addr).args(["a", "-o", "/dev/stdout"]).stdout(writer).run();
    assert_written(&outcome, &read(reader));
    server.stop();
}
