//! A trial: one thing done to the binary, and whether anything was lost or wrong after it.
//!
//! It fails as a test does, with a panic that says everything; the scratch folder and the programs show themselves then.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_LOSS: Cell<bool> = const { Cell::new(false) };
}

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Bytes that were safe are gone, or a file cannot be fetched any more.
    Lost,
    /// Another content than it should be, an exit code that does not fit, a panic, a server that has ended.
    Wrong,
}

/// Runs a trial. `again` tells how to see it again.
pub fn attempt(again: &str, trial: impl FnOnce()) -> Verdict {
    IS_LOSS.set(false);
    if catch_unwind(AssertUnwindSafe(trial)).is_ok() {
        return Verdict::Good;
    }
    let verdict = if IS_LOSS.get() { Verdict::Lost } else { Verdict::Wrong };
    eprintln!("VIOLATION ({verdict:?}); to see it again: {again}");
    verdict
}

/// Fails as a loss unless `condition`.
pub fn safe(condition: bool, what: impl FnOnce() -> String) {
    if !condition {
        IS_LOSS.set(true);
        panic!("{}", what());
    }
}

/// What happens in here is a loss if it fails: a file that cannot be finished, say.
pub fn or_lost<T>(work: impl FnOnce() -> T) -> T {
    IS_LOSS.set(true);
    let done = work();
    IS_LOSS.set(false);
    done
}

/// How to run the same row with the same numbers again.
pub fn again(row: &str, seed: u64, only: &str) -> String {
    let only = if only.is_empty() { String::new() } else { format!(" --only {only}") };
    format!("make torture TORTURE_ARGS='--rows {row} --seed {seed} --all{only}'")
}
