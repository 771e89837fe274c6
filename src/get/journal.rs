//! The journal: beside a part file, a small file that says of what the part is, how far it is good, and what its first
//! bytes hash to, so that a later run can resume it.
//!
//! It has two slots. A slot that was synced, and before it the bytes that it speaks of, survives a power cut; it stays
//! until the next such slot is on the disk. The other slot is rewritten in between; it counts only under the same boot.
//! Each can hold a checkpoint: the digests of the part's first pieces. It is believed only as far as the bytes that the
//! part now holds have that digest (reread.rs): what a kill, a disk or somebody else did to them meanwhile is found.
//!
//! What is read is checked like anything from outside: a torn, stale or forged journal costs a transfer from the
//! beginning, and not a wrong file, since the digest of the whole decides in the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::clock;
use super::disk::{self, File};
use super::part::{is_ours, lies_at, open_part};
use super::scale::scaled;
use super::slot::{About, BOOT_MAX, Checkpoint, Entry, PIECE, SLOT_LEN};
use crate::folder::folder_of;
use crate::proto::digest::Algorithm;

/// How long what has come stays in memory at most, though it fills no block and though its file is small: what a kill may
/// lose over a slow line, where a block takes minutes. Written once a second, also a line of 1 KB/s costs the disk little.
pub const KEPT_AFTER: Duration = Duration::from_secs(1);

/// Bytes of progress between two slots that are not synced, unless [`KEPT_AFTER`] has passed: what a kill may lose, beside
/// what is on its way.
const RECORD_EVERY: u64 = scaled(1 << 20);

/// Bytes after which a part that is synced at all has something in it that is, also on a slow disk.
const SYNCED_BY: u64 = 4 * PIECE;

/// What this boot of the machine is called; without a name, slots that were not synced never count.
fn boot_id() -> Vec<u8> {
    let mut id = disk::boot_id();
    id.truncate(id.trim_ascii_end().len().min(BOOT_MAX));
    id
}

/// An open journal. Whoever has it has the lock on its part.
pub struct Journal {
    file: File,
    path: PathBuf,
    about: About,
    boot: Vec<u8>,
    slots: Mutex<Slots>,
}

struct Slots {
    /// The number of the last slot written.
    sequence: u64,
    /// The slot that is on the disk for good, if one is.
    synced: Option<Synced>,
    /// Which slot (0 or 1) was written last.
    last: usize,
    /// How far the last slot says that the part is good.
    recorded: u64,
    /// When it was written; not in this run, if none has been.
    written: Option<Instant>,
}

/// A slot that is on the disk for good, and what it says.
struct Synced {
    /// Which slot (0 or 1).
    index: usize,
    offset: u64,
    checkpoint: Option<Checkpoint>,
}

/// What lies in a journal of an earlier run.
pub struct Found {
    file: File,
    slots: Slots,
    /// What counts of it.
    pub entry: Entry,
}

/// Why what lies in the place of a journal cannot be used.
pub enum Unusable {
    /// It says nothing of the part, for this reason.
    Useless(&'static str),
    /// It may say something, and cannot be read now.
    Unreadable(io::Error),
}

/// Whether an open failed since something else lies there than a file. All else may pass.
fn is_no_file(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV))
}

