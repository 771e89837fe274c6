//! What lies beside a target while it is fetched: the part file and its journal, whose they are, and what stays of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commits::{Committed, Folder};
use super::disk::{self, File};
use super::flow::Digested;
use super::held::HELD_MAX;
use super::journal::{self, Found, Journal, Unusable};
use super::part::{Attributes, Part};
use super::receive::{PrefixCheck, Resumable, Start};
use super::slot::Checkpoint;
use super::target::{Offer, Resume};
use super::wait::{Stop, Waits};
use super::workers::Worker;
use crate::error::reason;
use crate::folder::folder_of;
use crate::text;

/// What lies beside a target.
pub enum Beside {
    /// Nobody has looked.
    Unseen,
    /// Locked, and of an earlier run: not ours to remove until a server has proved it useless.
    Earlier {
        /// The part.
        part: Part,
        /// What can be resumed, and where that is written.
        found: Option<Box<(Found, Resume)>>,
    },
    /// Locked, and what lies in it came in this run, or is gone on with by it.
    Ours {
        /// The part.
        part: Part,
        /// If it can be resumed by a later run.
        journal: Option<Arc<Journal>>,
        /// What is known of the part.
        kept: Kept,
    },
}

/// What is known of a part of ours between two attempts.
pub enum Kept {
    /// It is good, and can be resumed.
    Good(Resume, Box<Restart>),
    /// Its journal knows; so also while an attempt is under way.
    Unknown,
    /// Nothing in it can be resumed.
    Worthless,
}

/// What the next attempt needs to know of a part of ours to resume it.
pub struct Restart {
    /// The digests of its first bytes.
    pub checkpoint: Option<Checkpoint>,
    /// What is still to be compared of what an earlier run has left.
    pub check: PrefixCheck,
}

impl Restart {
    /// Behind what an attempt has left.
    pub fn behind(resumable: Resumable) -> Restart {
        Restart { checkpoint: resumable.checkpoint, check: resumable.check }
    }

    /// Where the digests start: behind the checkpoint, if there is one, and what follows is read again.
    fn start(self, offset: u64, rewritten_from: u64, offer: &Offer) -> Start {
        let (algorithm, size) = (offer.about.algorithm, offer.about.size);
        let digested = self.checkpoint.as_ref().and_then(|checkpoint| {
            Some(Digested { offset: checkpoint.end(), hasher: checkpoint.hasher(algorithm, size)? })
        });
        let digested = digested.unwrap_or_else(|| Digested::nothing(algorithm));
        Start { offset, digested, checkpoint: self.checkpoint, rewritten_from, check: self.check }
    }
}

/// What a look has found.
#[derive(Default)]
pub struct Look {
    /// The server that it came from.
    pub origin: Option<String>,
    /// Why it cannot be gone on with, if it might have been meant to be.
    pub useless: Option<String>,
}

/// A part that is ready for bytes.
pub struct Begun {
    /// Where they go.
    pub file: Arc<File>,
    /// What is there already.
    pub start: Start,
    /// What is to be told how far the part is good.
    pub journal: Option<Arc<Journal>>,
}

/// What stays for a later run.
pub struct Left {
    /// Where it lies.
    path: PathBuf,
    /// How much it is, and of how much, as far as that is known.
    progress: Option<(u64, u64)>,
}

impl Beside {
    /// Takes what an earlier run has left of the file of this name, if there is anything.
    pub fn find(&mut self, target: &Path, name: &[u8]) -> Result<Look, Stop> {
        let Beside::Unseen = self else { return Ok(Look::default()) };
        let Some(part) = Part::open_existing(target)? else { return Ok(Look::default()) };
        let mut look = Look::default();
        let unreadable = |path: &Path, error: &io::Error| {
            Stop::local(format!("cannot read {}: {}; try again, or remove it", text::path(path), reason(error)))
        };
        let len = part.len().map_err(|error| unreadable(part.path(), &error))?;
        let found = match Found::open(&part.journal_path(), len) {
            Ok(found) => found,
            Err(Unusable::Useless(why)) => {
                look.useless = Some(why.to_string());
                None
            }
            // Not a reason to throw away what it may speak of.
            Err(Unusable::Unreadable(error)) => {
                return Err(unreadable(&part.journal_path(), &error));
            }
        };
        let found = found.and_then(|found| {
            let entry = &found.entry;
            if entry.about.name != name {
                look.useless = Some(format!("the partial file belongs to {}", text::quoted(&entry.about.name)));
                return None;
            }
            look.origin = Some(entry.about.origin.clone());
            if entry.offset > len {
                look.useless = Some(String::from("the partial file is shorter than its journal says"));
                return None;
            }
            let resume = Resume { version: entry.about.version, size: entry.about.size, offset: entry.offset };
            (entry.offset > 0).then(|| Box::new((found, resume)))
        });
        *self = Beside::Earlier { part, found };
        Ok(look)
    }

