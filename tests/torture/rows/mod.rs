//! The rows, in the order of the table.

mod kills;
mod power;
mod simulation;
mod strangers;
mod syscalls;

use super::table::Line;
use super::torture::Torture;

/// A kind of bad day.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&Torture) -> Vec<Line>,
}

pub const ALL: &[Row] = &[
    Row { name: "simulation", what: "the logic of both ends, with chance for a world", run: simulation::run },
    Row { name: "syscalls", what: "each system call of a transfer failed with each error", run: syscalls::run },
    Row { name: "kills", what: "both ends killed and stopped at random moments", run: kills::run },
    Row { name: "power", what: "every state that a power cut could leave on the client's disk", run: power::run },
    Row { name: "strangers", what: "a transfer beside thousands of slow and hostile connections", run: strangers::run },
];
