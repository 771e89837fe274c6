//! The server gives up what it does not need, says so, and can still do all that it promises.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use landlock::{Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr};
use rustix::process::Signal;

use crate::harness::wire::ask;
use crate::harness::{Scratch, Server, cores, logfile, serve, wait_for};

/// What the server says when it cannot open something again because it has restricted itself.
const SHUT_OUT: &str = "permission denied (the sandbox allows only the directory that was opened at the start: restart the \
    server, or run it with --no-sandbox)";

/// Whether this kernel has Landlock. Only asking for it tells, so a thread of its own does.
fn has_landlock() -> bool {
    let asked = std::thread::spawn(|| {
        let rules = Ruleset::default().handle_access(AccessFs::from_all(landlock::ABI::V1)).unwrap();
        rules.create().unwrap().restrict_self().unwrap().landlock
    });
    matches!(asked.join().unwrap(), LandlockStatus::Available { .. })
}

/// The line about the sandbox, which is there from the start.
fn sandbox_line(log: &str) -> String {
    let is_about = |line: &logfile::LogLine| line.level == "INFO" && line.message.starts_with("sandbox: ");
    let lines: Vec<_> = logfile::lines(log).into_iter().filter(is_about).collect();
    assert_eq!(lines.len(), 1, "one line about the sandbox expected:\n{log}");
    lines[0].message.clone()
}

/// What that line says where the kernel has Landlock.
fn assert_says(line: &str, expected: &str) {
    if has_landlock() {
        assert_eq!(line, format!("sandbox: Landlock: {expected}"));
    } else {
        assert!(line.starts_with("sandbox: none: "), "{line}");
    }
}

fn real(path: impl AsRef<Path>) -> String {
    path.as_ref().canonicalize().unwrap().display().to_string()
}

fn has_no_new_privileges(server: &Server) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    status.lines().any(|line| line == "NoNewPrivs:\t1")
}

fn is_served(server: &Server, name: &str, body: &[u8]) -> bool {
    let reply = ask(server.addr, name.as_bytes());
    reply.starts_with(b"OK") && reply.ends_with(body)
}

/// Puts a link in the place of another one, as releases are published.
fn switch(link: &Path, target: &str) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

#[test]
fn the_log_says_what_is_left_and_the_kernel_holds_it_to_that() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let log = scratch.path("own/server.log");
    fs::create_dir(log.parent().unwrap()).unwrap();
    let server = Server::start(serve(&scratch).log_file(&log));
    let reads = real(scratch.files());
    assert_says(
        &sandbox_line(&server.log()),
        &format!("reads only beneath {reads}, writes only beneath {}", real(scratch.path("own"))),
    );
    assert!(has_no_new_privileges(&server));
    assert!(is_served(&server, "a", b"body"));
    server.stop_content();
}

#[test]
fn without_a_log_file_nothing_can_be_written() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).own_log().arg("--no-log"));
    server.wait_for_stderr("sandbox: ");
    let stderr = server.stop_content().stderr;
    assert_says(&sandbox_line(&stderr), &format!("reads only beneath {}, writes nothing", real(scratch.files())));
}

#[test]
fn it_can_be_left_out() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).arg("--no-sandbox"));
    assert_eq!(sandbox_line(&server.log()), "sandbox: none: --no-sandbox");
    assert!(has_no_new_privileges(&server));
    server.stop_content();
}

/// The usual way to publish: a link that is switched, at the end of the path or on its way.
#[test]
fn a_switched_link_is_followed_on_sighup() {
    for inside in ["", "public"] {
        let scratch = Scratch::new();
        scratch.write(Path::new("releases/1").join(inside).join("release"), b"old");
        scratch.write(Path::new("releases/2").join(inside).join("release"), b"new");
        let link = scratch.path("current");
        symlink("releases/1", &link).unwrap();
        // The server's own argument is the folder of the harness: another one is served here.
        fs::remove_dir(scratch.files()).unwrap();
        symlink(Path::new("current").join(inside), scratch.files()).unwrap();
        let server = Server::start(serve(&scratch).own_log().arg("--no-log"));
        server.wait_for_stderr("sandbox: ");
        let reads = real(scratch.files());
        assert_says(
            &sandbox_line(&server.stderr()),
            &format!(
                "reads only beneath {reads} and, because of symbolic links in its path, beneath {}, \
                 writes nothing",
                real(scratch.path("releases"))
            ),
        );
        assert!(is_served(&server, "release", b"old"));
        switch(&link, "releases/2");
        server.signal(Signal::HUP);
        wait_for("the new release to be served", || is_served(&server, "release", b"new"));
        server.stop_content();
    }
}

/// Another folder in the place of the shared one could not be allowed before without allowing all beside it.
#[test]
fn another_folder_in_its_place_needs_a_restart() {
    let scratch = Scratch::new();
    scratch.share("release", b"old");
    let server = Server::of(&scratch);
    fs::rename(scratch.files(), scratch.path("old-files")).unwrap();
    scratch.share("release", b"new");
    server.signal(Signal::HUP);
    if has_landlock() {
        let files = real(scratch.files());
        let still = format!("; still sharing the directory {files}\n");
        server.wait_for_log(&format!("cannot share {}: {SHUT_OUT}{still}", scratch.files().display()));
        assert!(is_served(&server, "release", b"old"));
    } else {
        server.wait_for_log("reopened the directory");
        assert!(is_served(&server, "release", b"new"));
    }
    server.stop();
}

