//! What a power cut may leave of a folder: of all that was done, what was synced, and any part of the rest.
//!
//! The model is that of the manual pages (fsync(2)), and not of one file system: bytes that were not synced may be there,
//! missing, or there in some blocks; so may lengths, apart from the bytes; names in a folder that was not synced may be
//! the old ones or the new ones, each for itself, and before the bytes behind them.

use std::collections::BTreeMap;

use super::harness::content::Random;
use super::recording::{Change, Inode, Step, What};

/// Bytes that the disk writes at once: small writes may be torn at sectors.
const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// Which of the legal states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing but what was synced.
    Synced,
    /// All that was done.
    All,
    /// All names, and only synced bytes.
    Names,
    /// All names and lengths, and zeros in the place of bytes that were not synced.
    NamesAndLengths,
    /// All bytes, and only synced names.
    Bytes,
    /// Chance decides about each.
    Random(u64),
}

pub const EXTREMES: [Choice; 5] = [Choice::Synced, Choice::All, Choice::Names, Choice::NamesAndLengths, Choice::Bytes];

/// What became of a change that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Gone,
    There,
    /// Of a write, only the length.
    Length,
    /// Of a write, some blocks, from this seed.
    Torn(u64),
}

/// A cut at one point, and what came of each change that had begun.
pub type Fates = Vec<(usize, Fate)>;

/// What becomes of each change if the power is cut once the event `cut` has happened.
pub fn fates(steps: &[Step], cut: usize, choice: Choice) -> Fates {
    let mut random = Random::new(if let Choice::Random(seed) = choice { seed } else { 0 });
    let begun = steps.iter().enumerate().filter(|(_, step)| step.began <= cut);
    begun
        .filter_map(|(index, step)| {
            let What::Change(change) = &step.what else { return None };
            let fate =
                if is_synced(steps, step, change, cut) { Fate::There } else { fate(change, choice, &mut random) };
            Some((index, fate))
        })
        .collect()
}

/// Whether a sync that had ended had begun after it.
fn is_synced(steps: &[Step], step: &Step, change: &Change, cut: usize) -> bool {
    steps.iter().any(|sync| {
        let covers = match (&sync.what, change) {
            (What::SyncFile(synced), Change::Write { inode, .. } | Change::Cut { inode, .. }) => synced == inode,
            (What::SyncFolder, Change::Name { .. } | Change::Unname { .. }) => true,
            _ => false,
        };
        covers && step.ended < sync.began && sync.ended <= cut
    })
}

fn fate(change: &Change, choice: Choice, random: &mut Random) -> Fate {
    let is_name = matches!(change, Change::Name { .. } | Change::Unname { .. });
    let when = |there| if there { Fate::There } else { Fate::Gone };
    match choice {
        Choice::Synced => Fate::Gone,
        Choice::All => Fate::There,
        Choice::Names => when(is_name),
        Choice::NamesAndLengths if is_name => Fate::There,
        Choice::NamesAndLengths => Fate::Length,
        Choice::Bytes => when(!is_name),
        Choice::Random(_) => match (random.below(4), is_name) {
            (0, _) | (1, true) => Fate::Gone,
            (1, false) => Fate::Length,
            (2, false) => Fate::Torn(random.next()),
            _ => Fate::There,
        },
    }
}

/// The folder after the cut: names and their bytes. `before` is what lay there at first, in the order of the recording.
pub fn left(steps: &[Step], fates: &Fates, before: &[(String, Vec<u8>)], body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut names: BTreeMap<String, Inode> =
        before.iter().enumerate().map(|(inode, (name, _))| (name.clone(), inode)).collect();
    let mut files: BTreeMap<Inode, Vec<u8>> =
        before.iter().enumerate().map(|(inode, (_, bytes))| (inode, bytes.clone())).collect();
    for (index, fate) in fates {
        let What::Change(change) = &steps[*index].what else { continue };
        match change {
            _ if *fate == Fate::Gone => {}
            Change::Name { name, inode, from } => {
                if let Some(from) = from.as_ref().filter(|from| names.get(*from) == Some(inode)) {
                    names.remove(from);
                }
                names.insert(name.clone(), *inode);
            }
            Change::Unname { name } => _ = names.remove(name),
            Change::Cut { inode, len } => files.entry(*inode).or_default().resize(size(*len), 0),
            Change::Write { inode, offset, len, bytes } => {
                let (start, end) = (size(*offset), size(offset + len));
                let bytes = bytes.as_deref().unwrap_or_else(|| &body[start..end]);
                write(files.entry(*inode).or_default(), start, bytes, *fate);
            }
        }
    }
    names.into_iter().map(|(name, inode)| (name, files.get(&inode).cloned().unwrap_or_default())).collect()
}

fn write(file: &mut Vec<u8>, start: usize, bytes: &[u8], fate: Fate) {
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    match fate {
        Fate::Gone | Fate::Length => {}
        Fate::There => file[start..end].copy_from_slice(bytes),
        Fate::Torn(seed) => {
            let mut random = Random::new(seed);
            let block = if bytes.len() < 16 * BLOCK { SECTOR } else { BLOCK };
            for (number, written) in bytes.chunks(block).enumerate() {
                if random.below(2) == 0 {
                    let at = start + number * block;
                    file[at..at + written.len()].copy_from_slice(written);
                }
            }
        }
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("a file of a test")
}
