//! One large file, by command lines that a user could type.

use std::path::Path;

use crate::bench::Bench;
use crate::files::Source;
use crate::process::command;
use crate::row::{Measured, Run, Way, in_turn};
use crate::servers::{self, Server};
use crate::sizes::Unit;
use crate::timed::{Timed, curl, says, way, xfer_get};
use crate::trouble::{Trouble, ensure};

const MD5: &[&str] = &["--checksum", "md5"];
const BLAKE3: &[&str] = &["--checksum", "blake3"];
const BLAKE3_UNSYNCED: &[&str] = &["--checksum", "blake3", "--no-sync"];

pub fn md5_against_md5sum(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, fetch(bench, &large, MD5), md5sum(bench, &large))
}

pub fn md5_against_tee(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, fetch(bench, &large, MD5), tee(bench, &large))
}

pub fn blake3_against_curl(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, fetch(bench, &large, BLAKE3), download(bench, &large, servers::nginx(bench)))
}

pub fn blake3_against_python(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, fetch(bench, &large, BLAKE3), download(bench, &large, servers::python(bench)))
}

pub fn blake3_against_rsync(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    in_turn(bench, Unit::Seconds, fetch(bench, &large, BLAKE3_UNSYNCED), rsync(bench, &large))
}

pub fn first_against_next(bench: &Bench) -> Result<Measured, Trouble> {
    let large = bench.large()?;
    let first = |run: Run| fetch(bench, &large, MD5)?(run);
    in_turn(bench, Unit::Seconds, Ok(first), fetch(bench, &large, MD5))
}

/// `xfer get` from a server of its own.
pub fn fetch<'a>(bench: &'a Bench, source: &'a Source, options: &'a [&str]) -> Result<impl Way + 'a, Trouble> {
    let server = servers::xfer(bench)?;
    let commands = move |target: &Path| {
        let mut get = xfer_get(bench, server.addr(), &source.name, target);
        get.args(options);
        Ok(vec![get])
    };
    way(bench, commands, |timed, target| {
        says(timed, ", verified, ")?;
        source.check_copy(target)
    })
}

fn md5sum<'a>(bench: &'a Bench, source: &'a Source) -> Result<impl Way + 'a, Trouble> {
    let commands = |_: &Path| {
        let mut md5sum = command(bench.tools.need("md5sum")?, bench.scratch.path());
        md5sum.arg(&source.path);
        Ok(vec![md5sum])
    };
    way(bench, commands, |timed, _| prints(timed, source))
}

fn tee<'a>(bench: &'a Bench, source: &'a Source) -> Result<impl Way + 'a, Trouble> {
    let server = servers::nginx(bench)?;
    let commands = move |target: &Path| {
        let mut tee = command(bench.tools.need("tee")?, bench.scratch.path());
        tee.arg(target);
        let md5sum = command(bench.tools.need("md5sum")?, bench.scratch.path());
        Ok(vec![curl(bench, server.addr(), &source.name, Path::new("-"))?, tee, md5sum])
    };
    way(bench, commands, |timed, target| {
        prints(timed, source)?;
        source.check_copy(target)
    })
}

fn download<'a>(
    bench: &'a Bench,
    source: &'a Source,
    server: Result<Server, Trouble>,
) -> Result<impl Way + 'a, Trouble> {
    let server = server?;
    let commands = move |target: &Path| Ok(vec![curl(bench, server.addr(), &source.name, target)?]);
    way(bench, commands, |_, target| source.check_copy(target))
}

fn rsync<'a>(bench: &'a Bench, source: &'a Source) -> Result<impl Way + 'a, Trouble> {
    let server = servers::rsync(bench)?;
    let commands = move |target: &Path| {
        let mut rsync = command(bench.tools.need("rsync")?, bench.scratch.path());
        rsync.arg("-W").arg(format!("rsync://{}/files/{}", server.addr(), source.name)).arg(target);
        Ok(vec![rsync])
    };
    way(bench, commands, |_, target| source.check_copy(target))
}

fn prints(timed: &Timed, source: &Source) -> Result<(), Trouble> {
    let right = timed.stdout.starts_with(&source.md5.to_string());
    ensure(right, || format!("md5sum prints {}", timed.stdout))
}
