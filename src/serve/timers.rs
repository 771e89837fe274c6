//! When connections want their next turn: a wheel, whose cost does not grow with their number.

use std::time::{Duration, Instant};

/// Slots that one word of the map of full ones is about.
const WORD: usize = u64::BITS as usize;

/// Entries up to which it does not pay to look through all slots for those of no use.
const SWEPT_MIN: usize = 4096;

/// Times, each with the number of what waits for it.
///
/// Nothing is removed before its time, one by one: whoever is woken looks whether it is time, and sets a new one. A
/// deadline that moves on with every byte then costs one entry per connection and not one per byte. What is of no use any
/// more is removed all at once, with [`Timers::sweep`].
///
/// A slot is a short stretch of time, and what is due a round of the wheel later lies in the same one (Varghese and
/// Lauck, Hashed and Hierarchical Timing Wheels, 1987, scheme 6). Setting a time and waking for it so cost the same,
/// however many others there are. Nobody is woken before the time that was set, and everybody less than a tick behind.
pub struct Timers {
    slots: Vec<Vec<(Instant, usize)>>,
    /// A bit for each slot: whether anything is in it.
    full: Vec<u64>,
    /// How long a slot is.
    tick: Duration,
    began: Instant,
    /// The number of the slot that ends next; slot `n` ends `n` ticks after `began`, and lies at `n` modulo their count.
    /// Those that ended before are empty, but for times a round or more ahead.
    next: u64,
    /// How many entries there are in the slots.
    len: usize,
    /// Those whose time has come, to be taken out.
    due: Vec<(Instant, usize)>,
}

impl Timers {
    /// 64 slots of this length for each word; all together should be as long as most times are ahead.
    pub fn new(words: usize, tick: Duration, now: Instant) -> Timers {
        let words = words.max(1);
        let (slots, full) = (vec![Vec::new(); words * WORD], vec![0; words]);
        Timers { slots, full, tick, began: now, next: 1, len: 0, due: Vec::new() }
    }

    /// Wakes `who` at this time.
    pub fn set(&mut self, at: Instant, who: usize) {
        let slot = self.index(self.ticks(at, true).max(self.next));
        self.slots[slot].push((at, who));
        self.len += 1;
        self.full[slot / WORD] |= 1 << (slot % WORD);
    }

    /// Removes the entries that nobody waits for, once there can be no fewer of those than of the others, of which there
    /// are at most so many: each entry then pays for its removal when it is set.
    ///
    /// Without this, those of connections that have ended stay for as long as the limit that they were about: an hour of
    /// `--idle-timeout` at 1000 connections a second is 86 MB.
    pub fn sweep(&mut self, waiting: usize, is_waiting: impl Fn(Instant, usize) -> bool) {
        if self.len <= 2 * waiting + SWEPT_MIN {
            return;
        }
        self.len = 0;
        for (slot, entries) in self.slots.iter_mut().enumerate() {
            entries.retain(|(at, who)| is_waiting(*at, *who));
            entries.shrink_to_fit();
            self.len += entries.len();
            if entries.is_empty() {
                self.full[slot / WORD] &= !(1 << (slot % WORD));
            }
        }
    }

