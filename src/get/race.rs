//! When each address of a host is tried (RFC 8305, "Happy Eyeballs"): a state machine without sockets and without a clock.

use std::time::{Duration, Instant};

/// How long one address is waited for before the next one is tried beside it (RFC 8305, section 5, Connection Attempt
/// Delay).
const DELAY: Duration = Duration::from_millis(250);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connect to the address with this number, counted from 0.
    Start(usize),
    /// Wait for one of those that are running; at this time there is something else to do.
    Wait(Instant),
    /// Give up: all have failed, or the time is over.
    GiveUp,
}

/// Addresses of one host, tried side by side until one answers.
#[derive(Debug)]
pub struct Race {
    count: usize,
    /// `started <= count`
    started: usize,
    /// `running <= started`
    running: usize,
    delay: Duration,
    /// When the next one starts, unless one fails before.
    next_at: Instant,
    deadline: Instant,
}

impl Race {
    /// A race of so many addresses from now on, until `deadline`. In a time that is short for so many, the delay is shorter:
    /// each of them is tried.
    pub fn new(count: usize, now: Instant, deadline: Instant) -> Race {
        let share = deadline.saturating_duration_since(now) / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Race { count, started: 0, running: 0, delay: DELAY.min(share), next_at: now, deadline }
    }

    /// What to do now. A [`Step::Start`] counts as done.
    pub fn step(&mut self, now: Instant) -> Step {
        let is_late = now >= self.deadline && self.started > 0;
        if is_late || self.started == self.count && self.running == 0 {
            return Step::GiveUp;
        }
        if self.started == self.count {
            return Step::Wait(self.deadline);
        }
        if now < self.next_at {
            return Step::Wait(self.next_at.min(self.deadline));
        }
        self.started += 1;
        self.running += 1;
        self.next_at = now + self.delay;
        Step::Start(self.started - 1)
    }

    /// One of those that are running has failed: the next one starts at once.
    pub fn fail(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.next_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_address_is_waited_for_alone_only_for_the_delay() {
        let start = Instant::now();
        let mut race = Race::new(3, start, start + 600 * SECOND);
        for number in 0..3 {
            let now = start + DELAY * number;
            assert_eq!(race.step(now), Step::Start(number as usize));
            let next = if number == 2 { start + 600 * SECOND } else { now + DELAY };
            assert_eq!(race.step(now), Step::Wait(next));
            // Woken before.
            assert_eq!(race.step(now + DELAY / 2), Step::Wait(next));
        }
        assert_eq!(race.step(start + 599 * SECOND), Step::Wait(start + 600 * SECOND));
        assert_eq!(race.step(start + 600 * SECOND), Step::GiveUp);
    }

    #[test]
    fn the_next_one_starts_at_once_when_one_fails() {
        let now = Instant::now();
        let mut race = Race::new(3, now, now + SECOND);
        assert_eq!(race.step(now), Step::Start(0));
        race.fail(now);
        assert_eq!(race.step(now), Step::Start(1));
        assert_eq!(race.step(now), Step::Wait(now + DELAY));
        race.fail(now + DELAY / 2);
        assert_eq!(race.step(now + DELAY / 2), Step::Start(2));
        assert_eq!(race.step(now + DELAY / 2), Step::Wait(now + SECOND));
        race.fail(now + DELAY);
        assert_eq!(race.step(now + DELAY), Step::GiveUp, "nothing is left to wait for");
    }

    #[test]
    fn an_earlier_one_goes_on_while_a_later_one_fails() {
        let now = Instant::now();
        let mut race = Race::new(2, now, now + SECOND);
        assert_eq!(race.step(now), Step::Start(0));
        assert_eq!(race.step(now + DELAY), Step::Start(1));
        race.fail(now + DELAY);
        assert_eq!(race.step(now + DELAY), Step::Wait(now + SECOND));
    }

    /// Ten addresses in a second have 100 ms each before the next.
    #[test]
    fn each_is_tried_in_a_short_time() {
        let start = Instant::now();
        let mut race = Race::new(10, start, start + SECOND);
        for number in 0..10 {
            assert_eq!(race.step(start + SECOND / 10 * number), Step::Start(number as usize));
        }
        // Also when nothing of it is left, at least one.
        assert_eq!(Race::new(2, start, start).step(start + SECOND), Step::Start(0));
    }

    #[test]
    fn a_host_without_addresses_has_no_race() {
        let now = Instant::now();
        assert_eq!(Race::new(0, now, now + SECOND).step(now), Step::GiveUp);
    }
}
