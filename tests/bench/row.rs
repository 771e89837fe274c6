//! A row: two ways to do the same work, run in turn.

use super::bench::Bench;
use super::servers::{self, Server};
use super::sizes::Unit;
use super::speech::Speech;
use super::statistics::Spread;
use super::trouble::Trouble;

/// A comparison, and what it is to show.
pub struct Row {
    pub name: &'static str,
    pub work: String,
    pub against: &'static str,
    pub goal: Goal,
    pub measure: fn(&Bench) -> Result<Measured, Trouble>,
}

#[derive(Clone, Copy)]
pub enum Goal {
    /// At most this many times what the other needs.
    Ratio(f64),
    /// At most so much, in the unit of the row.
    AtMost(f64),
    /// None: for the reader's interest.
    Interest,
}

/// What the runs of a row came to.
pub struct Measured {
    pub unit: Unit,
    pub ours: Vec<f64>,
    /// The runs of the other, or what it lacks.
    pub theirs: Result<Vec<f64>, String>,
}

impl Measured {
    /// Of each pair of runs.
    pub fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&self.ours, self.theirs.as_ref().ok()?)
    }
}

/// What a run is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Fills the caches, and fails unless every byte that the row claims has come.
    Check,
    /// Nothing but the work.
    Measure,
}

/// Does the work once, and says what it cost. Nothing that only prepares it is part of the cost.
pub trait Way: FnMut(Run) -> Result<f64, Trouble> {}

impl<F: FnMut(Run) -> Result<f64, Trouble>> Way for F {}

/// Both ways in turn, each once beforehand.
pub fn in_turn(
    bench: &Bench,
    unit: Unit,
    ours: Result<impl Way, Trouble>,
    theirs: Result<impl Way, Trouble>,
) -> Result<Measured, Trouble> {
    let mut ours = ours?;
    let (mut theirs, mut results) = match theirs {
        Ok(way) => (Some(way), Ok(Vec::new())),
        Err(Trouble::Missing(program)) => (None, Err(program)),
        Err(trouble) => return Err(trouble),
    };
    ours(Run::Check)?;
    theirs.as_mut().map(|theirs| theirs(Run::Check)).transpose()?;
    let mut measured = Vec::new();
    for _ in 0..bench.pairs {
        let our_cost = ours(Run::Measure)?;
        measured.push(our_cost);
        eprint!("  xfer {}", unit.show(our_cost));
        if let (Some(theirs), Ok(results)) = (&mut theirs, &mut results) {
            let their_cost = theirs(Run::Measure)?;
            results.push(their_cost);
            eprint!(", other {}", unit.show(their_cost));
        }
        eprintln!();
    }
    Ok(Measured { unit, ours: measured, theirs: results })
}

/// The same work, done by both servers.
pub fn against_nginx<W: Way>(
    bench: &Bench,
    unit: Unit,
    way: impl Fn(Server, Speech) -> Result<W, Trouble>,
) -> Result<Measured, Trouble> {
    let ours = servers::xfer(bench).and_then(|server| way(server, Speech::Xfer));
    let theirs = servers::nginx(bench).and_then(|server| way(server, Speech::Http));
    in_turn(bench, unit, ours, theirs)
}
