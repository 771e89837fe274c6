//! How often a file is tried, and how long to wait in between.

use std::num::NonZeroU32;
use std::time::Duration;

/// The pause after the first failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest pause, whatever `--max-backoff` says. A refused connection costs 50 µs: without a pause, attempts without
/// limit filled a log with 12 MB/s and a core with work. Ten a second write 2 KB/s, and nobody waits noticeably longer.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Counts attempts, and says how long to wait before the next: 1, 2, 4, 8, 16 s, and never more than a limit, or less than
/// [`PAUSE_MIN`].
#[derive(Debug)]
pub struct Backoff {
    attempt: u32,
    attempts: Option<NonZeroU32>,
    max: Duration,
    /// Whether it has counted from the beginning again.
    was_reset: bool,
}

impl Backoff {
    /// Before the first attempt.
    pub fn new(attempts: Option<NonZeroU32>, max: Duration) -> Backoff {
        Backoff { attempt: 1, attempts, max, was_reset: false }
    }

    /// The pause before the next attempt, which this begins to count; `None` if there is none.
    pub fn next_pause(&mut self) -> Option<Duration> {
        if !self.has_next() {
            return None;
        }
        let doublings = self.attempt - 1;
        self.attempt = self.attempt.saturating_add(1);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Some(FIRST_PAUSE.saturating_mul(factor).min(self.max).max(PAUSE_MIN))
    }

    /// Counts from the beginning again: an attempt was worth it.
    pub fn reset(&mut self) {
        self.attempt = 1;
        self.was_reset = true;
    }

    /// Whether there is another attempt.
    pub fn has_next(&self) -> bool {
        self.attempts.is_none_or(|attempts| self.attempt < attempts.get())
    }

    /// ` (gave up after 5 attempts)`, behind the reason of the last one; nothing after the only one.
    pub fn gave_up(&self) -> String {
        match (self.attempt, self.was_reset) {
            (1, _) => String::new(),
            (attempts, false) => format!(" (gave up after {attempts} attempts)"),
            (attempts, true) => format!(" (gave up after {attempts} attempts in a row without progress)"),
        }
    }

    /// `attempt 2 of 5`
    pub fn label(&self) -> String {
        match self.attempts {
            Some(attempts) => format!("attempt {} of {attempts}", self.attempt),
            None => format!("attempt {}", self.attempt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(None, Duration::from_secs(32));
        let pauses: Vec<u64> = (0..40).filter_map(|_| backoff.next_pause()).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 32]);
        assert_eq!(pauses.len(), 40);
        assert!(pauses[7..].iter().all(|seconds| *seconds == 32));
    }

    /// A limit that says next to nothing would make attempts without a pause of them.
    #[test]
    fn every_pause_is_one() {
        for max in [Duration::from_nanos(1), PAUSE_MIN / 2, PAUSE_MIN] {
            let mut backoff = Backoff::new(None, max);
            let pauses: Vec<Duration> = (0..40).filter_map(|_| backoff.next_pause()).collect();
            assert_eq!(pauses, [PAUSE_MIN; 40]);
        }
    }

    #[test]
    fn five_attempts_have_four_pauses_of_fifteen_seconds() {
        let mut backoff = Backoff::new(NonZeroU32::new(5), Duration::from_secs(32));
        let pauses: Vec<Duration> = std::iter::from_fn(|| backoff.next_pause()).collect();
        assert_eq!(pauses.len(), 4);
        assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_secs(15));
        assert_eq!(Backoff::new(NonZeroU32::new(1), FIRST_PAUSE).next_pause(), None);
    }
}
