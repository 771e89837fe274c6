//! A file system that does not know how long its files are, through FUSE: what it shows is never called verified.
//!
//! Only root can mount it. For everybody else the tests of the connection stand for it (serve/conn_disk_tests.rs).

use std::fs;

use crate::harness::fuse::{Fuse, Quirks};
use crate::harness::{Scratch, Server, get, serve_dir};

/// A file: its name, the size that it is said to have, and the bytes that can be read.
type Entry = (&'static str, u64, u64);

const FILES: [Entry; 5] =
    [("true", 10, 10), ("short", 4096, 23), ("large", 1_000_000, 300_000), ("empty", 0, 23), ("long", 5, 23)];

#[test]
fn a_size_that_is_not_true_is_a_read_error_at_once() {
    for (remembered, is_direct) in [(0, false), (60, false), (0, true), (60, true)] {
        let habits = format!("remembered for {remembered} s, direct reads {is_direct}");
        let quirks = Quirks { files: FILES.to_vec(), remembered, is_direct, ..Quirks::none() };
        let scratch = Scratch::new();
        let Some(fuse) = Fuse::mount(&scratch, "mount", quirks) else { return };
        let server = Server::start(serve_dir(&scratch, fuse.folder()));
        for (name, size, held) in FILES {
            let outcome = get(&scratch, server.addr).arg(name).run();
            let saved = scratch.out().join(name);
            // Without direct reads the kernel itself ends the file at its size: that is what any program sees of it.
            if held == size || held > size && !is_direct {
                outcome.exits(0);
                assert_eq!(fs::read(saved).unwrap(), vec![b'x'; size as usize], "{habits}: {}", outcome.report());
            } else {
                let how_many = if held < size { "fewer" } else { "more" };
                let why = format!(" cannot read '{name}': it has {how_many} bytes than its size ({size} bytes); ");
                outcome.exits(1).has_one_error_line().stderr_has(&why).stderr_lacks("resuming").made_attempts(1);
                assert!(!saved.exists(), "{habits}: {}", outcome.report());
            }
            fs::remove_file(scratch.path("client.log")).unwrap();
        }
        // Nobody but the operator can do anything about it.
        let log = server.stop().log;
        let line =
            log.lines().find(|line| line.contains(" - ERROR - cut 'short' after ")).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("/4096 bytes to 127.0.0.1:"), "{habits}: {line}");
        assert!(line.contains(": read error: it has fewer bytes than its size (4096 bytes) ("), "{habits}: {line}");
    }
}
