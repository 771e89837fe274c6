//! How often a file is tried, how long to wait in between, and when the server counts as dead.

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
}

impl Backoff {
    /// Before the first attempt.
    pub fn new(attempts: Option<NonZeroU32>, max: Duration) -> Backoff {
        Backoff { attempt: 1, attempts, max }
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
    }

    /// The number of this attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether there is another attempt.
    pub fn has_next(&self) -> bool {
        self.attempts.is_none_or(|attempts| self.attempt < attempts.get())
    }

    /// `attempt 2 of 5`
    pub fn label(&self) -> String {
        match self.attempts {
            Some(attempts) => format!("attempt {} of {attempts}", self.attempt),
            None => format!("attempt {}", self.attempt),
        }
    }
}

/// Whether the server is dead, by what came of the attempts, at whichever files.
///
/// An attempt is silent in which no byte came. A server of which one file alone cannot be had, from a disk that hangs, is
/// silent, too: so it is dead when a file was given up behind as many silent attempts in a row as each file has, and the
/// next attempt, at another file, is silent as well. In a row, and not of that one file: the first of its attempts may have
/// brought bytes before the server died, and so may those of many others that wait for their next.
#[derive(Debug)]
pub struct Silence {
    attempts: Option<NonZeroU32>,
    state: Hearing,
    /// Whether a byte has come in this attempt.
    has_heard: bool,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    /// So many attempts in a row were silent.
    Silent(u32),
    /// They were enough for one file: the next one decides.
    Suspected,
    /// It is dead.
    Dead,
}

impl Silence {
    /// Before the first attempt at anything; each file has so many.
    pub fn new(attempts: Option<NonZeroU32>) -> Silence {
        Silence { attempts, state: Hearing::Silent(0), has_heard: false }
    }

    /// Something is waited for from here on.
    pub fn begin(&mut self) {
        self.has_heard = false;
    }

    /// A byte has come, whatever it means.
    pub fn hear(&mut self) {
        (self.state, self.has_heard) = (Hearing::Silent(0), true);
    }

    /// An attempt has failed, which may be the last one at its file; whether it was silent.
    pub fn fail(&mut self, is_last: bool) -> bool {
        if self.has_heard {
            return false;
        }
        self.state = match self.state {
            Hearing::Silent(before) => {
                let silent = before.saturating_add(1);
                let is_enough = self.attempts.is_some_and(|attempts| silent >= attempts.get());
                if is_last && is_enough { Hearing::Suspected } else { Hearing::Silent(silent) }
            }
            Hearing::Suspected | Hearing::Dead => Hearing::Dead,
        };
        true
    }

    /// Whether the server is dead.
    pub fn is_dead(&self) -> bool {
        self.state == Hearing::Dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many silent attempts at one file.
    fn fail(silence: &mut Silence, times: u32, is_given_up: bool) {
        for time in 1..=times {
            silence.begin();
            assert!(silence.fail(is_given_up && time == times));
        }
    }

    fn silence(attempts: u32) -> Silence {
        Silence::new(NonZeroU32::new(attempts))
    }

    #[test]
    fn a_server_is_dead_when_the_next_file_hears_nothing_either() {
        for attempts in [1, 2, 5] {
            let mut silence = silence(attempts);
            fail(&mut silence, attempts, true);
            assert!(!silence.is_dead(), "it may be the file");
            fail(&mut silence, 1, attempts == 1);
            assert!(silence.is_dead());
        }
    }

    #[test]
    fn one_that_answers_for_another_file_is_not() {
        let mut silence = silence(5);
        for _ in 0..10 {
            fail(&mut silence, 5, true);
            silence.begin();
            silence.hear();
            assert!(!silence.fail(false), "a byte came in it");
        }
        assert!(!silence.is_dead());
    }

    /// A file that comes in the meantime, between two attempts at the silent one.
    #[test]
    fn a_byte_ends_the_row() {
        let mut silence = silence(5);
        fail(&mut silence, 4, false);
        silence.hear();
        fail(&mut silence, 1, true);
        fail(&mut silence, 4, false);
        assert!(!silence.is_dead());
        fail(&mut silence, 1, true);
        fail(&mut silence, 1, false);
        assert!(silence.is_dead());
    }

    /// It dies in the middle of the first attempt at each of many files, which all have four left.
    #[test]
    fn a_row_can_be_of_several_files() {
        let mut silence = silence(5);
        silence.hear();
        fail(&mut silence, 4, true);
        fail(&mut silence, 4, true);
        assert!(!silence.is_dead());
        fail(&mut silence, 1, false);
        assert!(silence.is_dead());
    }

    #[test]
    fn without_a_limit_no_server_is_dead() {
        let mut silence = silence(0);
        fail(&mut silence, 1000, false);
        assert!(!silence.is_dead());
    }

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
