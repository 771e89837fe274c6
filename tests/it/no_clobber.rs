//! `--no-clobber`: what is there is kept, and is said to be there only where it is a file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::{Outcome, Scratch, Server, content, get, plain_get};

fn get_keeping(scratch: &Scratch, server: &Server) -> Outcome {
    get(scratch, server.addr).args(["--no-clobber", "a"]).run()
}

/// A folder for downloads, a file on a server.
fn begin() -> (Scratch, Server) {
    let scratch = Scratch::new();
    scratch.share("a", b"new body");
    fs::create_dir(scratch.out()).unwrap();
    let server = Server::of(&scratch);
    (scratch, server)
}

fn assert_fails(outcome: &Outcome, why: &str) {
    outcome.exits(5).has_one_error_line().stderr_has(why).stderr_lacks("already").log_lacks("attempt 1");
}

#[test]
fn a_directory_is_not_the_file() {
    let (scratch, server) = begin();
    scratch.write("out/a/precious", b"precious");
    assert_fails(&get_keeping(&scratch, &server), "out/a: it is a directory; use -o or -d");
    assert_eq!(scratch.names("out/a"), ["precious"]);
    // A link to one as well.
    fs::rename(scratch.path("out/a"), scratch.path("out/b")).unwrap();
    symlink("b", scratch.path("out/a")).unwrap();
    assert_fails(&get_keeping(&scratch, &server), "out/a: it is a directory; use -o or -d");
    server.stop();
}

#[test]
fn a_link_to_nothing_is_not_the_file() {
    let (scratch, server) = begin();
    let link = scratch.path("out/a");
    // The second leads through a file, as if that were a folder.
    for to in ["nothing", "../files/a/b"] {
        symlink(to, &link).unwrap();
        assert_fails(&get_keeping(&scratch, &server), "out/a: it is a dangling symbolic link");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(to));
        assert_eq!(scratch.names("out"), ["a"], "nothing is made through it");
        let outcome = plain_get(&scratch, server.addr).args(["--no-clobber", "a", "-o", "out/a"]).run();
        assert_fails(&outcome, "out/a: it is a dangling symbolic link");
        fs::remove_file(&link).unwrap();
    }
    symlink("a", &link).unwrap();
    assert_fails(&get_keeping(&scratch, &server), "out/a exists: too many levels of symbolic links");
    server.stop();
}

#[test]
fn pipes_and_sockets_are_not_the_file() {
    let (scratch, server) = begin();
    let path = scratch.path("out/a");
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    assert_fails(&get_keeping(&scratch, &server), "out/a: it is a pipe, a socket or a device");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    fs::remove_file(&path).unwrap();
    let _socket = UnixListener::bind(&path).unwrap();
    assert_fails(&get_keeping(&scratch, &server), "out/a: it is a pipe, a socket or a device");
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    assert_fails(&get_keeping(&scratch, &server), "out/a: it is a pipe, a socket or a device");
    server.stop();
}

/// Also one that nobody may read, and one behind a link; its own size is told.
#[test]
fn a_file_is_kept() {
    let (scratch, server) = begin();
    let (path, json) = (scratch.path("out/a"), ["--no-clobber", "--progress", "json", "a"]);
    fs::write(&path, b"old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    get_keeping(&scratch, &server).exits(0).stderr_has("kept ").stderr_has("it already exists (--no-clobber)");
    get(&scratch, server.addr).args(json).run().exits(0).stderr_has("\"total\":3");
    fs::rename(&path, scratch.path("elsewhere")).unwrap();
    symlink("../elsewhere", &path).unwrap();
    get(&scratch, server.addr).args(json).run().exits(0).stderr_has("\"total\":3").stderr_has("kept ");
    assert!(path.is_symlink());
    server.stop();
}

/// What cannot be looked at may be there.
#[test]
fn a_folder_that_cannot_be_searched() {
    let scratch = Scratch::for_everybody();
    scratch.share("a", b"new body");
    let hidden = scratch.write("hidden/a", b"old");
    let server = Server::of(&scratch);
    fs::set_permissions(scratch.path("hidden"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = |dir: &str| {
        let program = plain_get(&scratch, server.addr).own_log();
        let program = program.args(["--no-log", "--no-clobber", "a", "-d"]).arg(scratch.path(dir));
        // No folder is closed to root.
        program.unprivileged(&scratch).run()
    };
    let outcome = run("hidden");
    outcome.exits(5).has_one_error_line().stderr_has("cannot tell whether").stderr_has("permission denied");
    fs::create_dir(scratch.path("links")).unwrap();
    symlink(&hidden, scratch.path("links/a")).unwrap();
    let outcome = run("links");
    outcome.exits(5).has_one_error_line().stderr_has("links/a exists: permission denied");
    fs::set_permissions(scratch.path("hidden"), fs::Permissions::from_mode(0o700)).unwrap();
    server.stop();
}

/// The same looks decide where something appears under the name while the file comes.
#[test]
fn what_appears_meanwhile_is_the_file_or_not() {
    use crate::harness::wire::metadata;
    use crate::scripted_server::{ScriptedServer, answer};
    for (is_link, code) in [(false, 5), (true, 5)] {
        let scratch = Scratch::new();
        let (body, target) = (content(7, 100_000), scratch.path("out/a"));
        let (head, appearing) = (metadata("a", &body), target.clone());
        let server = ScriptedServer::new(move |_, stream| {
            match is_link {
                true => {
                    fs::create_dir(appearing.parent().unwrap()).unwrap();
                    symlink("nothing", &appearing).unwrap();
                }
                false => fs::create_dir_all(&appearing).unwrap(),
            }
            answer(stream, &head, &body);
        });
        let outcome = get(&scratch, server.addr).args(["--no-clobber", "a"]).run();
        let outcome = outcome.exits(code).has_one_error_line().stderr_has("out/a: it is a ");
        outcome.stderr_has("received were not kept").stderr_lacks("already");
        assert_eq!(scratch.names("out"), ["a"], "no part is left");
        assert_eq!(target.is_symlink(), is_link);
    }
}
