//! When a server that says nothing counts as dead.

use std::num::NonZeroU32;

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
}
