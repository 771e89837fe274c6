//! One file until it is there: attempts, and the pauses between them.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::attempt::{Outcome, attempt};
use super::link::server_name;
use super::progress::Progress;
use super::receive::Receiver;
use super::target::Target;
use super::wait::{Stop, Waits};
use super::{Existing, GetConfig};
use crate::error::{Error, ExitCode};
use crate::text;

/// The pause after the first failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Counts attempts, and says how long to wait before the next: 1, 2, 4, 8, 16 s, and never more than a limit.
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
        Some(FIRST_PAUSE.saturating_mul(factor).min(self.max))
    }

    /// Whether there is another attempt.
    fn has_next(&self) -> bool {
        self.attempts.is_none_or(|attempts| self.attempt < attempts.get())
    }

    /// `attempt 2 of 5`
    fn label(&self) -> String {
        match self.attempts {
            Some(attempts) => format!("attempt {} of {attempts}", self.attempt),
            None => format!("attempt {}", self.attempt),
        }
    }
}

/// Fetches one file after the other.
pub struct Fetcher<'a> {
    config: &'a GetConfig,
    waits: Waits,
    receiver: Receiver,
    /// What the user sees.
    pub progress: &'a mut Progress,
}

impl<'a> Fetcher<'a> {
    /// Ready for the first file.
    pub fn new(config: &'a GetConfig, waits: Waits, progress: &'a mut Progress) -> Result<Fetcher<'a>, Error> {
        let receiver = Receiver::start(&waits).map_err(Stop::into_error)?;
        Ok(Fetcher { config, waits, receiver, progress })
    }

    /// Fetches a file; whatever comes of it, no bytes of doubt stay behind.
    pub fn fetch(&mut self, name: &[u8]) -> Result<(), Stop> {
        let mut target = Target::new(&self.config.output, name, self.receiver.writer(), &mut self.waits)?;
        if self.config.existing == Existing::Keep && target.exists() {
            self.progress.note(&format!("kept {}: it is there already (--no-clobber)", target.shown()));
            return Ok(());
        }
        let result = self.attempts(name, &mut target);
        self.progress.end();
        if result.is_err() {
            target.discard();
        }
        match result? {
            Outcome::Saved(line) => self.progress.note(&line),
            Outcome::AlreadyThere(line) => self.progress.note(&line),
        }
        Ok(())
    }

    fn attempts(&mut self, name: &[u8], target: &mut Target) -> Result<Outcome, Stop> {
        let started = Instant::now();
        let mut backoff = Backoff::new(self.config.attempts, self.config.max_backoff);
        let mut mismatches = 0;
        loop {
            let server = server_name(&self.config.host, self.config.port);
            log::info!(target: "main", "{}: {} from {server}", backoff.label(), text::quoted(name));
            let outcome =
                attempt(name, self.config, started, target, &mut self.receiver, &mut self.waits, self.progress);
            let why = match outcome {
                Ok(Ok(outcome)) => return Ok(outcome),
                // A flipped bit on the way: once more from the beginning, and then never again.
                Ok(Err(mismatch)) if mismatches == 0 && target.can_start_again() && backoff.has_next() => {
                    mismatches += 1;
                    Stop::again(mismatch)
                }
                Ok(Err(mismatch)) => return Err(Stop::Final(Error::new(ExitCode::Integrity, mismatch))),
                Err(stop) => stop,
            };
            self.pause(name, why, &mut backoff)?;
        }
    }

    /// Waits before the next attempt, if `stop` is worth one and there is one.
    fn pause(&mut self, name: &[u8], stop: Stop, backoff: &mut Backoff) -> Result<(), Stop> {
        let Stop::Again { why, connected } = stop else { return Err(stop) };
        self.progress.end();
        let Some(pause) = backoff.next_pause() else {
            let shown = text::quoted(name);
            let why = match backoff.attempt {
                1 => format!("{shown} not fetched: {why}"),
                n => format!("{shown} not fetched after {n} attempts: {why}"),
            };
            return Err(Stop::Again { why, connected });
        };
        let seconds = pause.as_secs_f64();
        self.progress.warn(&format!("{why}; waiting {seconds} s before {}", backoff.label()));
        self.waits.pause(Instant::now() + pause)
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

    #[test]
    fn five_attempts_have_four_pauses_of_fifteen_seconds() {
        let mut backoff = Backoff::new(NonZeroU32::new(5), Duration::from_secs(32));
        let pauses: Vec<Duration> = std::iter::from_fn(|| backoff.next_pause()).collect();
        assert_eq!(pauses.len(), 4);
        assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_secs(15));
        assert_eq!(Backoff::new(NonZeroU32::new(1), FIRST_PAUSE).next_pause(), None);
    }
}
