//! Names that the server must refuse, quickly, without opening anything and without a trace of them in the log's shape.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mkfifoat, mknodat, open};

use crate::harness::logfile;
use crate::harness::wire::{ask, dial, exchange, read_head, refusal, request};
use crate::harness::wire2::{Get, NOT_FOUND, Peer};
use crate::harness::{Scratch, Server, cores, serve};

/// "None slow": far below any deadline, far above a busy core.
const QUICK: Duration = Duration::from_secs(1);

/// Asks for the name and answers the refusal, which must come quickly.
fn refused(addr: SocketAddr, name: &[u8]) -> String {
    let start = Instant::now();
    let reply = ask(addr, name);
    let took = start.elapsed();
    assert!(took < QUICK, "{}: answered after {took:?}", name.escape_ascii());
    assert!(reply.starts_with(b"ERROR"), "{} was answered by {}", name.escape_ascii(), reply.escape_ascii());
    assert!(reply.len() <= 5 + 1024, "a message has at most 1024 bytes, this one {}", reply.len() - 5);
    refusal(&reply)
}

fn assert_not_found(addr: SocketAddr, name: &str) {
    assert_eq!(refused(addr, name.as_bytes()), format!("File '{name}' not found on server"));
}

/// For names that are wrong in themselves, either answer will do.
fn assert_not_served(addr: SocketAddr, name: &[u8]) {
    let message = refused(addr, name);
    let not_found = message.starts_with("File '") && message.ends_with("' not found on server");
    assert!(not_found || message.starts_with("Bad request"), "{}: {message}", name.escape_ascii());
}

fn assert_served(addr: SocketAddr, name: &str, body: &[u8]) {
    let reply = ask(addr, name.as_bytes());
    assert!(reply.starts_with(b"OK") && reply.ends_with(body), "{name}: {}", reply.escape_ascii());
}

#[test]
fn names_that_lead_out_of_the_root() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.write("outside", b"secret");
    scratch.share("f", b"fine");
    scratch.share("a/g", b"fine");
    let server = Server::of(&scratch);
    let absolute = scratch.path("outside");
    let inside = scratch.files().join("f");
    let names = ["..", "../outside", "a/../../outside", "a/../f", "a/..", "/etc/passwd", "/", "//f", "../files/f"];
    for name in names.into_iter().chain([absolute.to_str().unwrap(), inside.to_str().unwrap()]) {
        assert_not_found(server.addr, name);
    }
    assert_served(server.addr, "f", b"fine");
    assert_served(server.addr, "a/g", b"fine");
    server.stop();
}

#[test]
fn names_that_are_no_names() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    scratch.share("a/b", b"fine");
    let server = Server::of(&scratch);
    let long = "x".repeat(4000);
    let deep = "d/".repeat(1999) + "f";
    let names: [&[u8]; 13] = [
        b"",
        b"a//b",
        b"a/",
        b"f/",
        b"f\0",
        b"\0",
        b"f\0.txt",
        b"\xff\xfe",
        b"f\xc3",
        b"\xed\xa0\x80",
        long.as_bytes(),
        deep.as_bytes(),
        &[b'y'; 4096],
    ];
    for name in names {
        assert_not_served(server.addr, name);
    }
    assert_served(server.addr, "f", b"fine");
    server.stop();
}

/// The claim alone is enough: nothing waits for the rest of such a name, and nothing is allocated for it.
#[test]
fn lengths_that_no_name_has() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for length in [5_000_u32, 65_536, 0x00ff_ffff] {
        for sent in [0, 1, 5_000] {
            let start = Instant::now();
            let reply = exchange(server.addr, &[length.to_be_bytes().to_vec(), vec![b'n'; sent]].concat());
            let message = refusal(&reply);
            assert!(message.starts_with("Bad request"), "{message}");
            assert!(start.elapsed() < QUICK, "answered after {:?}", start.elapsed());
        }
    }
    let log = server.stop().log;
    assert!(logfile::reasons(&log).iter().all(|reason| reason == "bad request"), "{log}");
}

