//! What is to be tried, from the arguments.

use std::path::PathBuf;

pub const HELP: &str = "\
usage: make torture [SECONDS=N] [ROWS=A,B] [TORTURE_ARGS='OPTION...']
   or: cargo test --locked --profile torture --test torture -- [OPTION...]

Injects faults into both ends of a transfer: failing system calls, kills, power cuts, hostile connections. Prints a
Markdown table: fault, times tried, lost, wrong. The exit status is 1 if anything was lost or wrong. Standard error then
has the command that repeats the trial.

  --rows A,B       run only these rows (--list names them)
  --list           list the names of the rows
  --seconds N      total time of all rows, approximately (default: 60)
  --all            try every system call and every state of the disk, 1,000 kills, and each kind of hostile connection
                   for a minute; takes about forty minutes
  --seed N         seed of the random numbers (default: 1)
  --only TEXT      run only trials whose name contains TEXT, to repeat one
  --markdown FILE  write the table to FILE, too
";

pub enum Asked {
    Help,
    List,
    Run(Options),
}

pub struct Options {
    /// Names of rows; empty for all.
    pub rows: Vec<String>,
    pub seconds: u64,
    pub all: bool,
    pub seed: u64,
    pub only: Option<String>,
    pub markdown: Option<PathBuf>,
}

pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options { rows: Vec::new(), seconds: 60, all: false, seed: 1, only: None, markdown: None };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value; see --help"));
        let number = |text: String| text.parse().map_err(|_| format!("{arg} needs a whole number, and not {text:?}"));
        match arg.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--list" => return Ok(Asked::List),
            "--rows" => {
                options.rows.extend(value()?.split([',', ' ']).filter(|row| !row.is_empty()).map(str::to_owned))
            }
            "--seconds" => options.seconds = number(value()?)?,
            "--all" => options.all = true,
            "--seed" => options.seed = number(value()?)?,
            "--only" => options.only = Some(value()?),
            "--markdown" => options.markdown = Some(PathBuf::from(value()?)),
            _ => return Err(format!("{arg}: no such option; see --help")),
        }
    }
    Ok(Asked::Run(options))
}
