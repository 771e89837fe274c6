//! Several trials at a time: most of their time they wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// As many as keep two cores busy without making each other late.
const LANES: u64 = 3;

/// Runs `trial` for each job, in order, until the time is over. Each lane makes what it needs with `prepare`.
pub fn run<J: Sync, L>(
    jobs: &[J],
    end: Option<Instant>,
    prepare: impl Fn(u64) -> L + Sync,
    trial: impl Fn(&mut L, &J) + Sync,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..LANES {
            let (next, prepare, trial) = (&next, &prepare, &trial);
            scope.spawn(move || {
                let mut lane = prepare(number);
                while end.is_none_or(|end| Instant::now() < end) {
                    let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    trial(&mut lane, job);
                }
            });
        }
    });
}
