//! The slots of a client's journal, as they lie on the disk; not a line of it is the code under test.

/// Bytes between the beginnings of the two slots.
pub const SLOT_LEN: usize = 8192;

const MAGIC: &[u8] = b"xferpart";

/// The only form that is known here.
const FORMAT: [u8; 2] = [0, 2];

/// Where fields lie in a slot, all of them big-endian.
const FLAGS: usize = 11;
const SEQUENCE: usize = 12;
const OFFSET: usize = 28;
/// How many subtrees follow, each of so many bytes. Behind them are three texts, each behind its length in two bytes: boot
/// id, name, origin; and behind the last the checksum.
const SUBTREES: usize = 148;
const SUBTREE_LEN: usize = 32;

/// The bit of the flags that says that the slot was synced, and before it the bytes that it speaks of.
const SYNCED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub sequence: u64,
    /// Bytes of the part that are good.
    pub offset: u64,
    pub is_synced: bool,
}

/// The whole slots of a journal.
pub fn of(journal: &[u8]) -> Vec<Slot> {
    whole(journal).map(|(start, _)| read(&journal[start..])).collect()
}

/// How far the part was synced, according to its journal.
pub fn synced(journal: &[u8]) -> Option<u64> {
    let synced = of(journal).into_iter().filter(|slot| slot.is_synced);
    synced.max_by_key(|slot| slot.sequence).map(|slot| slot.offset)
}

/// The same journal, found under another boot.
pub fn after_a_reboot(journal: &[u8]) -> Vec<u8> {
    let mut changed = journal.to_vec();
    for (start, end) in whole(journal) {
        let boot = start + texts(&changed[start..]) + 2;
        let len = usize::from(u16::from_be_bytes([changed[boot - 2], changed[boot - 1]]));
        changed[boot..boot + len].fill(b'0');
        let sum = *blake3::hash(&changed[start..end]).as_bytes();
        changed[end..end + sum.len()].copy_from_slice(&sum);
    }
    changed
}

/// Beginning and end of each slot whose checksum is right.
fn whole(journal: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    [0, SLOT_LEN].into_iter().filter_map(move |start| Some((start, end_of(journal, start)?)))
}

fn end_of(journal: &[u8], start: usize) -> Option<usize> {
    let slot = journal.get(start..)?;
    if !slot.starts_with(MAGIC) || slot.get(8..10)? != FORMAT {
        return None;
    }
    slot.get(SUBTREES)?;
    let mut end = texts(slot);
    for _ in 0..3 {
        end += 2 + usize::from(u16::from_be_bytes(*slot.get(end..)?.first_chunk()?));
    }
    (slot.get(end..end + 32)? == blake3::hash(&slot[..end]).as_bytes()).then_some(start + end)
}

/// Where the texts of a slot begin.
fn texts(slot: &[u8]) -> usize {
    SUBTREES + 1 + usize::from(slot[SUBTREES]) * SUBTREE_LEN
}

fn read(slot: &[u8]) -> Slot {
    let number = |at: usize| u64::from_be_bytes(*slot[at..].first_chunk().expect("a whole slot"));
    Slot { sequence: number(SEQUENCE), offset: number(OFFSET), is_synced: slot[FLAGS] & SYNCED != 0 }
}
