//! The journal: beside a part file, a small file that says of what the part is, how far it is good, and what it hashes
//! to, so that a later run can go on with it.
//!
//! It has two slots. A slot that was synced, and before it the bytes that it speaks of, survives a power cut; it stays
//! until the next such slot is on the disk. The other slot is rewritten in between; it counts only under the same boot.
//! Only a synced slot brings a saved digest: what lies behind it is read again, since the disk may have lost it. A run
//! that ends in order says in its last slot when the part changed last: if somebody has touched it since, all of it is
//! read again.
//!
//! What is read is checked like anything from outside: a torn, stale or forged journal costs a transfer from the
//! beginning, and not a wrong file, since the digest of the whole decides in the end.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::disk::{self, File, Time};
use super::part::{folder_of, lies_at, open_part};
use super::receive::{Digested, Resumable, SYNC_EVERY};
use super::scale::scaled;
use crate::proto::digest::{Algorithm, Hasher, STATE_LEN};
use crate::proto::{NAME_MAX, VERSION_LEN, Version};

/// The beginning of a slot.
const MAGIC: &[u8; 8] = b"xferpart";

/// The form of a slot, that of the saved digest in it included.
const FORMAT: u16 = 1;

/// Bytes of a slot at most, and between the beginnings of the two.
pub const SLOT_LEN: usize = 8192;

/// Bytes of the checksum behind a slot.
const CHECKSUM_LEN: usize = 32;

/// Bytes of the server's name that are kept at most.
const ORIGIN_MAX: usize = 1024;

/// Bytes of a boot id at most; Linux has 36.
const BOOT_MAX: usize = 64;

/// Bytes of progress between two slots that are not synced: what a kill may lose, beside what is on its way.
const RECORD_EVERY: u64 = scaled(1 << 20);

/// Bytes after which a part that is synced at all has something in it that is, also on a slow disk.
const SYNCED_BY: u64 = 4 * SYNC_EVERY;

/// The name behind a part file's name.
pub const SUFFIX: &str = ".state";

/// Of what a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name as the server was asked for it.
    pub name: Vec<u8>,
    /// The server, as it was named.
    pub origin: String,
    /// Bytes in the whole file.
    pub size: u64,
    /// Which content of it.
    pub version: Version,
    /// How it is digested.
    pub algorithm: Algorithm,
}

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of what the part is.
    pub about: About,
    /// Bytes of the part that are good; at most the size.
    pub offset: u64,
    /// So many bytes have this digest so far; at most `offset`.
    pub state: Option<(u64, [u8; STATE_LEN])>,
    /// Later slots have higher numbers.
    pub sequence: u64,
    /// Whether it was waited for until it was on the disk.
    pub is_synced: bool,
    /// When the part changed last, if the run ended in order.
    pub closed: Option<Time>,
    /// The boot of the machine that it was written under.
    pub boot: Vec<u8>,
}

