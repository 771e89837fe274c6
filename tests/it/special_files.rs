//! Files whose size is none: those that the kernel makes up are not served, and any other ends with a reason.

use std::fs;
use std::path::Path;

use crate::harness::wire::{ask, refusal};
use crate::harness::wire2::{Get, NOT_FOUND, Peer, READ_ERROR, data, error};
use crate::harness::{Scratch, Server, get, logfile, serve_dir, wire2};
use crate::scripted_server::ScriptedServer;

/// Files that every Linux has there, of size 0 and of size 4096; those of the others, where they are mounted.
const PSEUDO: [(&str, &str); 10] = [
    ("/proc/cpuinfo", "proc"),
    ("/proc/self/status", "proc"),
    ("/proc/sys/kernel/ostype", "proc"),
    ("/sys/kernel/notes", "sysfs"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "sysfs"),
    ("/sys/kernel/debug/sleep_time", "debugfs"),
    ("/sys/kernel/tracing/trace_pipe", "tracefs"),
    ("/sys/fs/cgroup/cgroup.procs", "cgroup2"),
    ("/sys/fs/cgroup/unified/cgroup.procs", "cgroup2"),
    ("/sys/fs/cgroup/cpu/cgroup.procs", "cgroup"),
];

/// Whichever folder is shared: the file system itself, or one above it, from which other files are served.
#[test]
fn what_the_kernel_makes_up_is_not_served() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain", b"fine");
    for dir in ["/", "/proc", "/sys"] {
        let server = Server::start(serve_dir(&scratch, Path::new(dir)));
        let mut peer = Peer::dial(server.addr);
        let mut expected = Vec::new();
        for (path, kind) in PSEUDO {
            let Ok(name) = Path::new(path).strip_prefix(dir) else { continue };
            let Ok(metadata) = fs::metadata(path) else { continue };
            let size = metadata.len();
            let shown = name.display();
            let get = Get::of(name.to_str().unwrap());
            assert_eq!(peer.get(&get).refusal(), NOT_FOUND, "{path} of {size} bytes");
            let digest = Get::of(name.to_str().unwrap()).digest_only(size);
            assert_eq!(peer.get(&digest).refusal(), NOT_FOUND, "the digest of {path}");
            let message = refusal(&ask(server.addr, name.to_str().unwrap().as_bytes()));
            assert_eq!(message, format!("File '{shown}' not found on server"));
            let why = format!("not found (a file of {kind}, whose size is not that of its content)");
            expected.push((format!("refused '{shown}' to "), why));
        }
        if dir == "/" {
            peer.get(&Get::of(plain.strip_prefix("/").unwrap().to_str().unwrap())).assert_brings(b"fine");
        }
        drop(peer);
        let outcome = server.stop_blaming_peers();
        for (refused, why) in expected {
            let lines = logfile::lines(&outcome.log).into_iter().map(|line| line.message);
            let lines: Vec<_> = lines.filter(|line| line.starts_with(&refused)).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(&why)), "{refused}{why}: {lines:?}");
        }
        fs::remove_file(scratch.path("server.log")).unwrap();
    }
}

/// Such a file was once "saved: 0 bytes, verified".
#[test]
fn nobody_is_told_that_a_made_up_file_is_verified() {
    let scratch = Scratch::new();
    let server = Server::start(serve_dir(&scratch, Path::new("/proc")));
    for options in [&[][..], &["--v1"]] {
        let outcome = get(&scratch, server.addr).arg("cpuinfo").args(options).run();
        outcome.exits(1).has_one_error_line().stderr_has("'cpuinfo' not found").made_attempts(1);
        assert_eq!(scratch.names("out"), [""; 0]);
        fs::remove_file(scratch.path("client.log")).unwrap();
    }
    server.stop_blaming_peers();
}

const SHORT: &str = " cannot read 'a': it has fewer bytes than its size (4096 bytes); ";

/// A read error is the end at once, with the server's words, whatever has come before; and the next run begins anew.
#[test]
fn a_file_that_ends_early_ends_the_run() {
    let scratch = Scratch::new();
    for brought in [0, 23] {
        let server = ScriptedServer::answering_gets(move |_, _| {
            let file = wire2::File::of(&[0; 4096]);
            let bytes = if brought > 0 { data(&vec![b'x'; brought]) } else { Vec::new() };
            [file.bytes(), bytes, error(READ_ERROR, SHORT)].concat()
        });
        for _ in 0..2 {
            let outcome = get(&scratch, server.addr).arg("a").run();
            outcome.exits(1).has_one_error_line().stderr_has(SHORT).stderr_lacks("resuming").made_attempts(1);
            assert!(!scratch.out().join("a").exists(), "{}", outcome.report());
            fs::remove_file(scratch.path("client.log")).unwrap();
        }
    }
}
