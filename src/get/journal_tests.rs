//! Slots: what is written is read, and nothing else.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::slot::{BOOT_MAX, ORIGIN_MAX};
use super::*;
use crate::proto::digest::{Hasher, STATE_LEN};
use crate::proto::tree::{Prefix, SUBTREE_LEN, Tree};
use crate::proto::{NAME_MAX, SIZE_MAX, VERSION_LEN, Version};

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xfer-journal-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory can be made");
        Folder(path)
    }

    fn journal(&self) -> PathBuf {
        self.0.join(".a.xfer-part.state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn about() -> About {
    About {
        name: b"dir/\xff.bin".to_vec(),
        origin: "[::1]:9999".to_string(),
        size: 100 << 20,
        version: Version([7; VERSION_LEN]),
        algorithm: Algorithm::Md5,
    }
}

/// A checkpoint behind so many pieces of a file, with an MD5 state of its own.
fn at(pieces: u64) -> Checkpoint {
    let mut tree = Tree::new(PIECE);
    tree.update(&vec![7; (pieces * PIECE) as usize]);
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(&pieces.to_be_bytes());
    Checkpoint { prefix: tree.prefix().expect("whole pieces"), md5: hasher.save() }
}

fn found(path: &Path) -> Option<Found> {
    Found::open(path, u64::MAX).unwrap_or(None)
}

fn offset_found(path: &Path) -> Option<u64> {
    found(path).map(|found| found.entry.offset)
}

/// How far the checkpoint reaches from which this algorithm can continue.
fn covered(path: &Path, algorithm: Algorithm) -> u64 {
    found(path).expect("a slot").checkpoint(algorithm).map_or(0, |checkpoint| checkpoint.end())
}

/// The journal as another boot of the machine would find it.
fn after_a_reboot(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).expect("the journal is there");
    let mut slots: Vec<Vec<u8>> = bytes.chunks(SLOT_LEN).map(<[u8]>::to_vec).collect();
    for slot in &mut slots {
        if let Some(mut entry) = Entry::decode(slot) {
            entry.boot = b"another".to_vec();
            let encoded = entry.encode();
            slot.splice(..encoded.len(), encoded);
        }
    }
    let copy = path.with_extension("rebooted");
    fs::write(&copy, slots.concat()).expect("a copy can be written");
    offset_found(&copy)
}

#[test]
fn what_was_recorded_is_found() {
    let folder = Folder::new();
    let path = folder.journal();
    assert_eq!(offset_found(&path), None);
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    assert_eq!(offset_found(&path), None, "nothing recorded yet");
    for offset in [1000, 10_000, SYNCED_BY] {
        journal.record(offset, None);
        let found = found(&path).expect("a slot");
        assert_eq!((found.entry.offset, &found.entry.about), (offset, &about()));
        assert_eq!(found.rewritten_from(), 0, "nothing of it may be on the disk");
    }
    assert_eq!(after_a_reboot(&path), None, "nothing was synced");
    // Nobody has tried in all that (--no-sync).
    journal.record(SYNCED_BY + 1, Some(at(3)));
    assert_eq!(found(&path).expect("a slot").rewritten_from(), SYNCED_BY + 1);
    assert_eq!(covered(&path, Algorithm::Md5), 3 * PIECE);
}

#[test]
fn digests_continue_behind_what_was_synced() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record(2 * PIECE, Some(at(1)));
    assert_eq!(covered(&path, Algorithm::Md5), 0, "all of it is written again, and read for that");
    journal.record_synced(3 * PIECE, Some(at(3)));
    journal.record(5 * PIECE + 7, Some(at(5)));
    let found = found(&path).expect("a slot");
    assert_eq!((found.entry.offset, found.rewritten_from()), (5 * PIECE + 7, 3 * PIECE));
    assert_eq!(found.checkpoint(Algorithm::Md5), Some(at(3)));
    assert_eq!(found.checkpoint(Algorithm::Blake3), Some(at(3)));
    // What only BLAKE3 has brought has no state of MD5.
    journal.record_synced(6 * PIECE, Some(Checkpoint { md5: None, ..at(6) }));
    assert_eq!((covered(&path, Algorithm::Md5), covered(&path, Algorithm::Blake3)), (0, 6 * PIECE));
}