impl Found {
    /// Looks for the journal of a part of `len` bytes; `None` if there is none, and why it means nothing if it does not. It
    /// may say more than there is of the part.
    pub fn open(path: &Path, len: u64) -> Result<Option<Found>, Unusable> {
        let file = match open_part(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_no_file(&error) => {
                return Err(Unusable::Useless("the journal of the partial file is not a regular file of this user"));
            }
            Err(error) => return Err(Unusable::Unreadable(error)),
        };
        let stat = file.stat().map_err(Unusable::Unreadable)?;
        if !(stat.is_file && stat.links == 1 && is_ours(stat.owner, path)) {
            return Err(Unusable::Useless("the journal of the partial file is not a regular file of this user"));
        }
        // Its run was ended before it had anything to say.
        if stat.len == 0 {
            return Ok(None);
        }
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for index in 0..2 {
            entries.extend(read_slot(&file, index).map_err(Unusable::Unreadable)?.map(|entry| (index, entry)));
        }
        let Some(last) = entries.iter().max_by_key(|(_, entry)| entry.sequence) else {
            return Err(Unusable::Useless("the journal of the partial file is damaged"));
        };
        let synced = entries.iter().filter(|(_, entry)| entry.is_synced);
        if synced.clone().next().is_some() {
            // Whoever wrote it may have been ended before it was on the disk. Where that cannot be helped, only a power
            // cut could tell.
            let _ = file.sync_data();
        }
        let synced = synced.max_by_key(|(_, entry)| entry.sequence).map(|(index, entry)| Synced {
            index: *index,
            offset: entry.offset,
            checkpoint: entry.checkpoint.clone(),
        });
        let boot = boot_id();
        let counts = |entry: &&Entry| entry.is_synced || (!boot.is_empty() && entry.boot == boot);
        // All speak of the same bytes: a transfer from the beginning has a journal of its own. A slot that took its
        // time for a sync may be the later one and know less; one that says more than there is was not written with it.
        let counting: Vec<&Entry> = entries.iter().map(|(_, entry)| entry).filter(counts).collect();
        // Where none of them is right, the best one still says of what the part is.
        let best = |entry: &&&Entry| (entry.offset <= len, entry.offset, entry.sequence);
        let Some(entry) = counting.iter().max_by_key(best).map(|entry| (*entry).clone()) else {
            return Err(Unusable::Useless("the partial file was not synced before this machine went down"));
        };
        let (sequence, recorded) = (last.1.sequence, entry.offset);
        let slots = Slots { sequence, synced, last: last.0, recorded, written: Some(clock::now()) };
        Ok(Some(Found { file, slots, entry }))
    }

    /// From where on the part is written again: an earlier run may have tried to sync that in vain, and been ended before
    /// it could say so.
    pub fn rewritten_from(&self) -> u64 {
        match &self.slots.synced {
            Some(synced) => synced.offset.min(self.entry.offset),
            // Where nothing was synced in so many bytes, nobody tried (--no-sync).
            None if self.entry.offset > SYNCED_BY => self.entry.offset,
            None => 0,
        }
    }

    /// The furthest checkpoint from which `algorithm` can continue, and behind which all is read again that is written
    /// again.
    pub fn checkpoint(&self, algorithm: Algorithm) -> Option<Checkpoint> {
        let limit = self.rewritten_from();
        let synced = self.slots.synced.as_ref().and_then(|synced| synced.checkpoint.as_ref());
        let usable = |checkpoint: &&Checkpoint| {
            checkpoint.end() <= limit && checkpoint.hasher(algorithm, self.entry.about.size).is_some()
        };
        let candidates = [synced, self.entry.checkpoint.as_ref()].into_iter().flatten().filter(usable);
        candidates.max_by_key(|checkpoint| checkpoint.end()).cloned()
    }

    /// Continues it, for the same content, maybe from another server.
    pub fn resume(self, path: &Path, about: About) -> Journal {
        Journal { file: self.file, path: path.to_path_buf(), about, boot: boot_id(), slots: Mutex::new(self.slots) }
    }
}