#[test]
fn links_are_followed_inside_and_refused_to_the_outside() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.write("outside/f", b"secret");
    scratch.share("real", b"fine");
    scratch.share("sub/deep", b"deep");
    let link = |to: &Path, name: &str| symlink(to, scratch.files().join(name)).unwrap();
    link(Path::new("../outside/f"), "relative-out");
    link(&scratch.path("outside/f"), "absolute-out");
    link(&scratch.files().join("real"), "absolute-in");
    link(Path::new("../outside"), "dir-out");
    link(Path::new("/proc/self/root"), "proc-root");
    link(Path::new("/proc/self/cwd"), "proc-cwd");
    link(Path::new("/etc"), "etc");
    link(Path::new("loop"), "loop");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("real"), "relative-in");
    link(Path::new("sub"), "dir-in");
    link(Path::new("../real"), "sub/up-in");
    let server = Server::of(&scratch);
    let outside = format!("proc-root{}", scratch.path("outside/f").display());
    let refused =
        ["relative-out", "absolute-out", "absolute-in", "dir-out/f", &outside, "proc-cwd/files/real", "etc/passwd"];
    for name in refused.into_iter().chain(["loop", "dangling", "dir-in"]) {
        assert_not_found(server.addr, name);
    }
    assert_served(server.addr, "relative-in", b"fine");
    assert_served(server.addr, "dir-in/deep", b"deep");
    assert_served(server.addr, "sub/up-in", b"fine");
    server.stop();
}

/// A process that has the FIFO open for writing without waiting fails (ENXIO) unless somebody has opened it to read.
#[test]
fn a_fifo_is_refused_and_never_opened() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let fifo = scratch.files().join("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o666)).unwrap();
    let server = Server::of(&scratch);
    assert_not_found(server.addr, "fifo");
    let writer = open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
    assert_eq!(writer.unwrap_err(), rustix::io::Errno::NXIO, "somebody reads the FIFO");
    // With a writer in place an open for reading would succeed at once, and the read wait.
    let _writer = open(&fifo, OFlags::RDWR, Mode::empty()).unwrap();
    assert_not_found(server.addr, "fifo");
    server.stop();
}

#[test]
fn devices_sockets_and_directories_are_refused() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    fs::create_dir(scratch.files().join("dir")).unwrap();
    symlink("/dev", scratch.files().join("dev")).unwrap();
    symlink("/dev/zero", scratch.files().join("zero-link")).unwrap();
    // Only root may make the device itself; for everybody else the links to one stand for it.
    let zero = mknodat(CWD, scratch.files().join("zero"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 5));
    let socket = std::os::unix::net::UnixListener::bind(scratch.files().join("socket"));
    let server = Server::of(&scratch);
    for name in ["dir", "dev", "dev/zero", "zero-link"] {
        assert_not_found(server.addr, name);
    }
    if zero.is_ok() {
        assert_not_found(server.addr, "zero");
    }
    if socket.is_ok() {
        assert_not_found(server.addr, "socket");
    }
    server.stop();
}

#[test]
fn hidden_files_are_served_on_demand_only() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share(".secret", b"hidden");
    scratch.share(".dir/f", b"hidden too");
    scratch.share(".x.xfer-part", b"half a file");
    scratch.share(".x.xfer-part.state", b"a journal");
    symlink(".secret", scratch.files().join("link-to-secret")).unwrap();
    symlink(".x.xfer-part", scratch.files().join("link-to-part")).unwrap();
    let parts = [".x.xfer-part", ".x.xfer-part.state", "link-to-part"];
    let server = Server::of(&scratch);
    for name in [".secret", ".dir/f", "./.secret"].into_iter().chain(parts) {
        assert_not_found(server.addr, name);
    }
    server.stop();
    let server = Server::start(serve(&scratch).log_file(scratch.path("hidden.log")).arg("--hidden"));
    assert_served(server.addr, ".secret", b"hidden");
    assert_served(server.addr, ".dir/f", b"hidden too");
    for name in parts.into_iter().chain(["..", "../files/.secret", ".dir/../.secret"]) {
        assert_not_found(server.addr, name);
    }
    server.stop();
}

/// Names of logs, as runs of a server and of a client give them, and as rotation leaves them.
const OUR_LOGS: [&str; 9] = [
    "server_20260115_201033.log",
    "client_20260115_201033.log",
    "server_20260115_201033_12.log",
    "server_20260115_201033_12_2.log",
    "server_20260115_201033.log.1",
    "client_20260115_201033_77.log.2.gz",
    "server_20260115_201033.log-20260116.xz",
    "server_20260115_201033.old",
    "Client_20260115_201033.LOG.zip",
];

