//! The chance of a run, shared by all that it happens to.

use std::cell::RefCell;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::rc::Rc;

use super::Chance;

/// A share of the chance.
#[derive(Clone)]
pub struct Dice(Rc<RefCell<Chance>>);

/// Gives the chance back, with what it remembers, also when the run panics.
struct Lent<'a>(&'a mut Chance, Dice);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        std::mem::swap(self.0, &mut self.1.0.borrow_mut());
    }
}

impl Dice {
    /// Lets a run share a chance for as long as it takes.
    pub fn lend(chance: &mut Chance, run: impl FnOnce(&Dice)) {
        let dice = Dice(Rc::new(RefCell::new(Chance::new(0))));
        std::mem::swap(chance, &mut dice.0.borrow_mut());
        let _lent = Lent(chance, dice.clone());
        run(&dice);
    }

    /// Several questions at once.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Chance) -> T) -> T {
        ask(&mut self.0.borrow_mut())
    }

    pub fn within(&self, range: Range<u64>) -> u64 {
        self.with(|chance| chance.within(range))
    }

    pub fn len(&self, max: usize) -> usize {
        self.with(|chance| chance.len(max))
    }

    pub fn happens(&self, of: u32, times: u32) -> bool {
        self.with(|chance| chance.happens(of, times))
    }

    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        self.with(|chance| chance.pick(choices))
    }

    pub fn fault(&self, kind: &'static str, of: u32, times: u32) -> bool {
        self.with(|chance| chance.fault(kind, of, times))
    }

    pub fn count(&self, kind: &'static str) {
        self.with(|chance| chance.count(kind));
    }

    /// Remembers a step, which is put into words only if anybody wants to know.
    pub fn step(&self, step: impl FnOnce() -> String) {
        self.with(|chance| {
            if chance.is_watched() {
                chance.step(step());
            }
        });
    }
}

impl Debug for Dice {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("Dice")
    }
}
