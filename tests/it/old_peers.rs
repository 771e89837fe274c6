//! Old clients and old servers work with ours, every time, without being told anything.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::harness::{Scratch, Server, content, cores, get, plain_get};
use crate::old_client::{self, Fetched};
use crate::old_server::OldServer;

/// The test suite of the first system is run this often.
const ROUNDS: usize = 3;

/// Fetches with the old client and compares what it saved.
fn assert_old_client_gets(addr: SocketAddr, name: &str, body: &[u8], dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join(name);
    let wanted = Ok(Fetched::Verified { path: path.clone(), size: body.len() as u64 });
    assert_eq!(old_client::fetch(addr, name.as_bytes(), dir), wanted, "{name}");
    assert!(fs::read(path).unwrap() == body, "{name} differs");
}

#[test]
fn old_client_alone_forty_times() {
    let scratch = Scratch::new();
    // Four at a time only to save the time of the gap between `OK` and the metadata.
    let sizes = [0, 1000, 100_000, 1_000_000];
    let server = Server::of(&scratch);
    std::thread::scope(|scope| {
        for (lane, size) in sizes.into_iter().enumerate() {
            let (scratch, addr) = (&scratch, server.addr);
            scope.spawn(move || {
                let (name, body) = (format!("{lane}.bin"), content(lane as u64, size));
                scratch.share(&name, &body);
                for _ in 0..10 {
                    assert_old_client_gets(addr, &name, &body, &scratch.out());
                }
            });
        }
    });
    assert_eq!(server.stop_content().log.matches("reason: complete").count(), 40);
}

#[test]
fn two_hundred_old_clients_at_once() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let body = content(1, 200_000);
    scratch.share("a.bin", &body);
    let server = Server::of(&scratch);
    std::thread::scope(|scope| {
        for number in 0..200 {
            let dir = scratch.path(format!("out-{number}"));
            let (addr, body) = (server.addr, &body);
            scope.spawn(move || assert_old_client_gets(addr, "a.bin", body, &dir));
        }
    });
    assert_eq!(server.stop_content().log.matches("reason: complete").count(), 200);
}

#[test]
fn our_client_gets_from_an_old_server_without_options() {
    let scratch = Scratch::new();
    let long = "n".repeat(255);
    let files = [("empty", 0), ("sub/one", 1), ("edge", 131_072), ("large", 5_000_001), (long.as_str(), 10)];
    for (name, size) in files {
        scratch.share(name, &content(size as u64, size));
    }
    let server = OldServer::of(&scratch.files());
    let outcome = get(&scratch, server.addr).args(files.map(|(name, _)| name)).run();
    outcome.exits(0).stderr_has("5 of 5 saved").prints_nothing_on_stdout();
    for (name, size) in files {
        let saved = fs::read(scratch.out().join(name.rsplit('/').next().unwrap())).unwrap();
        assert!(saved == content(size as u64, size), "{name} differs");
    }
    get(&scratch, server.addr).arg("none").run().exits(1).stderr_has("not found");
    get(&scratch, server.addr).arg("large").run().exits(0).stderr_has("already up to date");
}

#[test]
fn old_client_is_told_what_is_missing() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    for name in ["none", "sub/none", "ü"] {
        let refused = Fetched::Refused(format!("File '{name}' not found on server"));
        assert_eq!(old_client::fetch(server.addr, name.as_bytes(), &scratch.path("")), Ok(refused));
    }
    server.stop();
}

/// The files of the first system's test suite.
fn share_samples(scratch: &Scratch) -> Vec<(&'static str, Vec<u8>)> {
    let json = format!("{{\"items\": [{}]}}\n", vec!["{\"id\": 1, \"name\": \"sample\"}"; 70].join(", "));
    let samples = vec![
        ("small.txt", content(1, 900)),
        ("medium.txt", content(2, 50_000)),
        ("large.bin", content(3, 1_000_000)),
        ("data.json", json.into_bytes()),
    ];
    for (name, body) in &samples {
        scratch.share(name, body);
    }
    samples
}

/// small, medium, large, JSON, three at once, and a file that is missing.
fn run_first_suite(scratch: &Scratch, fetch: &(dyn Fn(&str, &Path) -> Result<(), String> + Sync)) {
    let samples = share_samples(scratch);
    for round in 0..ROUNDS {
        let dir = scratch.path(format!("round-{round}"));
        fs::create_dir(&dir).unwrap();
        let get_one = |(name, body): &(&str, Vec<u8>)| {
            fetch(name, &dir).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(fs::read(dir.join(name)).unwrap() == *body, "{name} differs");
        };
        samples.iter().for_each(get_one);
        samples.iter().for_each(|(name, _)| fs::remove_file(dir.join(name)).unwrap());
        std::thread::scope(|scope| {
            samples[..3].iter().for_each(|sample| drop(scope.spawn(|| get_one(sample))));
        });
        let error = fetch("missing.txt", &dir).unwrap_err();
        assert!(error.contains("not found"), "{error}");
        assert!(!dir.join("missing.txt").exists());
    }
}

fn fetch_with_old_client(addr: SocketAddr) -> impl Fn(&str, &Path) -> Result<(), String> + Sync {
    move |name, dir| match old_client::fetch(addr, name.as_bytes(), dir)? {
        Fetched::Verified { .. } => Ok(()),
        Fetched::Refused(message) => Err(message),
    }
}

fn fetch_with_our_client(scratch: &Scratch, addr: SocketAddr) -> impl Fn(&str, &Path) -> Result<(), String> + Sync {
    move |name, dir| {
        let outcome = plain_get(scratch, addr).arg("-d").arg(dir).arg(name).run();
        if outcome.status.success() { Ok(()) } else { Err(outcome.report()) }
    }
}

#[test]
fn first_suite_with_old_client_and_our_server() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    run_first_suite(&scratch, &fetch_with_old_client(server.addr));
    server.stop();
}

#[test]
fn first_suite_with_our_client_and_our_server() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    run_first_suite(&scratch, &fetch_with_our_client(&scratch, server.addr));
    server.stop();
}

#[test]
fn first_suite_with_our_client_and_old_server() {
    let scratch = Scratch::new();
    let server = OldServer::of(&scratch.files());
    run_first_suite(&scratch, &fetch_with_our_client(&scratch, server.addr));
}