/// An operator has to see which release is served now, and which one is not.
#[test]
fn a_link_that_leads_too_far_is_named_with_its_target() {
    let scratch = Scratch::new();
    scratch.write("releases/1/release", b"old");
    scratch.write("elsewhere/2/release", b"new");
    let link = scratch.path("current");
    symlink("releases/1", &link).unwrap();
    let server = Server::start(crate::harness::serve_dir(&scratch, &link));
    switch(&link, "elsewhere/2");
    server.signal(Signal::HUP);
    let (new, old) = (real(scratch.path("elsewhere/2")), real(scratch.path("releases/1")));
    if has_landlock() {
        let what = format!(" - ERROR - cannot share {} (now {new}): {SHUT_OUT}", link.display());
        server.wait_for_log(&format!("{what}; still sharing the directory {old}\n"));
        assert!(is_served(&server, "release", b"old"));
    } else {
        server.wait_for_log(&format!("reopened the directory {new}\n"));
    }
    server.stop();
}

/// What the kernel leaves open is for those who ask.
#[test]
fn what_this_kernel_leaves_open_is_a_detail() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).arg("-v"));
    for line in logfile::lines(&server.log()).iter().filter(|line| line.message.contains("not restricted by this")) {
        assert_eq!(line.level, "DEBUG", "{line:?}");
    }
    server.stop_content();
}

/// Only what the sandbox has shut out is said to be.
#[test]
fn a_missing_folder_is_no_matter_of_the_sandbox() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    fs::rename(scratch.files(), scratch.path("old-files")).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log("no such file or directory; still sharing the directory ");
    assert!(is_served(&server, "a", b"body"));
    server.stop();
}

#[test]
fn logs_are_opened_again_wherever_they_lie() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.write("elsewhere/real.log", b"");
    symlink("elsewhere/real.log", scratch.path("link.log")).unwrap();
    let (default, dir, file) = (scratch.path("logs"), scratch.path("files/logs"), scratch.path("files/own.log"));
    let options = [
        (vec![], &default),
        (vec!["--log-dir".into(), dir.clone().into_os_string()], &dir),
        (vec!["--log-file".into(), file.clone().into_os_string()], &file),
        (vec!["--log-file".into(), "link.log".into()], &scratch.path("link.log")),
    ];
    for (options, place) in options {
        let server = Server::start(serve(&scratch).own_log().args(&options));
        let log = match place.is_dir() {
            true => place.join(&scratch.names(place)[0]),
            false => place.clone(),
        };
        fs::rename(&log, log.with_extension("1")).unwrap();
        server.signal(Signal::HUP);
        wait_for("the log to be opened again", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("reopened the directory"))
        });
        assert!(is_served(&server, "a", b"body"));
        server.stop_content();
    }
}

#[test]
fn another_log_folder_in_its_place_needs_a_restart() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let folder = scratch.path("own");
    fs::create_dir(&folder).unwrap();
    let server = Server::start(serve(&scratch).log_file(folder.join("server.log")));
    fs::rename(&folder, scratch.path("old")).unwrap();
    fs::create_dir(&folder).unwrap();
    server.signal(Signal::HUP);
    if has_landlock() {
        server.wait_for_stderr(&format!("server.log: {SHUT_OUT}; continuing with the old one\n"));
        assert!(scratch.text("old/server.log").contains("reopened the directory"));
    } else {
        server.wait_for_log("reopened the log file");
    }
    assert!(is_served(&server, "a", b"body"));
    server.stop();
}

/// A log that is no regular file lies in a folder like /dev, in which a server has nothing to write.
#[test]
fn a_device_or_a_pipe_as_log_opens_nothing_beside_it() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    for (log, writes) in [("/dev/null", "only /dev/null"), ("/dev/stderr", "nothing")] {
        let server = Server::start(serve(&scratch).own_log().args(["--log-file", log]));
        server.wait_for_stderr("sandbox: ");
        let message = server.stderr().lines().find(|line| line.contains("sandbox: ")).map(str::to_owned).unwrap();
        assert_says(
            &sandbox_line(&format!("{message}\n")),
            &format!("reads only beneath {}, writes {writes}", real(scratch.files())),
        );
        server.signal(Signal::HUP);
        server.wait_for_stderr("reopened the log file");
        assert!(is_served(&server, "a", b"body"));
        server.stop_content();
    }
}

/// Links and mixtures of folders beneath the root go through the kernel's checks twice.
#[test]
fn links_inside_lead_where_they_led() -> io::Result<()> {
    let scratch = Scratch::new();
    scratch.share("deep/er/f", b"fine");
    symlink("deep/er", scratch.files().join("directory"))?;
    symlink("../deep/er/f", scratch.share("other/x", b"").with_file_name("file"))?;
    let server = Server::of(&scratch);
    for name in ["deep/er/f", "directory/f", "other/file"] {
        assert!(is_served(&server, name, b"fine"), "{name}");
    }
    server.stop_content();
    Ok(())
}