/// Names that only look a little like those: logs of whatever program is shared.
const OTHER_LOGS: [&str; 9] = [
    "app.log",
    "old.log",
    "server.log",
    "server_notes.log.txt",
    "server_.log",
    "client_2026.log",
    "server_20260115-201033.log",
    "server_20260115_20103x.log",
    "my_server_20260115_201033.log",
];

/// The server's own log tells who asked for what: nobody else's business, by whatever path. Other logs beside it are
/// part of what is shared.
#[test]
fn only_our_own_logs_are_not_served() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let folders = ["logs", "logs/archive"];
    for name in OUR_LOGS.iter().chain(&OTHER_LOGS) {
        folders.iter().for_each(|folder| drop(scratch.share(Path::new(folder).join(name), b"lines")));
        scratch.share(Path::new("sub/logs").join(name), b"another directory of that name");
    }
    symlink(".", scratch.files().join("here")).unwrap();
    symlink("logs", scratch.files().join("protocols")).unwrap();
    symlink("logs/client_20260115_201033.log", scratch.files().join("file-link")).unwrap();
    // Named as the folder for logs, or the default one of a server that shares the folder in which it was started.
    let named = scratch.files().join("logs");
    for options in [&["--log-dir".as_ref(), named.as_os_str()][..], &[]] {
        let server = Server::start(serve(&scratch).own_log().args(options).in_dir(&scratch.files()));
        let is_own =
            |name: &String| !OUR_LOGS.iter().chain(&OTHER_LOGS).any(|other| other == name) && name != "archive";
        let own = scratch.names("files/logs").into_iter().find(is_own).expect("a log of this run");
        let mut peer = Peer::dial(server.addr);
        let mut get = |name: String| peer.get(&Get::of(name));
        for name in OUR_LOGS.iter().copied().chain([own.as_str()]) {
            for dir in ["logs", "here/logs", "here/here/logs", "protocols", "here/protocols"] {
                assert_eq!(get(format!("{dir}/{name}")).refusal(), NOT_FOUND, "{dir}/{name}");
            }
        }
        for name in OUR_LOGS {
            assert_eq!(get(format!("logs/archive/{name}")).refusal(), NOT_FOUND, "{name}");
            get(format!("sub/logs/{name}")).assert_brings(b"another directory of that name");
        }
        for (folder, name) in folders.iter().flat_map(|folder| OTHER_LOGS.map(|name| (folder, name))) {
            match options.is_empty() {
                true => get(format!("{folder}/{name}")).assert_brings(b"lines"),
                false => assert_eq!(get(format!("{folder}/{name}")).refusal(), NOT_FOUND, "{folder}/{name}"),
            }
        }
        assert_eq!(get(String::from("file-link")).refusal(), NOT_FOUND);
        drop(peer);
        server.stop();
        fs::remove_file(named.join(own)).unwrap();
    }
}

/// Reopening fails then, since its path is gone; the old file goes on, under a name that nobody has told us.
#[test]
fn the_log_folder_is_not_served_after_it_was_renamed() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).own_log().arg("--log-dir").arg(scratch.files().join("logs")));
    fs::rename(scratch.files().join("logs"), scratch.files().join("old")).unwrap();
    let own = scratch.names("files/old").into_iter().find(|name| name.starts_with("server_")).unwrap();
    assert_not_found(server.addr, &format!("old/{own}"));
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_stderr("reopened the directory");
    assert_not_found(server.addr, &format!("old/{own}"));
    server.into_running().finish_after(rustix::process::Signal::TERM).exits(0);
}

/// The shared directory is the log folder: logs of all runs stay private, everything else is served.
#[test]
fn logs_among_served_files_are_not_served() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    scratch.share("server_20200101_000000.log", b"an earlier run");
    scratch.share("client_20200101_000000_77.log.1.gz", b"another");
    scratch.share("client_notes.log", b"of somebody else");
    let server = Server::start(serve(&scratch).own_log().arg("--log-dir").arg(scratch.files()));
    for name in scratch.names("files").iter().filter(|name| name.contains("_2")) {
        assert_not_found(server.addr, name);
    }
    assert_served(server.addr, "f", b"fine");
    assert_served(server.addr, "client_notes.log", b"of somebody else");
    server.stop();
}

