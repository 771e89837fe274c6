//! Where a simulated run takes its decisions from, and what it remembers of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Steps that are remembered, to be printed when a run fails.
const STEPS_MAX: usize = 200;

/// The chance of one run.
pub struct Chance {
    rng: fastrand::Rng,
    faults: BTreeMap<&'static str, u64>,
    steps: VecDeque<String>,
    is_watched: bool,
}

impl Chance {
    /// That of a seed.
    pub fn new(seed: u64) -> Chance {
        Chance {
            rng: fastrand::Rng::with_seed(seed),
            faults: BTreeMap::new(),
            steps: VecDeque::new(),
            is_watched: false,
        }
    }

    /// From now on steps are remembered: that takes longer than all else.
    pub fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Whether steps are remembered.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// A number of a range, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.rng.u64(range)
    }

    /// A length: of ten, six are small, and the rest up to `max`.
    pub fn len(&mut self, max: usize) -> usize {
        let most = if self.happens(10, 6) { max.min(16) } else { max };
        self.rng.usize(0..=most)
    }

    /// True `times` out of `of`.
    pub fn happens(&mut self, of: u32, times: u32) -> bool {
        self.rng.u32(0..of) < times
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.rng.usize(0..choices.len())]
    }

    /// Whether a fault of this kind happens now, `times` out of `of`; counts it.
    pub fn fault(&mut self, kind: &'static str, of: u32, times: u32) -> bool {
        let happens = self.happens(of, times);
        if happens {
            self.count(kind);
        }
        happens
    }

    /// Counts a fault that has been decided otherwise.
    pub fn count(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_insert(0) += 1;
        self.step(format!("fault: {kind}"));
    }

    /// Remembers what has just happened, if anybody wants to know.
    pub fn step(&mut self, step: String) {
        if !self.is_watched {
            return;
        }
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    /// The last steps, the first of them first.
    pub fn steps(&self) -> Vec<String> {
        self.steps.iter().cloned().collect()
    }

    /// How often each kind of fault has happened.
    pub fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }
}

#[test]
fn the_same_seed_is_the_same_chance() {
    let numbers = |seed| {
        let mut chance = Chance::new(seed);
        (0..100).map(|_| chance.within(0..1000) + u64::from(chance.fault("a fault", 2, 1))).collect::<Vec<_>>()
    };
    assert_eq!(numbers(7), numbers(7));
    assert_ne!(numbers(7), numbers(8));
}
