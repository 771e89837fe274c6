//! Small files, which are held in memory until they are verified: whatever ends them leaves every target right.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::harness::content::Random;
use crate::harness::wire2::{self, BLAKE3, Get};
use crate::harness::{Plan, Program, Relay, Scratch, Server, content, get, plain_get, wait_for};
use crate::scripted_server::ScriptedServer;

/// Bytes of the largest file that is held.
const HELD_MAX: usize = (1 << 20) - 1;

/// How both ways of saving a file are asked for.
const WAYS: [&[&str]; 2] = [&[], &["--no-sync"]];

#[test]
fn sizes_around_the_limits() {
    let scratch = Scratch::new();
    let first_frames = [16_383, 16_384, 16_385, 49_152, 49_153, 100_000];
    let others = [0, 1, 4095, 4096, 4097, HELD_MAX - 1, HELD_MAX, HELD_MAX + 1, 3 * HELD_MAX];
    let sizes = [&first_frames[..], &others].concat();
    for size in sizes.clone() {
        scratch.share(size.to_string(), &content(1, size));
    }
    let names: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let server = Server::of(&scratch);
    for args in WAYS {
        for checksum in ["md5", "blake3"] {
            get(&scratch, server.addr).args(["--checksum", checksum]).args(args).args(&names).run().exits(0);
            for size in sizes.clone() {
                assert!(fs::read(scratch.out().join(size.to_string())).unwrap() == content(1, size), "{size} bytes");
            }
            assert_eq!(scratch.names("out").len(), sizes.len(), "nothing else in the target directory");
            fs::remove_dir_all(scratch.out()).unwrap();
        }
    }
    server.stop();
}

/// A link that never brings a whole file: each attempt resumes where the one before it ended.
#[test]
fn a_cut_in_the_middle_goes_on() {
    for args in WAYS {
        let scratch = Scratch::new();
        let body = content(2, 1000);
        let served = body.clone();
        let (asked, heard) = std::sync::mpsc::channel();
        let server = ScriptedServer::of_any_version(move |_, stream| {
            let Some(get) = Get::read(stream) else { return };
            asked.send(get.offset).unwrap();
            let offset = usize::try_from(get.offset).unwrap();
            let about = wire2::File { offset: get.offset, ..wire2::File::of(&served) };
            let end = wire2::digest(&content::digest(get.algorithm, &served));
            // A whole frame, and a piece of the next one, which is worth nothing.
            let reply = match served.len() - offset {
                left @ 301.. => {
                    let torn = wire2::data(&served[offset + 300..offset + left])[..20].to_vec();
                    [about.bytes(), wire2::data(&served[offset..offset + 300]), torn].concat()
                }
                _ => [about.bytes(), wire2::data(&served[offset..]), end].concat(),
            };
            let _ = stream.write_all(&reply);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = Get::read(stream);
        });
        let outcome = get(&scratch, server.addr).args(["--max-backoff", "0.01", "a"]).args(args).run();
        outcome.exits(0).stderr_has("verified");
        assert!(fs::read(scratch.out().join("a")).unwrap() == body);
        assert_eq!(scratch.names("out"), ["a"]);
        assert_eq!(heard.try_iter().collect::<Vec<u64>>(), [0, 300, 600, 900]);
    }
}

/// Twice wrong, in the middle of others: that one fails, and what was there under its name stays.
#[test]
fn a_wrong_digest_in_the_middle_of_others() {
    for args in WAYS {
        let scratch = Scratch::new();
        let old = scratch.write("out/b", b"old body");
        let server = ScriptedServer::answering_gets(|_, get| {
            let mut reply = wire2::honest_reply(get, &get.name);
            if get.name == b"b" && get.flags & wire2::NO_DATA == 0 {
                *reply.last_mut().unwrap() ^= 1;
            }
            reply
        });
        let outcome = get(&scratch, server.addr).args(["--max-backoff", "0.01", "a", "b", "c"]).args(args).run();
        outcome.exits(4).stderr_has("2 of 3 saved").stderr_has("arrived damaged");
        assert_eq!(fs::read(&old).unwrap(), b"old body");
        assert_eq!(scratch.names("out"), ["a", "b", "c"]);
        assert_eq!(fs::read(scratch.out().join("c")).unwrap(), b"c");
        assert_eq!(server.connections(), 1, "the replies behind it are good");
    }
}

/// What another client is at stays its own, and the others are saved.
#[test]
fn a_part_that_another_client_has_locked() {
    for args in WAYS {
        let scratch = Scratch::new();
        ["a", "b", "c"].into_iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
        let part = scratch.write("out/.b.xfer-part", b"its bytes");
        let lock = fs::File::open(&part).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let server = Server::of(&scratch);
        let outcome = get(&scratch, server.addr).args(["a", "b", "c"]).args(args).run();
        outcome.exits(5).stderr_has("another xfer is already fetching").stderr_has("2 of 3 saved");
        assert_eq!(fs::read(&part).unwrap(), b"its bytes");
        assert_eq!(scratch.names("out"), [".b.xfer-part", "a", "c"]);
        drop(lock);
        get(&scratch, server.addr).args(["a", "b", "c"]).args(args).run().exits(0);
        assert_eq!(scratch.names("out"), ["a", "b", "c"]);
        assert_eq!(fs::read(scratch.out().join("b")).unwrap(), b"b");
        server.stop();
    }
}