    /// What can be resumed.
    pub fn resume(&self) -> Option<&Resume> {
        match self {
            Beside::Earlier { found: Some(found), .. } => Some(&found.1),
            Beside::Ours { kept, .. } => match kept {
                Kept::Good(resume, _) => Some(resume),
                Kept::Unknown | Kept::Worthless => None,
            },
            _ => None,
        }
    }

    /// Resumes nothing of what an earlier run has left.
    pub fn forget(&mut self) {
        if let Beside::Earlier { found, .. } = self {
            *found = None;
        }
    }

    /// What an attempt has left in the part.
    pub fn keep(&mut self, now: Kept) {
        if let Beside::Ours { kept, .. } = self {
            *kept = now;
        }
    }

    /// Keeps what was synced of the part, after a failure that puts the rest in doubt.
    pub fn go_back(&mut self, offer: &Offer, check: PrefixCheck) {
        let Beside::Ours { part, journal, kept } = self else { return };
        let (version, size) = (offer.about.version, offer.about.size);
        *kept = match back_to_synced(part, journal.as_deref()) {
            Some((offset, checkpoint)) => {
                Kept::Good(Resume { version, size, offset }, Box::new(Restart { checkpoint, check }))
            }
            None => Kept::Worthless,
        };
    }

    fn part(&self) -> Option<&Part> {
        match self {
            Beside::Unseen => None,
            Beside::Earlier { part, .. } | Beside::Ours { part, .. } => Some(part),
        }
    }

    /// Gets ready for the bytes of a file, from the offer's offset on.
    pub fn begin(&mut self, target: &Path, offer: &Offer, worker: &Worker, waits: &mut Waits) -> Result<Begun, Stop> {
        let shown = text::path(target);
        let mut is_fresh = false;
        if let Beside::Unseen = self {
            let part = Part::open(target)?;
            is_fresh = part.is_new();
            *self = match is_fresh {
                true => Beside::Ours { part, journal: None, kept: Kept::Worthless },
                false => Beside::Earlier { part, found: None },
            };
        }
        let goes_on = offer.offset > 0 && self.resume().is_some_and(|resume| resume.offset == offer.offset);
        // The one write of a small file says at once whether there is room, and of a part that was made just now only a
        // journal can speak that has lost its own.
        if !is_fresh || offer.about.size > HELD_MAX as u64 || Part::left_journal(target) {
            // Before anything that is there is given up.
            self.check_space(offer, goes_on, &shown)?;
            if !goes_on {
                self.start_clean(worker, waits)?;
            }
        }
        let (part, journal, start) = match std::mem::replace(self, Beside::Unseen) {
            Beside::Earlier { part, found: Some(found) } if goes_on => {
                let found = found.0;
                let checkpoint = found.checkpoint(offer.about.algorithm);
                let check = checkpoint.clone().map_or(PrefixCheck::None, PrefixCheck::Due);
                let start = Restart { checkpoint, check }.start(offer.offset, found.rewritten_from(), offer);
                let journal = found.resume(&part.journal_path(), offer.about.clone());
                (part, Some(Arc::new(journal)), start)
            }
            Beside::Ours { part, journal, kept } if goes_on => {
                let restart = match kept {
                    Kept::Good(_, restart) => *restart,
                    // Nothing else is gone on with.
                    Kept::Unknown | Kept::Worthless => Restart { checkpoint: None, check: PrefixCheck::None },
                };
                (part, journal, restart.start(offer.offset, offer.offset, offer))
            }
            Beside::Earlier { part, .. } | Beside::Ours { part, .. } => {
                let journal = new_journal(&part, offer);
                (part, journal, Start::behind(Digested::nothing(offer.about.algorithm)))
            }
            // Put there above.
            Beside::Unseen => {
                return Err(Stop::local(format!("the partial file of {shown} has disappeared; run the command again")));
            }
        };
        let file = Arc::clone(part.file());
        // Not where there is nothing to cut: ext4 then writes back at the close (ext4(5), auto_da_alloc), which took
        // longer than all else that is done with a file of 4 KiB.
        let cut = if is_fresh { Ok(()) } else { part.truncate(start.offset) };
        *self = Beside::Ours { part, journal: journal.clone(), kept: Kept::Unknown };
        cut.map_err(|error| Stop::local(format!("cannot truncate the partial file of {shown}: {}", reason(&error))))?;
        Ok(Begun { file, start, journal })
    }

