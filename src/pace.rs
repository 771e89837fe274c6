//! How fast a peer moves bytes, and when that is too slow to go on with: what it takes of a server, what it brings a client.

use std::time::{Duration, Instant};

/// How long a peer must have been waited for before its rate is judged. A phone that sleeps for a moment, or a wireless
/// network that stalls, has made up for it by then. (Kestrel judges after 5 s.)
pub const PERIOD: Duration = Duration::from_secs(120);

/// Bytes a second that a peer moves at least, if nobody has said how many. A telephone modem takes 3000. (Apache:
/// mod_reqtimeout MinRate 500; IIS and Kestrel: 240.)
pub const MIN_RATE_DEFAULT: u32 = 500;

/// What a peer has moved, against the time for which it was waited for.
///
/// Only that time counts: neither that of our own disk, nor that of a digest of ours, nor of others who have their turns.
/// It is known when the peer moves something again; one that moves nothing at all has the idle timeout.
#[derive(Default)]
pub struct Pace {
    /// Since when the peer has taken nothing, though there was something to take.
    since: Option<Instant>,
    waited: Duration,
    moved: u64,
}

impl Pace {
    /// The peer takes some bytes.
    pub fn takes(&mut self, bytes: usize, now: Instant) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.moves(bytes as u64, waited);
    }

    /// The peer has moved some bytes, and was waited for.
    pub fn moves(&mut self, bytes: u64, waited: Duration) {
        self.moved = self.moved.saturating_add(bytes);
        self.waited += waited;
    }

    /// The peer takes no more for now. Whether it has taken too little for a whole period.
    pub fn is_too_slow(&mut self, now: Instant, min_rate: u32) -> bool {
        self.since.get_or_insert(now);
        self.falls_short(PERIOD, min_rate)
    }

    /// Whether the peer was waited for as long as this, and has moved too little meanwhile.
    pub fn falls_short(&mut self, period: Duration, min_rate: u32) -> bool {
        self.judge(period, min_rate) == Some(true)
    }

    /// Whether the peer has moved too little in the time that it was waited for, once that is as long as this.
    pub fn judge(&mut self, period: Duration, min_rate: u32) -> Option<bool> {
        if self.waited < period {
            return None;
        }
        let least = u128::from(min_rate) * self.waited.as_millis() / 1000;
        let is_too_slow = u128::from(self.moved) < least;
        (self.waited, self.moved) = (Duration::ZERO, 0);
        Some(is_too_slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes each time after so many seconds, as often as told; whether that was ever too slow.
    fn is_cut(bytes: usize, seconds: f64, times: u32) -> bool {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        (0..times).any(|_| {
            pace.takes(bytes, now);
            let is_too_slow = pace.is_too_slow(now, 500);
            now += Duration::from_secs_f64(seconds);
            is_too_slow
        })
    }

    #[test]
    fn a_peer_is_judged_after_two_minutes_of_waiting_for_it() {
        assert!(!is_cut(1, 1.0, 120));
        assert!(is_cut(1, 1.0, 122));
        assert!(is_cut(29_000, 59.0, 10));
        assert!(!is_cut(30_000, 59.0, 1000));
        assert!(!is_cut(50, 0.1, 100_000));
        assert!(is_cut(49, 0.1, 100_000));
    }

    /// What it took fast in one period is no credit for the next.
    #[test]
    fn every_period_counts_for_itself() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.takes(1 << 30, start);
        let outcomes = [0, 121, 242].map(|seconds| {
            let now = start + Duration::from_secs(seconds);
            pace.takes(1, now);
            pace.is_too_slow(now, 500)
        });
        assert_eq!(outcomes, [false, false, true]);
    }
}