    /// When there may be somebody to wake.
    pub fn next_at(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.began);
        }
        let ahead = self.next_full(self.index(self.next))?;
        Some(self.end_of(self.next + ahead as u64))
    }

    /// Takes out one whose time has come, with that time.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        if self.due.is_empty() {
            self.turn_to(now);
        }
        self.due.pop()
    }

    /// Empties the slots that have ended by now, each once, however much time has passed.
    fn turn_to(&mut self, now: Instant) {
        let past = self.ticks(now, false) + 1;
        while self.next < past {
            let Some(ahead) = self.next_full(self.index(self.next)) else { break };
            let number = self.next + ahead as u64;
            if number >= past {
                break;
            }
            let slot = self.index(number);
            let before = self.due.len();
            self.due.extend(self.slots[slot].extract_if(.., |(at, _)| *at <= now));
            self.len -= self.due.len() - before;
            if self.slots[slot].is_empty() {
                // A connection may wait for long: what a crowd of them needed is given back.
                self.slots[slot] = Vec::new();
                self.full[slot / WORD] &= !(1 << (slot % WORD));
            }
            self.next = number + 1;
        }
        self.next = self.next.max(past);
    }

    /// How many slots behind this one the next one lies that holds something, itself being 0.
    fn next_full(&self, slot: usize) -> Option<usize> {
        let (first, bit) = (slot / WORD, slot % WORD);
        // The last word is the first once more, for the slots before this one.
        (0..=self.full.len()).find_map(|words| {
            let word = self.full[(first + words) % self.full.len()];
            let word = if words == 0 { word >> bit << bit } else { word };
            (word != 0).then(|| words * WORD + word.trailing_zeros() as usize - bit)
        })
    }

    /// Ticks from the beginning to this time, in whole ones.
    fn ticks(&self, at: Instant, round_up: bool) -> u64 {
        let (nanos, tick) = (at.saturating_duration_since(self.began).as_nanos(), self.tick.as_nanos().max(1));
        u64::try_from(if round_up { nanos.div_ceil(tick) } else { nanos / tick }).unwrap_or(u64::MAX)
    }

    fn index(&self, number: u64) -> usize {
        // Below the number of slots, which is a usize.
        (number % self.slots.len() as u64) as usize
    }

    fn end_of(&self, number: u64) -> Instant {
        let nanos = u64::try_from(self.tick.as_nanos()).unwrap_or(u64::MAX).saturating_mul(number);
        self.began + Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(16);

    /// Whatever is set and however time moves on: nobody is forgotten, woken too early, or much too late.
    #[test]
    fn everybody_is_woken_in_time() {
        let began = Instant::now();
        for seed in 1..=200u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let (mut timers, mut waiting, mut now) = (Timers::new(1, TICK, began), Vec::new(), began);
            for who in 0..300 {
                // Up to four rounds ahead, and sometimes in the past.
                let at = (now + Duration::from_micros(random(4_000_000))).max(began + TICK) - TICK;
                timers.set(at, who);
                // What is over when it is set is due at once.
                let due = at.max(now);
                waiting.push((at, who, due));
                let next = timers.next_at().expect("somebody waits");
                let most = match random(8) {
                    0 => 5_000_000,
                    _ => 20_000,
                };
                now = if random(4) == 0 { next.max(now) } else { now + Duration::from_micros(random(most)) };
                while let Some((at, who)) = timers.pop_due(now) {
                    assert!(at <= now, "seed {seed}: {who} is woken too early");
                    let place = waiting.iter().position(|(due, entry, _)| (*due, *entry) == (at, who));
                    waiting.swap_remove(place.unwrap_or_else(|| panic!("seed {seed}: {who} was not waiting")));
                }
                let late = waiting.iter().find(|(_, _, due)| *due + TICK <= now);
                assert_eq!(late, None, "seed {seed}: too late at {now:?}");
                if let Some(first) = waiting.iter().map(|(_, _, due)| *due).min() {
                    let next = timers.next_at().unwrap_or_else(|| panic!("seed {seed}: nobody is waited for"));
                    assert!(next < first.max(now) + TICK, "seed {seed}: {next:?} is too late for {first:?}");
                    assert!(next > now, "seed {seed}: {next:?} is over at {now:?}, and would be waited for in vain");
                }
            }
        }
    }

    /// Whoever ends leaves nothing for long, and nobody else is forgotten.
    #[test]
    fn entries_of_no_use_are_swept() {
        let began = Instant::now();
        let mut timers = Timers::new(4, TICK, began);
        let (alive, at) = (1000, |who: usize| began + Duration::from_secs(3600) + TICK * (who as u32 % 500));
        for who in 0..100_000 {
            timers.set(at(who), who);
            timers.sweep(alive, |due, who| who < alive && due == at(who));
            let entries: usize = timers.slots.iter().map(Vec::len).sum();
            assert_eq!(entries, timers.len);
            assert!(entries <= 2 * alive + SWEPT_MIN, "{entries} entries of {alive} connections");
        }
        let capacity: usize = timers.slots.iter().map(Vec::capacity).sum();
        assert!(capacity <= 4 * (2 * alive + SWEPT_MIN), "room for {capacity} entries");
        timers.sweep(0, |due, who| who < alive && due == at(who));
        let mut woken: Vec<usize> = std::iter::from_fn(|| timers.pop_due(at(499))).map(|(_, who)| who).collect();
        woken.retain(|who| *who < alive);
        woken.sort_unstable();
        assert!(woken.into_iter().eq(0..alive), "each is woken once");
        while timers.pop_due(at(499)).is_some() {}
        assert_eq!((timers.len, timers.next_at()), (0, None));
    }

    #[test]
    fn an_empty_wheel_waits_for_nothing() {
        let began = Instant::now();
        let mut timers = Timers::new(2, TICK, began);
        assert_eq!(timers.next_at(), None);
        timers.set(began + TICK * 3, 7);
        assert_eq!(timers.next_at(), Some(began + TICK * 3));
        assert_eq!(timers.pop_due(began + TICK * 3 - Duration::from_nanos(1)), None);
        assert_eq!(timers.pop_due(began + TICK * 3), Some((began + TICK * 3, 7)));
        assert_eq!((timers.pop_due(began + TICK * 9), timers.next_at()), (None, None));
    }
}
