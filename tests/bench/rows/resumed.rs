//! A large file of which half is there, against all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::large::fetch;
use crate::bench::Bench;
use crate::files::Source;
use crate::process::Process;
use crate::row::{Measured, Way, in_turn};
use crate::servers;
use crate::sizes::Unit;
use crate::timed::{remove, says, way, xfer_get};
use crate::trouble::{Doing, Trouble, ensure};

/// How long half of the file may take to arrive.
const PATIENCE: Duration = Duration::from_secs(300);

/// What lies beside a target while it is fetched.
const SUFFIXES: [&str; 2] = [".xfer-part", ".xfer-part.state"];

pub fn md5(bench: &Bench) -> Result<Measured, Trouble> {
    against_whole(bench, &["--checksum", "md5"])
}

pub fn blake3(bench: &Bench) -> Result<Measured, Trouble> {
    against_whole(bench, &["--checksum", "blake3"])
}

fn against_whole(bench: &Bench, options: &[&str]) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, resume(bench, &large, options), fetch(bench, &large, options))
}

/// `xfer get` of the rest, with half of the file and its journal beside the target each time.
fn resume<'a>(bench: &'a Bench, source: &'a Source, options: &'a [&str]) -> Result<impl Way + 'a, Trouble> {
    let server = servers::xfer(bench)?;
    let get = move |target: &Path| {
        let mut get = xfer_get(bench, server.addr(), &source.name, target);
        get.args(options);
        get
    };
    let half = bench.scratch.path().join("half");
    SUFFIXES.iter().try_for_each(|suffix| remove(&beside(&half, suffix)))?;
    interrupt(bench, &half, Process::start(get(&half), bench.scratch.path().join("errors-half"))?)?;
    let commands = move |target: &Path| {
        for suffix in SUFFIXES {
            let (from, to) = (beside(&half, suffix), beside(target, suffix));
            fs::copy(&from, &to).doing(format_args!("cannot copy {}", from.display()))?;
        }
        Ok(vec![get(target)])
    };
    way(bench, commands, |timed, target| {
        says(timed, "resuming ")?;
        says(timed, ", verified, ")?;
        source.check_copy(target)
    })
}

/// Ends a client as soon as it has half of the file.
fn interrupt(bench: &Bench, target: &Path, client: Process) -> Result<(), Trouble> {
    let started = Instant::now();
    let half = bench.sizes.large / 2;
    while fs::metadata(beside(target, SUFFIXES[0])).map_or(0, |part| part.len()) < half {
        ensure(started.elapsed() < PATIENCE, || client.complaint("has not half of the file in time"))?;
        ensure(!client.ends_within(Duration::from_millis(1)), || client.complaint("ended before half of the file"))?;
    }
    // On drop it is ended by SIGTERM, and waited for.
    drop(client);
    Ok(())
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}{suffix}"))
}
