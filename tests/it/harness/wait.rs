//! Waiting for a condition, with a deadline: the only place in the tests that sleeps between two looks.

use std::time::{Duration, Instant};

/// How long a test waits for what must come. Long, because the cores may be busy with other tests; a test that cares
/// how fast something is measures it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks: short beside every time limit that a test asserts.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for_some(what, || condition().then_some(()));
}

pub fn wait_for_some<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    look_until(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// None when the deadline passed first.
pub fn look_until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