    /// Takes a part without a name for bytes that are all here, if nothing lies beside the target.
    pub fn begin_unnamed(&mut self, target: &Path) -> Option<Arc<File>> {
        let Beside::Unseen = self else { return None };
        if Part::left_journal(target) {
            return None;
        }
        let part = Part::unnamed(target)?;
        let file = Arc::clone(part.file());
        *self = Beside::Ours { part, journal: None, kept: Kept::Worthless };
        Some(file)
    }

    fn check_space(&self, offer: &Offer, goes_on: bool, shown: &str) -> Result<(), Stop> {
        let Some(part) = self.part() else { return Ok(()) };
        let size = offer.about.size;
        let missing = size.saturating_sub(if goes_on { offer.offset } else { part.allocated() });
        match part.free_space() {
            Some(free) if free < missing => {
                let needed = match missing < size {
                    true => format!("{} more", text::size(missing)),
                    false => text::size(size),
                };
                Err(Stop::local(format!(
                    "not enough disk space for {shown}: {needed} needed, {} free; free some space, or save elsewhere \
                     with -d",
                    text::size(free)
                )))
            }
            _ => Ok(()),
        }
    }

    /// Forgets what is said of the part, so that this is on the disk before the part holds anything else.
    fn start_clean(&mut self, worker: &Worker, waits: &mut Waits) -> Result<(), Stop> {
        // A server has proved it useless: from here on it is ours to remove.
        *self = match std::mem::replace(self, Beside::Unseen) {
            Beside::Earlier { part, .. } | Beside::Ours { part, .. } => {
                Beside::Ours { part, journal: None, kept: Kept::Worthless }
            }
            Beside::Unseen => Beside::Unseen,
        };
        let Some(part) = self.part() else { return Ok(()) };
        let path = part.journal_path();
        let cannot = |error| Stop::local(format!("cannot remove {}: {}", text::path(&path), reason(&error)));
        if journal::remove(&path).map_err(cannot)? {
            // Also with --no-sync: an old slot that comes back after a power cut would speak of other bytes.
            let folder = folder_of(&path).to_path_buf();
            let synced = worker.run(move || disk::sync_folder(&folder)).wait(waits)?;
            synced.map_err(cannot)?;
        }
        Ok(())
    }

