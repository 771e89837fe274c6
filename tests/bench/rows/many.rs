//! Thousands of small files in one command.

use std::fs;
use std::path::Path;

use crate::bench::Bench;
use crate::files::{SMALL_FOLDER, Source};
use crate::process::command;
use crate::row::{Measured, Way, in_turn};
use crate::servers;
use crate::sizes::Unit;
use crate::timed::{says, way};
use crate::trouble::{Doing, Trouble};

pub fn not_synced(bench: &Bench) -> Result<Measured, Trouble> {
    compare(bench, &["--no-sync"], &[])
}

pub fn synced(bench: &Bench) -> Result<Measured, Trouble> {
    compare(bench, &[], &["--fsync"])
}

fn compare(bench: &Bench, ours: &[&str], theirs: &[&str]) -> Result<Measured, Trouble> {
    let files = bench.files.small(bench.sizes.small)?;
    in_turn(bench, Unit::Seconds, fetch(bench, &files, ours), rsync(bench, &files, theirs))
}

fn fetch<'a>(bench: &'a Bench, files: &'a [Source], options: &'a [&str]) -> Result<impl Way + 'a, Trouble> {
    let (server, list) = (servers::xfer(bench)?, bench.scratch.path().join("list"));
    let names: String = files.iter().map(|file| format!("{}\n", file.name)).collect();
    fs::write(&list, names).doing("cannot write the list of names")?;
    let commands = move |folder: &Path| {
        let mut get = command(env!("CARGO_BIN_EXE_xfer"), bench.scratch.path());
        get.args(["get", "-H"]).arg(server.addr().to_string());
        get.arg("--from-file").arg(&list).arg("-d").arg(folder).args(options);
        Ok(vec![get])
    };
    way(bench, commands, |timed, folder| {
        says(timed, &format!("{0} of {0} saved", files.len()))?;
        check(files, folder)
    })
}

fn rsync<'a>(bench: &'a Bench, files: &'a [Source], options: &'a [&str]) -> Result<impl Way + 'a, Trouble> {
    let server = servers::rsync(bench)?;
    let commands = move |folder: &Path| {
        let mut rsync = command(bench.tools.need("rsync")?, bench.scratch.path());
        rsync.arg("-r").args(options);
        rsync.arg(format!("rsync://{}/files/{SMALL_FOLDER}/", server.addr())).arg(folder);
        Ok(vec![rsync])
    };
    way(bench, commands, |_, folder| check(files, folder))
}

fn check(files: &[Source], folder: &Path) -> Result<(), Trouble> {
    files.iter().try_for_each(|file| file.check_copy(&folder.join(file.path.file_name().unwrap_or_default())))
}
