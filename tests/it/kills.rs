//! Clients killed at random moments: little is sent again, nothing wrong ever has the right name, nothing is left.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::content::Random;
use crate::harness::{Outcome, Plan, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{LARGE, MIB, assert_saved, part_len};

const OLD: &[u8] = b"old body";

/// In each of as many lanes at the same time.
const KILLS: usize = 15;
const LANES: u64 = 4;

/// At most this much is sent again after a kill.
const AGAIN_MAX: u64 = 8 * MIB;

/// Named in every failure: with it the same moments are tried again, as far as the machine lets them be the same.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed of the kills: {}", self.0);
        }
    }
}

#[test]
fn sixty_kills_at_random_moments() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = Seed(std::env::var("XFER_TEST_SEED").map_or(now, |seed| seed.parse().unwrap()));
    let body = content(seed.0, LARGE);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (body, seed) = (&body, seed.0.wrapping_add(lane));
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut kills = 0;
                    while kills < KILLS {
                        kills += killed_until_done(&mut random, body);
                    }
                })
            })
            .collect();
        for lane in lanes {
            assert!(lane.join().is_ok(), "a lane has failed, seed {}", seed.0);
        }
    });
}

/// One file, whose client is killed again and again; answers how often.
fn killed_until_done(random: &mut Random, body: &[u8]) -> usize {
    let scratch = Scratch::new();
    scratch.share("a", body);
    scratch.write("out/a", OLD);
    let server = Server::of(&scratch);
    let next_hold = Arc::new(AtomicU64::new(0));
    let relay = Relay::new(server.addr, {
        let next_hold = Arc::clone(&next_hold);
        move |_| Plan::hold(next_hold.load(Ordering::SeqCst))
    });
    let mut kills = 0;
    loop {
        next_hold.store(random.below(14 * MIB), Ordering::SeqCst);
        let (number, before) = (relay.connections(), part_len(&scratch));
        let mut client = get(&scratch, relay.addr).args(["--force", "--timeout", "60", "a"]).spawn();
        // Held on its way, or anywhere before.
        // Later after each kill: a busy machine may need long to read again what is there.
        let (mut looks, last_look) = (0, random.below(40 + 10 * kills as u64));
        wait_for("the moment of the kill", || {
            looks += 1;
            looks > last_look || relay.is_held(number) || client.has_ended()
        });
        if client.has_ended() {
            assert_saved(&client.finish(), &scratch, body);
            server.stop();
            return kills;
        }
        let outcome = client.finish_after(Signal::KILL);
        kills += 1;
        relay.settle();
        assert_nothing_wrong(&scratch, &outcome, body);
        assert_little_again(&relay, number, before, &outcome);
    }
}

/// The old file, or the whole new one if the moment was the one behind its renaming.
fn assert_nothing_wrong(scratch: &Scratch, outcome: &Outcome, body: &[u8]) {
    let target = scratch.out().join("a");
    let now = fs::read(&target).unwrap();
    if now != OLD {
        outcome.assert(now == body, "the old file, or the whole new one");
        outcome.assert(part_len(scratch) == 0, "the part has become the file");
        fs::write(&target, OLD).unwrap();
    }
}

/// What was in the part before this client began is asked for again only as far as allowed.
fn assert_little_again(relay: &Relay, number: usize, before: u64, outcome: &Outcome) {
    let gets = relay.gets().split_off(number);
    for get in gets.into_iter().flatten().flatten() {
        let again = before.saturating_sub(get.offset);
        outcome.assert(again <= AGAIN_MAX, &format!("{again} bytes of {before} asked for again\n{}", relay.report()));
    }
}
