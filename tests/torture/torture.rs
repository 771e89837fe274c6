//! What every row is told: how long, from which seed, and whether all of it is wanted.

use std::time::{Duration, Instant};

use super::options::Options;

pub struct Torture {
    /// Of each row that could go on for ever.
    pub share: Duration,
    pub all: bool,
    pub seed: u64,
    only: Option<String>,
}

impl Torture {
    pub fn new(options: &Options, rows: usize) -> Torture {
        let share = Duration::from_secs(options.seconds) / u32::try_from(rows.max(1)).unwrap_or(u32::MAX);
        Torture { share, all: options.all, seed: options.seed, only: options.only.clone() }
    }

    /// Whether a trial of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// When a row that began now is over; never, if all of it is wanted.
    pub fn end(&self) -> Option<Instant> {
        (!self.all).then(|| Instant::now() + self.share)
    }
}