/// Reads a slot; `None` if it is none.
fn read_slot(file: &File, index: usize) -> io::Result<Option<Entry>> {
    let mut slot = vec![0; SLOT_LEN];
    let mut len = 0;
    while let Some(room) = slot.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read_at(room, position(index) + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(slot.get(..len).and_then(Entry::decode))
}

fn position(index: usize) -> u64 {
    (index * SLOT_LEN) as u64
}

/// Removes whatever lies there, and says whether something did. Under the lock of the part, so that it is nobody else's.
pub fn remove(path: &Path) -> io::Result<bool> {
    match disk::remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Journal {
    /// Begins a new one in place of whatever lies there.
    pub fn create(path: &Path, about: About) -> io::Result<Journal> {
        remove(path)?;
        let file = open_part(path, true)?;
        // Where that cannot be done, a disk that is full may leave no room for the slots.
        let _ = file.reserve(position(2));
        let slots = Slots { sequence: 0, synced: None, last: 1, recorded: 0, written: None };
        Ok(Journal { file, path: path.to_path_buf(), about, boot: boot_id(), slots: Mutex::new(slots) })
    }

    /// Removes it, unless another has taken its name: the lock on the part ends where the part becomes the target.
    pub fn remove_own(&self) {
        if lies_at(&self.file, &self.path).unwrap_or(false) {
            // What cannot be removed means nothing without its part, and goes with the next.
            let _ = remove(&self.path);
        }
    }

    /// Of what the part is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// How far the part is good, as a later run finds it.
    pub fn recorded(&self) -> u64 {
        self.lock().recorded
    }

    /// Says how far the part is good, if that is a good deal more than before or some time has passed, and nothing has to be
    /// waited for.
    pub fn record_now_and_then(&self, offset: u64, checkpoint: impl FnOnce() -> Option<Checkpoint>) {
        let slots = match self.slots.try_lock() {
            Ok(slots) => slots,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A slot is being synced.
            Err(TryLockError::WouldBlock) => return,
        };
        let more = offset.saturating_sub(slots.recorded);
        if more >= RECORD_EVERY || (more > 0 && slots.written.is_none_or(|written| clock::since(written) >= KEPT_AFTER))
        {
            self.write(slots, offset, checkpoint(), false);
        }
    }

    /// Says how far the part is good.
    pub fn record(&self, offset: u64, checkpoint: Option<Checkpoint>) {
        self.write(self.lock(), offset, checkpoint, false);
    }

    /// Says that all of the part is there.
    pub fn record_whole(&self) {
        let slots = self.lock();
        let checkpoint = slots.synced.as_ref().and_then(|synced| synced.checkpoint.clone());
        self.write(slots, self.about.size, checkpoint, false);
    }

    /// Says how far the part is on the disk, and waits until this is on the disk as well.
    pub fn record_synced(&self, offset: u64, checkpoint: Option<Checkpoint>) {
        self.write(self.lock(), offset, checkpoint, true);
    }

    /// Forgets what is behind the last synced slot; what that says.
    pub fn go_back(&self) -> Option<(u64, Option<Checkpoint>)> {
        let mut slots = self.lock();
        let Synced { offset, checkpoint, .. } = slots.synced.as_ref()?;
        let back = (*offset, checkpoint.clone());
        slots.recorded = back.0;
        self.write(slots, back.0, back.1.clone(), false);
        Some(back)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Whole after every statement.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a slot. One that cannot be written costs bytes that are sent again, and nothing else.
    fn write(&self, mut slots: MutexGuard<'_, Slots>, offset: u64, checkpoint: Option<Checkpoint>, is_synced: bool) {
        let index = 1 - slots.synced.as_ref().map_or(slots.last, |synced| synced.index);
        let entry = Entry {
            about: self.about.clone(),
            offset,
            checkpoint,
            sequence: slots.sequence + 1,
            is_synced,
            boot: self.boot.clone(),
        };
        if self.file.write_all_at(&entry.encode(), position(index)).is_err() {
            return;
        }
        if is_synced {
            // The first time, the names of part and journal are not on the disk either.
            let named = slots.synced.is_some() || self.sync_folder().is_ok();
            if !named || self.file.sync_data().is_err() {
                return;
            }
            slots.synced = Some(Synced { index, offset, checkpoint: entry.checkpoint });
        }
        slots.sequence = entry.sequence;
        slots.last = index;
        slots.recorded = slots.recorded.max(offset);
        slots.written = Some(clock::now());
    }

    fn sync_folder(&self) -> io::Result<bool> {
        disk::sync_folder(folder_of(&self.path))
    }
}

/// What the slots of a journal with these bytes say.
#[cfg(test)]
pub fn slots(bytes: &[u8]) -> Vec<Entry> {
    let at = |index| bytes.get(index * SLOT_LEN..).unwrap_or_default();
    [0, 1].into_iter().filter_map(|index| Entry::decode(at(index))).collect()
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