    /// What makes the part the target. From here on it belongs to the job: what comes of it is the job's to decide.
    pub fn commit(
        &mut self,
        attributes: Option<Attributes>,
        sync: Option<Arc<Folder>>,
        replaces: bool,
    ) -> Option<impl FnOnce() -> Committed + Send + 'static> {
        let Beside::Ours { part, journal, .. } = std::mem::replace(self, Beside::Unseen) else { return None };
        Some(move || match part.commit(attributes, sync.as_deref(), replaces) {
            Ok(saved) => {
                if let Some(journal) = journal {
                    journal.remove_own();
                }
                Ok(saved)
            }
            // It has its name, or is nobody's any more.
            Err(failure) if part.is_replaced() => {
                if let Some(journal) = journal {
                    journal.remove_own();
                }
                Err(failure.message)
            }
            Err(failure) => {
                let kept = match failure.is_in_doubt {
                    true => back_to_synced(&part, journal.as_deref())
                        .map(|(offset, _)| kept_in(part.path(), &text::size(offset))),
                    // Whole and good, and only its name cannot be had.
                    false => journal.map(|journal| {
                        journal.record_whole();
                        format!(
                            "; kept the complete file in {}; run the same command to save it",
                            text::path(part.path())
                        )
                    }),
                };
                let kept = kept.unwrap_or_else(|| {
                    let lost = not_kept(part.len().unwrap_or(0));
                    part.discard();
                    lost
                });
                Err(failure.message + &kept)
            }
        })
    }

    /// Removes what lies there: the target is what the server has. What another client has locked stays.
    pub fn clean(&mut self, target: &Path) {
        if let Beside::Unseen = self
            && Part::left(target)
            && let Ok(part) = Part::open(target)
        {
            *self = Beside::Earlier { part, found: None };
        }
        if let Some(part) = self.part() {
            part.discard();
        }
        *self = Beside::Unseen;
    }

    /// Lets go of it, and leaves nothing behind but what a later run can resume.
    pub fn abandon(&mut self) -> Option<Left> {
        match std::mem::replace(self, Beside::Unseen) {
            Beside::Earlier { part, found: Some(found) } => Some(Left::good(&part, &found.1)),
            // Nothing, or of no use as far as we can see, and no server has been asked.
            Beside::Unseen | Beside::Earlier { found: None, .. } => None,
            // Nothing of ours is there any more.
            Beside::Ours { part, .. } if part.is_replaced() => None,
            Beside::Ours { part, journal, kept } => match (journal, kept) {
                // It may not have been told all, if the disk is full.
                (Some(journal), Kept::Good(resume, _)) if journal.recorded() > 0 => {
                    let offset = resume.offset.min(journal.recorded());
                    Some(Left::good(&part, &Resume { offset, ..resume }))
                }
                // The disk has not said in time how far it came.
                (Some(_), Kept::Unknown) => Some(Left { path: part.path().to_path_buf(), progress: None }),
                _ => {
                    part.discard();
                    None
                }
            },
        }
    }
}

/// Cuts a part back to what was synced of it, and says so in its journal: how much that is, with its digests.
///
/// What was written behind it may not be on the disk, and a later sync would not tell (fsync(2)).
fn back_to_synced(part: &Part, journal: Option<&Journal>) -> Option<(u64, Option<Checkpoint>)> {
    let (offset, checkpoint) = journal?.go_back()?;
    // What cannot be cut is cut when the part is resumed.
    let _ = part.truncate(offset);
    Some((offset, checkpoint))
}

impl Left {
    fn good(part: &Part, resume: &Resume) -> Left {
        Left { path: part.path().to_path_buf(), progress: Some((resume.offset, resume.size)) }
    }

    /// The end of an error line about it.
    pub fn describe(&self) -> String {
        match self.progress {
            Some((offset, size)) => kept_in(&self.path, &format!("{} of {}", text::size(offset), text::size(size))),
            None => format!("; kept the partial file {}; run the same command to resume", text::path(&self.path)),
        }
    }
}

/// The end of an error line: where so much of a file is, and what to do.
fn kept_in(path: &Path, what: &str) -> String {
    format!("; kept {what} in {}; run the same command to resume", text::path(path))
}

/// The end of an error line: that so many bytes of a file are lost.
pub fn not_kept(bytes: u64) -> String {
    format!("; the {} received were not kept", text::size(bytes))
}

/// The journal of a file that can be resumed. Without one, a later run begins at the beginning; that is no reason to fail.
fn new_journal(part: &Part, offer: &Offer) -> Option<Arc<Journal>> {
    // A later run could not tell whether this one still uses it.
    if offer.attributes.is_none() || !part.is_locked() {
        return None;
    }
    let path = part.journal_path();
    match Journal::create(&path, offer.about.clone()) {
        Ok(journal) => Some(Arc::new(journal)),
        Err(error) => {
            log::warn!(target: "main", "cannot create the journal {}: {}; this transfer cannot be resumed later", text::path(&path), reason(&error));
            None
        }
    }
}

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
