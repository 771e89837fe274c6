//! How long a client waits for a server within one reply: a limit for silence, and one for slowness (xfer-get(1), Limits).

use std::time::{Duration, Instant};

use super::clock;
use crate::pace::{MIN_RATE_DEFAULT, PERIOD, Pace};

/// A server whose silences are as long as `--timeout` allows is judged after so many of them: one alone, by a disk that
/// spins up or a network that comes back, says nothing about its rate.
const SILENCES: u32 = 4;

/// What a WAIT that says more than all before it counts as being waited for, at least. Our server sends one a second; one
/// that sends them without a pause makes nobody wait, and would keep the client busy with them for ever.
const WAIT_LEAST: Duration = Duration::from_millis(100);

/// The limits of one reply, and how far they are used up.
pub struct TimeLimits {
    timeout: Duration,
    /// When the server has been silent for too long.
    until: Instant,
    /// The highest number that a WAIT has said, once there was one.
    waited: Option<u64>,
    pace: Pace,
    is_too_slow: bool,
}

impl TimeLimits {
    /// Begins now; `timeout` is the limit for silence.
    pub fn new(timeout: Duration) -> TimeLimits {
        let until = clock::now() + timeout;
        TimeLimits { timeout, until, waited: None, pace: Pace::default(), is_too_slow: false }
    }

    /// When the server has been silent for too long.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// The server has said something: so many bytes of the file, for which it was waited so long.
    pub fn hear(&mut self, bytes: u64, waited: Duration) {
        self.until = clock::now() + self.timeout;
        self.count(bytes, waited);
    }

    /// The server has said WAIT, for which it was waited so long; whether there is still time. Only one that says more than
    /// all before it ends the silence.
    ///
    /// While it hashes a file of `hashing` bytes, what it says is work done, up to these bytes. What it says beyond them or
    /// at other times, as it may while its disk is waited for, is a sign of life and no more.
    pub fn hear_wait(&mut self, done: u64, hashing: Option<u64>, waited: Duration) -> bool {
        let [before, now] = [self.waited.unwrap_or(0), done].map(|done| done.min(hashing.unwrap_or(0)));
        let grows = self.waited.is_none_or(|before| done > before);
        self.count(now.saturating_sub(before), if grows { waited.max(WAIT_LEAST) } else { waited });
        if grows {
            self.waited = Some(done);
            self.until = clock::now() + self.timeout;
        }
        // A flood of them leaves nothing to wait for, and no other time to look.
        clock::now() < self.until
    }

    /// Whether the server has said WAIT.
    pub fn has_waited(&self) -> bool {
        self.waited.is_some()
    }

    /// We were busy ourselves for so long, which is not the server's silence.
    pub fn excuse(&mut self, busy: Duration) {
        self.until += busy;
    }

    fn count(&mut self, bytes: u64, waited: Duration) {
        // When that wait began, all that had come was taken: the time to judge. Later the last wait would count, and what
        // has come in it would not yet.
        if !waited.is_zero() {
            self.is_too_slow |= self.pace.falls_short(self.period(), MIN_RATE_DEFAULT);
        }
        self.pace.moves(bytes, waited);
    }

    fn period(&self) -> Duration {
        PERIOD.max(self.timeout.saturating_mul(SILENCES))
    }

    /// How the server has been too slow for too long, if it has: the middle of a sentence about it.
    pub fn too_slow(&self) -> Option<String> {
        let (rate, seconds) = (MIN_RATE_DEFAULT, self.period().as_secs_f64());
        self.is_too_slow.then(|| format!("was slower than {rate} bytes/s for {seconds} s"))
    }
}