/// What is in the way of its name is told as of a large file, and nothing is left beside it.
#[test]
fn a_directory_or_a_file_in_the_way() {
    for args in WAYS {
        let scratch = Scratch::new();
        scratch.share("a", b"a");
        scratch.share("b", b"b");
        scratch.write("out/a/precious", b"precious");
        let server = Server::of(&scratch);
        let outcome = get(&scratch, server.addr).args(["a", "b"]).args(args).run();
        outcome.exits(5).stderr_has("a: it is a directory; use -o or -d").stderr_has("1 of 2 saved");
        assert_eq!(scratch.names("out"), ["a", "b"]);
        assert_eq!(fs::read(scratch.path("out/a/precious")).unwrap(), b"precious");
        let below = scratch.path("out/b/c");
        let outcome = plain_get(&scratch, server.addr).arg("-d").arg(below).arg("b").args(args).run();
        outcome.exits(5).stderr_has("cannot create the directory");
        server.stop();
    }
}

/// The write is what tells that there is no room, and the old file is there.
#[test]
fn a_disk_without_room() {
    for args in WAYS {
        let scratch = Scratch::new();
        let old = scratch.write("out/a", b"old body");
        scratch.share("a", &content(3, 100_000));
        scratch.share("b", b"fits");
        let server = Server::of(&scratch);
        // In blocks of 512 or 1024 bytes, whichever the shell takes.
        let outcome = get(&scratch, server.addr).args(["a", "b"]).args(args).after("ulimit -f 50").run();
        outcome.exits(5).stderr_has("cannot write").stderr_has("1 of 2 saved");
        assert_eq!(fs::read(&old).unwrap(), b"old body");
        assert_eq!(scratch.names("out"), ["a", "b"]);
        server.stop();
    }
}

/// Bytes of a reply about a file of 100 bytes, with its digest.
const REPLY: u64 = 4 + 52 + 4 + 100 + 4 + 32;

/// A client that is killed somewhere in a thousand files, again and again: what has a name is right, and the last run
/// leaves nothing else.
#[test]
fn kills_in_the_middle_of_a_thousand() {
    let body = |name: &str| content(name.parse().unwrap(), 100);
    for args in WAYS {
        let scratch = Scratch::new();
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        names.iter().for_each(|name| drop(scratch.share(name, &body(name))));
        scratch.write("list", names.join("\n").as_bytes());
        let server = Server::of(&scratch);
        let mut random = Random::new(7);
        let mut saved = 0;
        for _ in 0..5 {
            let relay = Relay::of(server.addr, Plan::hold(random.below(1000 * REPLY)));
            let mut client = start(&scratch, &relay, args).spawn();
            wait_for("the moment of the kill", || relay.is_held(0) || client.has_ended());
            client.finish_after(Signal::KILL);
            let there = fs::read_dir(scratch.out()).unwrap().map(|entry| entry.unwrap().path());
            let there: Vec<_> = there.filter(|path| !is_part(path)).collect();
            assert!(there.len() >= saved, "what was saved is there");
            saved = there.len();
            for path in there {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(fs::read(&path).unwrap() == body(name), "{name} differs");
            }
        }
        assert!(saved > 0, "a kill in the middle");
        let relay = Relay::of(server.addr, Plan::faithful());
        start(&scratch, &relay, args).run().exits(0).stderr_has("1000 of 1000 saved");
        assert_eq!(scratch.names("out").len(), 1000, "nothing else in the target directory");
        names.iter().for_each(|name| assert!(fs::read(scratch.out().join(name)).unwrap() == body(name), "{name}"));
        server.stop_blaming_peers();
    }
}

fn start(scratch: &Scratch, relay: &Relay, args: &[&str]) -> Program {
    get(scratch, relay.addr).args(["--force", "--checksum", "blake3", "--from-file", "list"]).args(args)
}

fn is_part(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().ends_with(".xfer-part")
}

/// The digest that decides is the one of the algorithm that was asked for.
#[test]
fn a_digest_of_the_other_algorithm() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|_, get| {
        let mut reply = wire2::honest_reply(get, b"body");
        reply.truncate(reply.len() - 4 - 16);
        [reply, wire2::digest(&content::digest(BLAKE3, b"body"))].concat()
    });
    get(&scratch, server.addr).arg("a").run().exits(4);
    assert!(scratch.names("out").is_empty());
}
