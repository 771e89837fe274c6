//! How much of everything a run of the comparison does, and how numbers are written.

use std::time::Duration;

pub struct Sizes {
    /// Bytes of the large file.
    pub large: u64,
    /// Times that it is asked for while the server's time is counted.
    pub large_rounds: u64,
    /// Small files in one command.
    pub small: usize,
    /// Small files that are asked for in turn on one connection, and how often in all.
    pub pipelined_names: usize,
    pub pipelined: u64,
    /// Connections with half a request.
    pub half_asked: usize,
    /// Bytes of each of the files that are not in memory.
    pub cold: u64,
    /// Replies of which the slowest hundredth is told.
    pub samples: usize,
    /// The same beside readers from the disk, which take longer.
    pub cold_samples: usize,
    /// How long many connections are watched.
    pub watched: Duration,
    /// Connections at a time, and sizes of files, in the tables of growth.
    pub connections: &'static [usize],
    pub growing: &'static [u64],
}

const FULL: Sizes = Sizes {
    large: 1 << 30,
    large_rounds: 4,
    small: 10_000,
    pipelined_names: 1000,
    pipelined: 100_000,
    half_asked: 9000,
    cold: 256 << 20,
    samples: 5000,
    cold_samples: 1000,
    watched: Duration::from_secs(3),
    connections: &[1, 10, 100, 1000, 10_000],
    growing: &[1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000],
};

const QUICK: Sizes = Sizes {
    large: 32 << 20,
    large_rounds: 8,
    small: 300,
    pipelined_names: 100,
    pipelined: 5000,
    half_asked: 300,
    cold: 32 << 20,
    samples: 200,
    cold_samples: 200,
    watched: Duration::from_millis(300),
    connections: &[1, 10, 100],
    growing: &[1_000_000, 10_000_000],
};

impl Sizes {
    pub fn of(quick: bool) -> Sizes {
        if quick { QUICK } else { FULL }
    }
}

#[derive(Clone, Copy)]
pub enum Unit {
    Seconds,
    Bytes,
}

impl Unit {
    /// With three digits or so.
    pub fn show(self, value: f64) -> String {
        let three = |value: f64| {
            let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
            format!("{value:.digits$}")
        };
        match self {
            Unit::Seconds if value >= 1.0 => format!("{} s", three(value)),
            Unit::Seconds if value >= 1e-3 => format!("{} ms", three(value * 1e3)),
            Unit::Seconds => format!("{:.0} µs", value * 1e6),
            Unit::Bytes if value.abs() >= 1048576.0 => format!("{} MiB", three(value / 1048576.0)),
            Unit::Bytes if value.abs() >= 1024.0 => format!("{} KiB", three(value / 1024.0)),
            Unit::Bytes => format!("{value:.0} B"),
        }
    }
}

/// Bytes as the names of rows have them.
pub fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

/// A number with commas, as the names of rows have it.
pub fn count(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