/// A part may have been cut, or its last bytes lost: what the other slot says is still there.
#[test]
fn a_part_that_is_shorter_than_the_last_slot_says() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(2 * PIECE, Some(at(2)));
    journal.record(3 * PIECE, Some(at(2)));
    let open = |len| Found::open(&path, len).ok().flatten().map(|found| found.entry.offset);
    assert_eq!(open(3 * PIECE), Some(3 * PIECE));
    assert_eq!(open(3 * PIECE - 1), Some(2 * PIECE));
    assert_eq!(open(2 * PIECE - 1), Some(3 * PIECE), "more than there is");
}

#[test]
fn after_a_failure_what_was_synced_is_gone_back_to() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record(PIECE, None);
    assert_eq!(journal.go_back(), None, "nothing was synced");
    journal.record_synced(2 * PIECE, Some(at(2)));
    journal.record(3 * PIECE, Some(at(2)));
    assert_eq!(journal.go_back(), Some((2 * PIECE, Some(at(2)))));
    assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(2 * PIECE), Some(2 * PIECE)));
    // And from there on it goes as ever.
    journal.record_now_and_then(2 * PIECE + RECORD_EVERY, || None);
    assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(2 * PIECE + RECORD_EVERY), Some(2 * PIECE)));
}

#[test]
fn a_synced_slot_outlives_those_that_are_not() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record(PIECE, None);
    journal.record_synced(2 * PIECE, Some(at(2)));
    for offset in [3 * PIECE, 4 * PIECE, 5 * PIECE] {
        journal.record(offset, None);
        assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(offset), Some(2 * PIECE)));
    }
    // One that took its time knows less than the slot beside it.
    journal.record_synced(4 * PIECE, Some(at(4)));
    assert_eq!(after_a_reboot(&path), Some(4 * PIECE));
    journal.record(6 * PIECE, None);
    assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(6 * PIECE), Some(4 * PIECE)));
    // A later run continues in the same journal, and spares the synced slot, whichever server it asks.
    let journal = found(&path).expect("a slot").resume(&path, About { origin: "mirror:9999".to_string(), ..about() });
    for offset in [7 * PIECE, 8 * PIECE] {
        journal.record(offset, None);
        assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(offset), Some(4 * PIECE)));
        assert_eq!(covered(&path, Algorithm::Md5), 4 * PIECE);
    }
    assert_eq!(found(&path).expect("a slot").entry.about.origin, "mirror:9999");
}

/// The journal of version 0.2.0, as its tests have it: what it says of the part counts, and its MD5 state does not.
#[test]
fn a_slot_of_the_format_before() {
    let folder = Folder::new();
    let path = folder.journal();
    let old = include_bytes!("../../tests/fuzz/corpus/journal/format-1");
    fs::write(&path, old).expect("the journal can be written");
    let found = found(&path).expect("a slot");
    assert_eq!(found.entry.about.name, b"dir/\xff.bin");
    assert_eq!((found.entry.offset, found.entry.is_synced, found.rewritten_from()), (1 << 20, true, 1 << 20));
    assert_eq!(found.entry.checkpoint, None);
    // The two slots of a file may differ in format.
    let about = found.entry.about.clone();
    let journal = found.resume(&path, about);
    journal.record((1 << 20) + 1, None);
    assert_eq!(fs::read(&path).expect("the journal")[..old.len()], old[..], "the synced slot is spared");
    assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some((1 << 20) + 1), Some(1 << 20)));
}

#[test]
fn small_steps_are_not_worth_a_slot() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_now_and_then(0, || None);
    assert_eq!(offset_found(&path), None);
    // The first one is: nothing has been said yet.
    journal.record_now_and_then(1, || None);
    journal.record_now_and_then(RECORD_EVERY, || None);
    assert_eq!(offset_found(&path), Some(1));
    journal.record_now_and_then(RECORD_EVERY + 1, || None);
    journal.record_now_and_then(2 * RECORD_EVERY, || None);
    assert_eq!(offset_found(&path), Some(RECORD_EVERY + 1));
}

