//! Compares xfer with other programs on this machine, side by side; `make bench BENCH_ARGS=--help` says how to ask.

mod bench;
mod cost;
mod files;
mod growth;
mod load;
mod options;
mod process;
mod reader;
mod row;
mod rows;
mod scratch;
mod servers;
mod signals;
mod sizes;
mod speech;
mod statistics;
mod svg;
mod table;
mod timed;
mod tools;
mod trouble;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bench::Bench;
use options::{Asked, Options};
use table::Outcome;
use trouble::{Doing, Trouble, ensure};

fn main() -> ExitCode {
    let done = options::parse(std::env::args().skip(1)).and_then(|asked| match asked {
        Asked::Help => {
            print!("{}", options::HELP);
            Ok(true)
        }
        Asked::List => {
            names().iter().for_each(|name| println!("{name}"));
            Ok(true)
        }
        Asked::Measure(options) => compare(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// What `--rows` takes.
fn names() -> Vec<&'static str> {
    let rows = rows::all(&sizes::Sizes::of(false));
    rows.iter().map(|row| row.name).chain(growth::ALL.iter().map(|growth| growth.name)).collect()
}

/// Whether all rows could be measured: not whether they reach their goals.
fn compare(options: &Options) -> Result<bool, Trouble> {
    let unknown = options.rows.iter().find(|name| !names().contains(&name.as_str()));
    ensure(unknown.is_none(), || format!("no row is called {:?}; see --list", unknown.map_or("", String::as_str)))?;
    let wanted = |name: &str| options.rows.is_empty() || options.rows.iter().any(|row| row == name);

    let bench = Bench::new(options)?;
    signals::watch(bench.scratch.path().to_owned())?;
    let head = bench.tools.head();
    eprintln!("{head}");
    let mut outcomes = Vec::new();
    for row in rows::all(&bench.sizes).into_iter().filter(|row| wanted(row.name)) {
        eprintln!("{}: {} against {}", row.name, row.work, row.against);
        let measured = (row.measure)(&bench).inspect_err(|trouble| eprintln!("  failed: {trouble}"));
        outcomes.push(Outcome { row, measured });
    }
    let mut all_measured = !outcomes.iter().any(|outcome| matches!(outcome.measured, Err(Trouble::Failed(_))));
    let mut report = format!("{head}\n\n{}\n\n{}", table::EXPLANATION, table::comparison(&outcomes));
    for growth in growth::ALL.iter().filter(|growth| wanted(growth.name)) {
        eprintln!("{}: {}", growth.name, growth.title);
        let table = (growth.measure)(&bench).unwrap_or_else(|trouble| {
            all_measured = false;
            format!("failed: {trouble}\n")
        });
        report.push_str(&format!("\n{}:\n\n{table}", growth.title));
    }
    println!("{report}");
    let picture = svg::draw(&outcomes, head.lines().next().unwrap_or_default());
    write(&options.report.join("table.md"), &report)?;
    write(&options.report.join("table.svg"), &picture)?;
    Ok(all_measured)
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    path.parent().map_or(Ok(()), fs::create_dir_all).doing("cannot make the directory for the report")?;
    fs::write(path, text).doing(format_args!("cannot write {}", path.display()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}
