//! The simulations of both ends, which are unit tests: run for longer than `cargo test` does.

use std::process::Command;
use std::thread;

use crate::table::Line;
use crate::torture::Torture;

/// The simulations proper; what else is in that module tries its frame.
const SIMULATIONS: [&str; 2] = ["simulation::server", "simulation::client"];

/// How a simulation says what it did, after the name of the test and whatever else is on the line.
const SAYS: &str = "simulation ";

pub fn run(torture: &Torture) -> Vec<Line> {
    // Each in a process of its own: in one, they wait for each other's log lines.
    thread::scope(|scope| {
        let simulations: Vec<_> = SIMULATIONS.iter().map(|name| scope.spawn(|| simulate(name, torture))).collect();
        simulations.into_iter().flat_map(|simulation| simulation.join().expect("its panics are told")).collect()
    })
}

fn simulate(name: &str, torture: &Torture) -> Vec<Line> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("XFER_SECONDS", torture.share.as_secs().max(1).to_string());
    command.args(["test", "--locked", "--profile", "torture", "--lib", "--", name, "--nocapture"]);
    let output = match command.output() {
        Ok(output) => output,
        Err(why) => return vec![Line::missing(name, format!("cannot start cargo: {why}"))],
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<Line> = said.lines().filter_map(told).collect();
    if !output.status.success() {
        eprintln!("VIOLATION; {command:?}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let mut line = Line::of(format!("{name}: failed"));
        (line.tried, line.wrong) = (1, 1);
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push(Line::missing(name, String::from("no test is called like this")));
    }
    lines
}

/// `simulation NAME: S seeds, F faults, V violations`, or `simulation NAME: T times: FAULT`.
fn told(line: &str) -> Option<Line> {
    let (_, told) = line.split_once(SAYS)?;
    let (name, told) = told.split_once(": ")?;
    if let Some((times, fault)) = told.split_once(" times: ") {
        return Some(Line { tried: times.parse().ok()?, ..Line::of(format!("simulated, {name}: {fault}")) });
    }
    let (seeds, rest) = told.split_once(" seeds, ")?;
    let (_, violations) = rest.split_once(" faults, ")?;
    let wrong = violations.split(' ').next()?.parse().ok()?;
    Some(Line { tried: seeds.parse().ok()?, wrong, ..Line::of(format!("simulated, {name}: seeds")) })
}
