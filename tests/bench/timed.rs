//! Command lines whose wall time is what a row compares.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::Bench;
use super::process::{Process, command};
use super::row::{Run, Way};
use super::trouble::{Doing, Trouble, ensure};

/// What a command line needed, and what its last program said.
pub struct Timed {
    pub seconds: f64,
    pub stdout: String,
    pub stderr: String,
}

/// The way of the pipelines from `commands`, which make a target that `check` looks at.
pub fn way<'a>(
    bench: &'a Bench,
    commands: impl Fn(&Path) -> Result<Vec<Command>, Trouble> + 'a,
    check: impl Fn(&Timed, &Path) -> Result<(), Trouble> + 'a,
) -> Result<impl Way + 'a, Trouble> {
    let target = bench.scratch.path().join("copy");
    // Says at once if a program is missing.
    commands(&target)?;
    Ok(move |why: Run| {
        let timed = run(bench, commands(&target)?, &target)?;
        if why == Run::Check {
            check(&timed, &target)?;
        }
        Ok(timed.seconds)
    })
}

/// Runs a pipeline that makes `target`, from the start of its first program to the end of its last.
fn run(bench: &Bench, pipeline: Vec<Command>, target: &Path) -> Result<Timed, Trouble> {
    clear(bench, target)?;
    let output = bench.scratch.path().join("output");
    let file = File::create(&output).doing("cannot make a file for the output")?;
    // The room that was freed, and the last run's bytes, must cost this run nothing.
    bench.scratch.settle_disk()?;
    let mut running = start(bench, pipeline, file)?;
    let (Some(first), Some(last)) = (running.first().map(|first| first.started), running.last_mut()) else {
        return Err(Trouble::Failed("an empty pipeline".to_owned()));
    };
    let seconds = (last.succeed()? - first).as_secs_f64();
    let stderr = last.said();
    running.iter_mut().rev().skip(1).try_for_each(|process| process.succeed().map(drop))?;
    let stdout = fs::read(&output).doing("cannot read the output")?;
    Ok(Timed { seconds, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
}

/// Each program reads what the one before it says; the last one writes to `output`.
fn start(bench: &Bench, pipeline: Vec<Command>, output: File) -> Result<Vec<Process>, Trouble> {
    let mut running = Vec::<Process>::new();
    let last = pipeline.len().saturating_sub(1);
    let mut output = Some(output);
    for (index, mut program) in pipeline.into_iter().enumerate() {
        if let Some(stdout) = running.last_mut().and_then(Process::take_stdout) {
            program.stdin(stdout);
        }
        let file = output.take_if(|_| index == last);
        program.stdout(file.map_or_else(Stdio::piped, Stdio::from));
        running.push(Process::start(program, bench.scratch.path().join(format!("errors-{index}")))?);
    }
    Ok(running)
}

/// Puts what the last run made out of the way. A folder of many files stays until the end: ext4 searches past what was just
/// deleted, and makes the next files many times as slowly.
fn clear(bench: &Bench, target: &Path) -> Result<(), Trouble> {
    if !target.is_dir() {
        return remove(target);
    }
    let mut aside = (0..u32::MAX).map(|number| bench.scratch.path().join(format!("made-{number}")));
    match aside.find(|path| !path.exists()) {
        Some(aside) => fs::rename(target, aside).doing(format_args!("cannot rename {}", target.display())),
        None => remove(target),
    }
}

/// Removes a file or a folder, if it is there.
pub fn remove(path: &Path) -> Result<(), Trouble> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing(format_args!("cannot remove {}", path.display())),
    }
}

/// The real `xfer get`, with its log where it is by default.
pub fn xfer_get(bench: &Bench, addr: SocketAddr, name: &str, target: &Path) -> Command {
    let mut get = command(env!("CARGO_BIN_EXE_xfer"), bench.scratch.path());
    get.args(["get", "-H"]).arg(addr.to_string()).arg(name).arg("-o").arg(target);
    get
}

/// `curl -o`, without what its user may have set up; `-` is the next program.
pub fn curl(bench: &Bench, addr: SocketAddr, name: &str, target: &Path) -> Result<Command, Trouble> {
    let mut curl = command(bench.tools.need("curl")?, bench.scratch.path());
    curl.args(["-q", "--noproxy", "*", "-sSf"]).arg(format!("http://{addr}/{name}")).arg("-o").arg(target);
    Ok(curl)
}

/// Fails unless `xfer get` has said this much.
pub fn says(timed: &Timed, what: &str) -> Result<(), Trouble> {
    ensure(timed.stderr.contains(what), || format!("xfer does not say {what:?}: {}", timed.stderr))
}
