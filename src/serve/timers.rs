//! When connections want their next turn, the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Times, each with the number of what waits for it.
///
/// Nothing is ever removed before its time: whoever is woken looks whether it is time, and sets a new one. A deadline
/// that moves on with every byte then costs one entry per connection and not one per byte.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// Wakes `who` at this time.
    pub fn set(&mut self, at: Instant, who: usize) {
        self.heap.push(Reverse((at, who)));
    }

    /// The earliest time of all.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one whose time has come, with that time.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}
