//! How fast bytes have come in the last seconds, and whether any do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The seconds that the speed is taken over: short enough to follow the line, long enough to be read.
const WINDOW: Duration = Duration::from_secs(5);

/// Between two samples; with it, a window has at most 21.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A speed over less than this says nothing: the first bytes come in one burst.
const WINDOW_MIN: Duration = Duration::from_millis(300);

/// Without a byte for so long, nothing comes any more. An idle server of ours says something every 5 s.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// Bytes as they come.
pub struct Rate {
    /// Moments, oldest first, and how many bytes had come by then.
    samples: VecDeque<(Instant, u64)>,
    bytes: u64,
    last_byte: Instant,
}

impl Rate {
    /// Nothing has come yet.
    pub fn new(now: Instant) -> Rate {
        Rate { samples: VecDeque::from([(now, 0)]), bytes: 0, last_byte: now }
    }

    /// Bytes are waited for from now on: the time before is no stall. After a long one, the speed is taken from here on.
    pub fn begin(&mut self, now: Instant) {
        if self.stalled(now).is_some() {
            self.samples.clear();
            self.samples.push_back((now, self.bytes));
        }
        self.last_byte = now;
    }

    /// So many bytes have come since the last call. After a stall the speed is taken from there on.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        if bytes == 0 {
            return;
        }
        self.begin(now);
        self.bytes += bytes;
        let is_due = |(newest, _): &(Instant, u64)| now.saturating_duration_since(*newest) >= SAMPLE_EVERY;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back((now, self.bytes));
            while self.samples.front().is_some_and(|(oldest, _)| now.saturating_duration_since(*oldest) > WINDOW) {
                self.samples.pop_front();
            }
        }
    }

    /// Bytes a second over the last seconds, once there is something to tell.
    pub fn speed(&self, now: Instant) -> Option<f64> {
        let (oldest, before) = self.samples.front()?;
        let time = now.saturating_duration_since(*oldest);
        (time >= WINDOW_MIN).then(|| (self.bytes - before) as f64 / time.as_secs_f64())
    }

    /// For how long nothing has come, if that is too long.
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.last_byte)).filter(|time| *time >= STALLED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!(rate.speed(start), None);
        // Ten seconds at 1000 bytes a second, then ten at 10,000.
        (1..=100).for_each(|tenth| rate.add(100, after(start, tenth * 100)));
        assert!((rate.speed(after(start, 10_000)).unwrap_or_default() - 1000.0).abs() < 50.0);
        (101..=200).for_each(|tenth| rate.add(1000, after(start, tenth * 100)));
        assert!((rate.speed(after(start, 20_000)).unwrap_or_default() - 10_000.0).abs() < 500.0);
        assert!(rate.samples.len() <= 22, "{} samples", rate.samples.len());
    }

    #[test]
    fn a_stall_has_no_part_in_the_speed_after_it() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.add(1000, after(start, 1000));
        assert_eq!(rate.stalled(after(start, 2999)), None);
        assert_eq!(rate.stalled(after(start, 5000)), Some(Duration::from_secs(4)));
        rate.add(1000, after(start, 61_000));
        assert_eq!(rate.stalled(after(start, 61_000)), None);
        assert_eq!(rate.speed(after(start, 61_000)), None);
        rate.begin(after(start, 61_500));
        rate.add(1000, after(start, 62_000));
        assert!((rate.speed(after(start, 62_000)).unwrap_or_default() - 2000.0).abs() < 1.0);
        // A pause between two attempts.
        rate.begin(after(start, 90_000));
        assert_eq!(rate.stalled(after(start, 91_000)), None);
    }
}
