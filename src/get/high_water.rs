//! The high-water mark of a file, and whether the attempts that raised it were worth their time.

use std::time::Duration;

use crate::pace::{MIN_RATE_DEFAULT, PERIOD, Pace};
use crate::proto::Version;

/// The highest offset at which a file could ever be resumed, and the pace at which that rises.
///
/// An attempt that raises it starts the count of attempts again, by however little: over a line that dies after every 60 KB
/// a file arrives. A server that gives a byte each time would hold its client for ever; so what the attempts that raise it
/// bring must be [`MIN_RATE_DEFAULT`], over each [`PERIOD`] of them and the pauses before them. Those that bring nothing
/// are not counted here: the count of attempts ends them.
pub struct HighWater {
    reached: Reached,
    /// What the attempts that raised it have brought, in the time for them.
    pace: Pace,
    /// Whether the last whole period was too slow.
    is_too_slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// No byte.
    Nothing,
    /// This one, of this version.
    Byte(Version, u64),
    /// The file has changed in this run, and what an attempt brings may be worth nothing to the next.
    Unsteady,
}

impl HighWater {
    /// Before the first byte.
    pub fn new() -> HighWater {
        HighWater { reached: Reached::Nothing, pace: Pace::default(), is_too_slow: false }
    }

    /// So much of this version was there before.
    pub fn start_at(&mut self, version: Version, offset: u64) {
        self.reached = Reached::Byte(version, offset);
    }

    /// What was reached is lost, and no measure of what the next attempts reach.
    pub fn forget(&mut self) {
        self.reached = Reached::Nothing;
    }

    /// Takes how far the part is good after an attempt, which took so long with the pause before it; whether the count of
    /// attempts begins again.
    pub fn advances(&mut self, version: Version, offset: u64, took: Duration) -> bool {
        let before = match self.reached {
            Reached::Nothing => 0,
            Reached::Byte(reached, before) if reached == version => before,
            Reached::Byte(..) | Reached::Unsteady => {
                self.reached = Reached::Unsteady;
                return false;
            }
        };
        if offset <= before {
            return false;
        }
        self.reached = Reached::Byte(version, offset);
        self.pace.moves(offset - before, took);
        self.is_too_slow = self.pace.judge(PERIOD, MIN_RATE_DEFAULT).unwrap_or(self.is_too_slow);
        !self.is_too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Version = Version([1; 16]);
    const OTHER: Version = Version([2; 16]);

    /// How many attempts in a row, each of so many seconds and bytes, start the count again.
    fn count(bytes: u64, seconds: f64, attempts: u64) -> u64 {
        let mut mark = HighWater::new();
        let took = Duration::from_secs_f64(seconds);
        (1..=attempts).take_while(|number| mark.advances(ONE, number * bytes, took)).count() as u64
    }

    #[test]
    fn any_byte_further_counts_until_it_takes_too_long() {
        assert_eq!(count(1, 1.0, 10_000), 119);
        assert_eq!(count(1, 0.1, 10_000), 1199);
        assert_eq!(count(499, 1.0, 10_000), 119);
        assert_eq!(count(500, 1.0, 10_000), 10_000);
        // A line that dies after every 60 KB, and one on which every third attempt gets anywhere.
        assert_eq!(count(49_152, 1.5, 10_000), 10_000);
        assert_eq!(count(16_384, 30.0, 10_000), 10_000);
    }

    /// A period is judged as a whole, and the next one may be better.
    #[test]
    fn a_line_that_recovers_counts_again() {
        let mut mark = HighWater::new();
        let second = Duration::from_secs(1);
        assert!((1..120).all(|offset| mark.advances(ONE, offset, second)));
        assert!((120..240).all(|offset| !mark.advances(ONE, offset, second)));
        assert!(mark.advances(ONE, 1 << 20, second), "the period in which it brought a MiB");
    }

    #[test]
    fn what_is_not_further_never_counts() {
        let mut mark = HighWater::new();
        let long = PERIOD * 10;
        mark.start_at(ONE, 1000);
        assert!(!mark.advances(ONE, 0, long) && !mark.advances(ONE, 1000, long));
        assert!(mark.advances(ONE, 1001, Duration::ZERO), "attempts in vain take no time here");
        // The same bytes again, after those before proved to be something else.
        mark.forget();
        assert!(mark.advances(ONE, 10, Duration::ZERO));
        assert!(!mark.advances(OTHER, 1 << 20, Duration::ZERO), "another version");
        assert!(!mark.advances(OTHER, 1 << 21, Duration::ZERO), "and never again in this run");
    }
}
