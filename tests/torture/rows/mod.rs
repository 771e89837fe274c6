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
    Row {
        name: "simulation",
        what: "the logic of both ends, in a simulated world with random faults",
        run: simulation::run,
    },
    Row { name: "syscalls", what: "each system call of a transfer fails with each error", run: syscalls::run },
    Row { name: "kills", what: "both ends are killed and stopped at random moments", run: kills::run },
    Row { name: "power", what: "every state in which a power cut can leave the client's disk", run: power::run },
    Row { name: "strangers", what: "a transfer beside hundreds of slow and hostile connections", run: strangers::run },
];
