//! What becomes of each file: verified ones on their way to their names, and failures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::clock;
use super::commits::{Commits, Committed, Folder};
use super::item::Tools;
use super::progress::{Ended, Progress};
use super::saved::Saved;
use super::wait::{Stop, signal_name};
use crate::error::{Error, ExitCode};
use crate::proto::digest::Digest;
use crate::text;

/// Files that are named when they are not tried; the log has them all.
const NOT_TRIED_SHOWN: usize = 5;

/// What is to be said of a file when it has its name.
pub struct Done {
    /// Its name on the server.
    pub name: Vec<u8>,
    /// Where it goes, as lines for a person name it.
    pub shown: String,
    /// Its path, unless bytes go out as they come.
    pub path: Option<PathBuf>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Bytes in it.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// What the line about it says behind the path: size, digest, and for a file that was fetched, time and speed.
    pub details: String,
}

impl Done {
    /// The line about a file that ended in this way.
    fn line(&self, saved: Saved) -> String {
        let Done { shown, details, .. } = self;
        match saved {
            Saved::New => format!("saved {shown}: {details}"),
            Saved::Replaced => format!("replaced {shown}: {details}"),
            Saved::Written => format!("written to {shown}: {details}"),
            Saved::UpToDate => format!("{shown} is already up to date: {details}"),
            Saved::Kept => format!("kept {shown}: it was created during the transfer (--no-clobber)"),
        }
    }

    /// The same for programs. Nobody has looked at a file that is kept: it has no size and no digest here.
    fn ended(&self, saved: Saved) -> Ended<'_> {
        let (size, digest) = match saved {
            Saved::Kept => (None, None),
            _ => (Some(self.size), Some(&self.digest)),
        };
        let (path, seconds) = (self.path.as_deref(), Some(self.seconds));
        Ended { name: &self.name, saved, path, size, digest, seconds }
    }
}

/// What becomes of each file.
pub struct Ledger {
    /// Verified files on their way to their names.
    pub commits: Commits<Done>,
    /// The folder of all of them, once there is one.
    pub folder: Option<Arc<Folder>>,
    /// What went wrong so far.
    pub failures: Failures,
}

impl Ledger {
    /// Nothing yet.
    pub fn new() -> Ledger {
        Ledger { commits: Commits::new(), folder: None, failures: Failures::default() }
    }
}

impl Tools<'_> {
    /// Tells of the files that have their names; waits for some if too many are on their way.
    pub fn collect(&mut self) -> Result<(), Stop> {
        while let Some((done, result)) = self.ledger.commits.ended()? {
            self.committed(done, result);
        }
        while self.ledger.commits.is_full() && self.collect_one()? {}
        Ok(())
    }

    /// Waits for the oldest file on its way, and tells of it; whether there was one.
    pub fn collect_one(&mut self) -> Result<bool, Stop> {
        self.progress.saving();
        let next = self.ledger.commits.next(&mut self.waits)?;
        self.progress.asking();
        let Some((done, result)) = next else { return Ok(false) };
        self.committed(done, result);
        Ok(true)
    }

    /// Waits until this time; files that get their names meanwhile are told of.
    ///
    /// Then this attempt is due, if it is one: its label, and the file.
    pub fn pause(&mut self, until: Instant, attempt: Option<(String, Vec<u8>)>) -> Result<(), Stop> {
        self.progress.waiting(until, attempt);
        // It may be over already.
        self.waits.check()?;
        while clock::now() < until {
            self.waits.wait(Some(until))?;
            self.collect()?;
        }
        self.progress.asking();
        Ok(())
    }

    /// After a signal: tells of the files that get their names in the moment that is left, and of those that do not;
    /// whether there was one of those.
    pub fn collect_last(&mut self, signal: u8) -> bool {
        let mut is_cut = false;
        for (done, result) in self.ledger.commits.last() {
            match result {
                Some(result) => self.committed(done, result),
                None => {
                    is_cut = true;
                    let line = format!(
                        "stopped by {} while saving {}; run the same command to make sure that it is saved",
                        signal_name(signal),
                        done.shown
                    );
                    self.progress.error(Some(&done.name), Some(ExitCode::Signal(signal)), &line);
                }
            }
        }
        is_cut
    }

    /// Tells of a file whose commit has ended.
    pub fn committed(&mut self, done: Done, result: Committed) {
        match result {
            Ok(saved) => self.progress.done(&done.ended(saved), &done.line(saved)),
            Err(message) => {
                let error = Stop::local(message).into_error();
                self.ledger.failures.add(&done.name, &error, &mut self.progress);
            }
        }
    }
}

/// What went wrong so far.
#[derive(Default)]
pub struct Failures {
    /// The exit code of the first.
    pub first: Option<ExitCode>,
}

impl Failures {
    /// Tells of a failure, the first of which decides the exit code.
    pub fn add(&mut self, name: &[u8], error: &Error, progress: &mut Progress) {
        progress.error(Some(name), Some(error.exit), &error.to_string());
        self.first.get_or_insert(error.exit);
    }

    /// Reports the files that are not tried, because of their server; all of them in the log, a few to the person. `advice`
    /// is the end of the line: what to do, and what earlier attempts have left of them.
    pub fn leave(&mut self, names: &[&[u8]], why: &str, advice: &str, progress: &mut Progress) {
        names.iter().for_each(|name| progress.not_tried(name, why));
        let mut more = String::new();
        let shown: Vec<String> = names.iter().take(NOT_TRIED_SHOWN).map(|name| text::quoted(name)).collect();
        if names.len() > NOT_TRIED_SHOWN {
            more = format!(" and {} more", names.len() - NOT_TRIED_SHOWN);
        }
        if !shown.is_empty() {
            let shown = shown.join(", ") + &more;
            progress.error(None, None, &format!("not tried: {shown} ({why}){advice}"));
        }
    }
}