impl Entry {
    /// Writes a slot.
    pub fn encode(&self) -> Vec<u8> {
        let (hashed, state) = self.state.unwrap_or((0, [0; STATE_LEN]));
        let flags =
            u8::from(self.is_synced) | u8::from(self.state.is_some()) << 1 | u8::from(self.closed.is_some()) << 2;
        let (seconds, nanos) = self.closed.unwrap_or_default();
        let mut out = Vec::with_capacity(SLOT_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&[self.about.algorithm.number(), flags]);
        for number in [self.sequence, self.about.size, self.offset, hashed] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&nanos.to_be_bytes());
        out.extend_from_slice(&self.about.version.0);
        out.extend_from_slice(&state);
        let texts =
            [(&self.boot[..], BOOT_MAX), (&self.about.name[..], NAME_MAX), (self.about.origin.as_bytes(), ORIGIN_MAX)];
        for (text, max) in texts {
            let text = text.get(..max).unwrap_or(text);
            // Each limit is below 2^16.
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(text);
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// Reads a slot; `None` if it is none that we have written, or was not written to its end.
    pub fn decode(slot: &[u8]) -> Option<Entry> {
        let mut rest = slot;
        if take::<8>(&mut rest)? != *MAGIC || u16::from_be_bytes(take(&mut rest)?) != FORMAT {
            return None;
        }
        let [algorithm, flags] = take(&mut rest)?;
        let algorithm = Algorithm::from_number(algorithm)?;
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (sequence, size, offset, hashed) = (number()?, number()?, number()?, number()?);
        let (seconds, nanos) = (number()?.cast_signed(), number()?.cast_signed());
        let version = Version(take::<VERSION_LEN>(&mut rest)?);
        let state = take::<STATE_LEN>(&mut rest)?;
        let mut text = || {
            let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
            let (text, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(text.to_vec())
        };
        let (boot, name, origin) = (text()?, text()?, String::from_utf8(text()?).ok()?);
        let used = slot.len() - rest.len();
        if take::<CHECKSUM_LEN>(&mut rest)? != *blake3::hash(slot.get(..used)?).as_bytes() {
            return None;
        }
        if offset > size || hashed > offset {
            return None;
        }
        let state = (flags & 2 != 0).then_some((hashed, state));
        let closed = (flags & 4 != 0).then_some((seconds, nanos));
        let about = About { name, origin, size, version, algorithm };
        let entry = Entry { about, offset, state, sequence, is_synced: flags & 1 != 0, closed, boot };
        // A flag that we do not know, or a text longer than ours, is of another version, whatever it calls itself.
        slot.starts_with(&entry.encode()).then_some(entry)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*field)
}

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

/// What kind of slot is written.
enum Slot {
    /// One that the next one replaces, and that counts only if there is none.
    Passing,
    /// One that is waited for, like the bytes before it; with so many of them digested.
    Synced(Option<(u64, [u8; STATE_LEN])>),
    /// The last one of a run.
    Last(Option<Time>),
}

struct Slots {
    /// The number of the last slot written.
    sequence: u64,
    /// The slot (0 or 1) that is on the disk for good, if one is.
    synced: Option<usize>,
    /// Which slot was written last.
    last: usize,
    /// How far the last slot says that the part is good.
    recorded: u64,
}

/// What lies in a journal of an earlier run.
pub struct Found {
    file: File,
    slots: Slots,
    /// What counts of it.
    pub entry: Entry,
    /// What is on the disk for good.
    durable: Option<Entry>,
    /// Whether somebody has changed the part since the last run ended in order.
    is_touched: bool,
}

impl Found {
    /// Looks for the journal of a part; `None` if there is none, and why it means nothing if it does not.
    ///
    /// `changed` is when the part changed last.
    pub fn open(path: &Path, changed: Option<Time>) -> Result<Option<Found>, &'static str> {
        let file = match open_part(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err("its journal cannot be opened"),
        };
        let is_ours = file
            .stat()
            .is_ok_and(|stat| stat.is_file && stat.links == 1 && stat.owner == rustix::process::geteuid().as_raw());
        if !is_ours {
            return Err("its journal is none of ours");
        }
        let entries: Vec<(usize, Entry)> = (0..2).filter_map(|index| Some((index, read_slot(&file, index)?))).collect();
        // Whoever wrote a synced slot may have been ended before it was on the disk.
        if entries.iter().any(|(_, entry)| entry.is_synced) && file.sync_data().is_err() {
            return Err("its journal cannot be synced");
        }
        let synced = entries.iter().filter(|(_, entry)| entry.is_synced).max_by_key(|(_, entry)| entry.sequence);
        let Some(last) = entries.iter().max_by_key(|(_, entry)| entry.sequence) else {
            return Err("its journal is damaged");
        };
        let boot = boot_id();
        let counts = |entry: &Entry| entry.is_synced || (!boot.is_empty() && entry.boot == boot);
        // Both speak of the same bytes: a transfer from the beginning has a journal of its own. A slot that took its
        // time for a sync may be the later one and know less.
        let counting = entries.iter().map(|(_, entry)| entry).filter(|entry| counts(entry));
        let Some(entry) = counting.max_by_key(|entry| (entry.offset, entry.sequence)).cloned() else {
            return Err("it was not on the disk yet when this machine went down");
        };
        let slots = Slots {
            sequence: last.1.sequence,
            synced: synced.map(|(index, _)| *index),
            last: last.0,
            recorded: entry.offset,
        };
        let durable = synced.map(|(_, durable)| durable.clone()).filter(|durable| durable.about == entry.about);
        let is_touched = last.1.closed.is_some() && last.1.closed != changed;
        Ok(Some(Found { file, slots, entry, durable, is_touched }))
    }

    /// What of the part an earlier run may have tried to sync in vain, and was ended before it could say so.
    pub fn unsynced(&self) -> Option<Range<u64>> {
        let synced = self.durable.as_ref().map_or(0, |durable| durable.offset);
        let unsynced = synced..self.entry.offset;
        // Where nothing was synced in so many bytes, nobody tried (--no-sync).
        let was_tried = synced > 0 || self.entry.offset <= SYNCED_BY;
        (was_tried && !unsynced.is_empty()).then_some(unsynced)
    }

    /// The digest of the part as far as it can be trusted, or of nothing yet.
    pub fn digested(&self, algorithm: Algorithm) -> Digested {
        let durable = self.durable.as_ref().filter(|durable| !self.is_touched && durable.about.algorithm == algorithm);
        let state = durable.and_then(|durable| durable.state).filter(|(offset, _)| *offset <= self.entry.offset);
        let restored = state.and_then(|(offset, state)| Some(Digested { offset, hasher: Hasher::restore(&state)? }));
        restored.unwrap_or_else(|| Digested::nothing(algorithm))
    }

    /// Goes on with it, for the same content, maybe from another server.
    pub fn resume(mut self, path: &Path, about: About) -> Journal {
        if self.is_touched {
            // The next slot takes the place of the synced one, whose digest must never be trusted again.
            self.slots.synced = None;
        }
        Journal { file: self.file, path: path.to_path_buf(), about, boot: boot_id(), slots: Mutex::new(self.slots) }
    }
}

fn read_slot(file: &File, index: usize) -> Option<Entry> {
    let mut slot = vec![0; SLOT_LEN];
    let mut len = 0;
    while let Some(room) = slot.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read_at(room, position(index) + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Entry::decode(slot.get(..len)?)
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
        let slots = Slots { sequence: 0, synced: None, last: 1, recorded: 0 };
        Ok(Journal { file, path: path.to_path_buf(), about, boot: boot_id(), slots: Mutex::new(slots) })
    }

    /// Removes it, unless another has taken its name: the lock on the part ends where the part becomes the target.
    pub fn remove_own(&self) {
        if lies_at(&self.file, &self.path) {
            // What cannot be removed means nothing without its part, and goes with the next.
            let _ = remove(&self.path);
        }
    }

    /// Says how far the part is good, if that is a good deal more than before, and nothing has to be waited for.
    pub fn record_now_and_then(&self, offset: u64) {
        let slots = match self.slots.try_lock() {
            Ok(slots) => slots,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A slot is being synced.
            Err(TryLockError::WouldBlock) => return,
        };
        if offset >= slots.recorded.saturating_add(RECORD_EVERY) {
            self.write(slots, offset, Slot::Passing);
        }
    }

    /// Says in the end how far the part is good, and when it changed last.
    pub fn record_last(&self, offset: u64, changed: Option<Time>) {
        self.write(self.lock(), offset, Slot::Last(changed));
    }

    /// Says how far the part is on the disk, and waits until this is on the disk as well.
    pub fn record_synced(&self, resumable: &Resumable) {
        let digested = resumable.digested.as_ref();
        let state = digested.and_then(|digested| Some((digested.offset, digested.hasher.save()?)));
        self.write(self.lock(), resumable.offset, Slot::Synced(state));
    }

    /// Says how far the part is good, after a slot that took its time and has taken the place of one that knew more.
    pub fn record_passing(&self, offset: u64) {
        self.write(self.lock(), offset, Slot::Passing);
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Whole after every statement.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a slot. One that cannot be written costs bytes that are sent again, and nothing else.
    fn write(&self, mut slots: MutexGuard<'_, Slots>, offset: u64, kind: Slot) {
        let index = 1 - slots.synced.unwrap_or(slots.last);
        let (is_synced, state, closed) = match kind {
            Slot::Passing => (false, None, None),
            Slot::Synced(state) => (true, state, None),
            Slot::Last(changed) => (false, None, changed),
        };
        let entry = Entry {
            about: self.about.clone(),
            offset,
            state,
            sequence: slots.sequence + 1,
            is_synced,
            closed,
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
            slots.synced = Some(index);
        }
        slots.sequence = entry.sequence;
        slots.last = index;
        slots.recorded = slots.recorded.max(entry.offset);
    }

    fn sync_folder(&self) -> io::Result<()> {
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
