//! The time, as the client reads it; in a simulation, that of the simulated machine.

use std::time::{Duration, Instant};

/// The time now.
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = crate::simulation::machine::now() {
        return now;
    }
    Instant::now()
}

/// How long ago this was.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}
