//! Does to the real binary what a bad day would, for as long as it is told; `make torture TORTURE_ARGS=--help` says how to
//! ask.

// The tests' own harness: a failure says everything there is to see. Much of it is for them alone.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
// Cargo builds this target as a test, though it has none: then the harness has its own tests, which need this one.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
#[path = "../it/scripted_server.rs"]
mod scripted_server;

mod calls;
mod disk;
mod lanes;
mod options;
mod recording;
mod rows;
mod slots;
mod strace;
mod table;
mod torture;
mod transfer;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use options::{Asked, Options};
use table::Line;
use torture::Torture;

fn main() -> ExitCode {
    let done = options::parse(std::env::args().skip(1)).and_then(|asked| match asked {
        Asked::Help => {
            print!("{}", options::HELP);
            Ok(true)
        }
        Asked::List => {
            rows::ALL.iter().for_each(|row| println!("{}", row.name));
            Ok(true)
        }
        Asked::Run(options) => run(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("torture: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was lost and nothing wrong.
fn run(options: &Options) -> Result<bool, String> {
    let chosen: Vec<_> = rows::ALL
        .iter()
        .filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name))
        .collect();
    let unknown = options.rows.iter().find(|name| !rows::ALL.iter().any(|row| row.name == **name));
    if let Some(name) = unknown {
        return Err(format!("no row is called {name:?}; see --list"));
    }
    let torture = Torture::new(options, chosen.len());
    eprintln!("seed {}", torture.seed);
    let mut lines: Vec<Line> = Vec::new();
    for row in chosen {
        eprintln!("{}: {}", row.name, row.what);
        let done = (row.run)(&torture);
        done.iter().for_each(|line| eprintln!("  {}", line.said()));
        lines.extend(done);
    }
    let table = table::markdown(&lines);
    println!("{table}");
    if let Some(path) = &options.markdown {
        write(path, &table)?;
    }
    Ok(lines.iter().all(Line::is_good))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|why| format!("cannot write {}: {why}", path.display()))
}
