//! What is to be measured, from arguments and environment.

use std::path::PathBuf;

use super::trouble::{Doing, Trouble};

pub const HELP: &str = "\
usage: make bench [ROWS=A,B] [PAIRS=N] [BENCH_ARGS='OPTION...']
   or: cargo bench --locked --bench side_by_side -- [OPTION...]

Compares xfer with nginx, curl, rsync, md5sum and python3 over loopback, and prints the medians as a Markdown table. The
table is also written to table.md, and a picture of it to table.svg, in the directory bench of cargo's target directory.

  --rows A,B   measure only these rows (--list names them)
  --list       list the names of the rows
  --pairs N    pairs of runs for each row (default: 5; with --quick: 1)
  --quick      use small sizes, to try the benchmark itself in a minute (also with BENCH_QUICK=1)
  --dir DIR    make the scratch directory in DIR (default: the directory bench of the target directory)
";

pub enum Asked {
    Help,
    List,
    Measure(Options),
}

pub struct Options {
    /// Names of rows; empty for all.
    pub rows: Vec<String>,
    pub quick: bool,
    pub pairs: usize,
    /// Where the report goes.
    pub report: PathBuf,
    /// Where the scratch folder goes.
    pub dir: PathBuf,
}

pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, Trouble> {
    let mut quick = std::env::var("BENCH_QUICK").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let (mut rows, mut pairs, mut dir) = (Vec::new(), None, None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or("it needs a value; see --help").doing(&arg);
        match arg.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--list" => return Ok(Asked::List),
            "--rows" => rows.extend(value()?.split([',', ' ']).filter(|row| !row.is_empty()).map(str::to_owned)),
            "--pairs" => pairs = Some(value()?.parse().ok().filter(|pairs| *pairs > 0).ok_or("no number").doing(&arg)?),
            "--quick" => quick = true,
            "--dir" => dir = Some(PathBuf::from(value()?)),
            // What cargo itself adds.
            "--bench" => {}
            _ => return Err(Trouble::failed(arg, "no such option; see --help")),
        }
    }
    // Cargo's own scratch folder lies in its target folder.
    let report = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let dir = dir.unwrap_or_else(|| report.clone());
    Ok(Asked::Measure(Options { rows, quick, pairs: pairs.unwrap_or(if quick { 1 } else { 5 }), report, dir }))
}
