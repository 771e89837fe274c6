//! Runs of our own code in which chance decides what the world does, each from one seed: no socket, no disk, no clock.
//!
//! A simulation is a test that calls [`run`]. Each seed is one run, and the same seed is the same run. The environment
//! says how many there are: `XFER_SEED` for exactly one, whose steps are printed; `XFER_SECONDS` for as many as fit into
//! that time. `make torture` sets the latter.

mod chance;
mod client;
mod dice;
mod server;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

pub use chance::Chance;
pub use client::machine;
use dice::Dice;

/// Runs the simulation of this name for `seeds` seeds, or as the environment says; a run that panics names its seed and its
/// last steps.
pub fn run(what: &str, seeds: u64, one: impl Fn(&mut Chance)) {
    let asked = |name: &str| env::var(name).ok().map(|value| value.parse().expect("a whole number"));
    let (seeds, is_alone) = match (asked("XFER_SEED"), asked("XFER_SECONDS")) {
        (Some(seed), _) => (seed..seed + 1, true),
        (None, Some(_)) => (0..u64::MAX, false),
        (None, None) => (0..seeds, false),
    };
    let until = asked("XFER_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut count, mut faults) = (0u64, BTreeMap::new());
    for seed in seeds {
        if !is_alone && until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let mut chance = Chance::new(seed);
        if is_alone {
            chance.watch();
        }
        let result = catch_unwind(AssertUnwindSafe(|| one(&mut chance)));
        if result.is_err() && !is_alone {
            // Once more, with the steps that led to it.
            chance = Chance::new(seed);
            chance.watch();
            let _ = catch_unwind(AssertUnwindSafe(|| one(&mut chance)));
        }
        if is_alone || result.is_err() {
            let steps = chance.steps();
            eprintln!("{what}, seed {seed}: the last {} steps:\n  {}", steps.len(), steps.join("\n  "));
        }
        if let Err(panic) = result {
            eprintln!("{what}: to see it again: XFER_SEED={seed} cargo test --locked --lib simulation::{what}");
            resume_unwind(panic);
        }
        count += 1;
        for (fault, times) in chance.faults() {
            *faults.entry(*fault).or_insert(0) += times;
        }
    }
    let injected: u64 = faults.values().sum();
    println!("simulation {what}: {count} seeds, {injected} faults, 0 violations");
    for (fault, times) in faults {
        println!("simulation {what}: {times} times: {fault}");
    }
}

#[test]
fn every_seed_runs_once_and_its_faults_are_counted() {
    let runs = std::cell::Cell::new(0);
    run("frame", 10, |chance| {
        runs.set(runs.get() + 1);
        assert!(chance.len(100) <= 100);
        assert!([1, 2].contains(chance.pick(&[1, 2])));
        chance.count("a fault");
        assert_eq!(chance.faults()["a fault"], 1);
    });
    if env::var_os("XFER_SEED").or(env::var_os("XFER_SECONDS")).is_none() {
        assert_eq!(runs.get(), 10);
    }
}