#[test]
fn no_flipped_bit_and_no_cut_is_believed() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(5 * PIECE, Some(at(5)));
    let good = fs::read(&path).expect("the journal is there");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Entry::decode(&bytes), None, "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(Entry::decode(&good[..len]), None, "{len} bytes");
    }
    // With a checksum that is right, and numbers that cannot be.
    let entry = Entry::decode(&good).expect("good");
    let checkpoint = |prefix, md5| Some(Checkpoint { prefix, md5 });
    let prefix = at(5).prefix;
    let lies = [
        Entry { offset: entry.about.size + 1, ..entry.clone() },
        Entry { offset: 5 * PIECE - 1, ..entry.clone() },
        Entry { checkpoint: checkpoint(Prefix { len: 4 * PIECE, ..prefix.clone() }, None), ..entry.clone() },
        Entry { checkpoint: checkpoint(Prefix { len: 5 * PIECE - 1, ..prefix.clone() }, None), ..entry.clone() },
        Entry { checkpoint: checkpoint(Prefix { len: 0, ..prefix }, at(5).md5), ..entry.clone() },
        // Nothing is left to be resumed.
        Entry { about: About { size: 5 * PIECE, ..about() }, ..entry.clone() },
    ];
    for lie in lies {
        assert_eq!(Entry::decode(&lie.encode()), None, "{lie:?}");
    }
    // An MD5 state that can be none costs time, and nothing else.
    let forged = Entry { checkpoint: Some(Checkpoint { md5: Some([0xff; STATE_LEN]), ..at(5) }), ..entry };
    fs::write(&path, forged.encode()).expect("it can be written");
    assert_eq!(covered(&path, Algorithm::Md5), 0);
}

#[test]
fn the_longest_names_fit() {
    let long = About { name: vec![b'n'; NAME_MAX], origin: "o".repeat(2 * ORIGIN_MAX), size: SIZE_MAX, ..about() };
    // As many subtrees as a size can ask for: each piece of the largest one but the last.
    let len = long.size / PIECE * PIECE;
    let prefix = Prefix { len, subtrees: vec![[9; SUBTREE_LEN]; (len / PIECE).count_ones() as usize] };
    let checkpoint = Some(Checkpoint { prefix, md5: at(1).md5 });
    let boot = vec![b'b'; BOOT_MAX];
    let entry = Entry { about: long, offset: len, checkpoint, sequence: 1, is_synced: false, boot };
    let bytes = entry.encode();
    assert!(bytes.len() <= SLOT_LEN, "{} bytes", bytes.len());
    assert_eq!(Entry::decode(&bytes).expect("a slot").about.origin.len(), ORIGIN_MAX);
}

#[test]
fn what_is_no_journal_of_ours_is_none() {
    let folder = Folder::new();
    let path = folder.journal();
    Journal::create(&path, about()).expect("a journal can be made").record(5 << 20, None);
    let other = folder.0.join("other");
    fs::rename(&path, &other).expect("it can be renamed");
    std::os::unix::fs::symlink(&other, &path).expect("a link can be made");
    assert_eq!(offset_found(&path), None, "a symbolic link");
    fs::remove_file(&path).expect("the link can be removed");
    fs::hard_link(&other, &path).expect("a link can be made");
    assert_eq!(offset_found(&path), None, "a second name");
    // A new one takes the name, and leaves what had it alone.
    Journal::create(&path, about()).expect("a journal can be made").record(6 << 20, None);
    assert_eq!((offset_found(&path), offset_found(&other)), (Some(6 << 20), Some(5 << 20)));
    fs::remove_file(&path).expect("it can be removed");
    fs::create_dir(&path).expect("a directory can be made");
    assert_eq!(offset_found(&path), None, "a directory");
    assert!(Journal::create(&path, about()).is_err());
}