#[test]
fn the_log_file_is_not_served_when_it_lies_in_the_root() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let log = scratch.files().join("logs/stable.log");
    scratch.share("logs/manual.txt", b"not a log");
    scratch.share("logs/stable.log.1", b"what rotation made of it");
    scratch.share("logs/stable.logo", b"neither");
    let server = Server::start(serve(&scratch).log_file(&log));
    assert_served(server.addr, "f", b"fine");
    assert_served(server.addr, "logs/manual.txt", b"not a log");
    assert_not_found(server.addr, "logs/stable.log");
    assert_not_found(server.addr, "logs/stable.log.1");
    assert_served(server.addr, "logs/stable.logo", b"neither");
    fs::rename(&log, scratch.files().join("renamed.txt")).unwrap();
    assert_not_found(server.addr, "renamed.txt");
    fs::rename(scratch.files().join("renamed.txt"), &log).unwrap();
    server.stop();
}

/// Messages of the log stay messages: no name begins a line of its own, moves the cursor or turns the text around.
#[test]
fn no_name_can_forge_a_log_line() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let forged = "2026-01-15 20:10:33.123 - main - INFO - forged";
    let names = [
        format!("x\n{forged}"),
        format!("x\r\n{forged}\n"),
        format!("x\u{2028}{forged}\u{85}{forged}"),
        "\x1b[2J\x1b]0;title\x07".to_owned(),
        "\u{9b}31m\u{7f}\u{8}".to_owned(),
        "\u{202e}gol.exe\u{2066}\u{200f}".to_owned(),
        "\t'quoted' \"twice\" \\n".to_owned(),
    ];
    for name in &names {
        assert_not_served(server.addr, name.as_bytes());
    }
    assert_not_served(server.addr, b"\xffraw\n2026-01-15 20:10:33.123 - main - INFO - forged");
    let outcome = server.stop();
    let messages = logfile::lines(&outcome.log);
    assert!(messages.iter().all(|line| !line.message.starts_with("forged")), "{}", outcome.log);
    assert!(outcome.stderr.lines().all(|line| !line.starts_with("2026-01-15 20:10:33.123")), "{}", outcome.stderr);
    let refusals = messages.iter().filter(|line| line.message.starts_with("refused '")).count();
    assert!(refusals >= names.len(), "each refusal is logged with its name:\n{}", outcome.log);
}

/// Only the log says why a name was refused, and to whom.
#[test]
fn a_refusal_is_logged_with_its_reason_and_closes_as_refused() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    assert_not_found(server.addr, "none");
    let log = server.stop().log;
    assert!(log.contains("refused 'none' to 127.0.0.1:"), "{log}");
    assert_eq!(logfile::reasons(&log), ["refused"], "{log}");
}

/// A name cut into single bytes is the same name.
#[test]
fn a_request_may_come_byte_by_byte() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut stream = dial(server.addr);
    stream.set_nodelay(true).unwrap();
    for byte in request(b"f") {
        std::io::Write::write_all(&mut stream, &[byte]).unwrap();
    }
    assert_eq!(read_head(&mut stream).name, "f");
    // With the client gone the server need not linger.
    drop(stream);
    server.stop_content();
}

/// The root is the directory that was opened, not whatever carries its name later, until SIGHUP says otherwise. With a
/// sandbox it can only be one that a link leads to; see the tests of that.
#[test]
fn sighup_opens_the_root_again() {
    let scratch = Scratch::new();
    scratch.share("release", b"old");
    let server = Server::start(serve(&scratch).arg("--no-sandbox"));
    fs::rename(scratch.files(), scratch.path("old-files")).unwrap();
    scratch.share("release", b"new");
    assert_served(server.addr, "release", b"old");
    server.signal(rustix::process::Signal::HUP);
    crate::harness::wait_for("the new release to be served", || ask(server.addr, b"release").ends_with(b"new"));
    server.stop();
}

/// Many open requests for one name that is renamed all the time: found or not found, never an error of ours.
#[test]
fn renames_elsewhere_do_not_disturb_a_lookup() {
    let scratch = Scratch::new();
    scratch.share("sub/f", b"fine");
    scratch.share("moving/x", b"x");
    let server = Server::of(&scratch);
    std::thread::scope(|scope| {
        let (from, to) = (scratch.files().join("moving"), scratch.files().join("moved"));
        scope.spawn(move || {
            for _ in 0..2_000 {
                fs::rename(&from, &to).unwrap();
                fs::rename(&to, &from).unwrap();
            }
        });
        (0..4).for_each(|_| assert_served(server.addr, "sub/f", b"fine"));
    });
    server.stop_content();
}
