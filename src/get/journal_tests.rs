//! Slots: what is written is read, and nothing else.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xfer-journal-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be made");
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

fn at(offset: u64) -> Resumable {
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(&offset.to_be_bytes());
    Resumable { offset, digested: Some(Digested { offset: offset / 2, hasher }) }
}

fn found(path: &Path) -> Option<Found> {
    Found::open(path, None).unwrap_or(None)
}

fn offset_found(path: &Path) -> Option<u64> {
    found(path).map(|found| found.entry.offset)
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
    for offset in [5 << 20, 10 << 20, 15 << 20] {
        journal.record_last(offset, None);
        let found = found(&path).expect("a slot");
        assert_eq!((found.entry.offset, &found.entry.about), (offset, &about()));
        assert_eq!(found.digested(Algorithm::Md5).offset, 0, "what was not synced is read again");
    }
    assert_eq!(after_a_reboot(&path), None, "nothing was synced");
}

#[test]
fn only_what_was_synced_is_not_read_again() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(&at(8 << 20));
    journal.record_last(20 << 20, None);
    let found = found(&path).expect("a slot");
    let digested = found.digested(Algorithm::Md5);
    assert_eq!((found.entry.offset, digested.offset), (20 << 20, 4 << 20));
    let expected = at(8 << 20).digested.expect("put there by at");
    assert_eq!(digested.hasher.finish(), expected.hasher.finish());
    // The digest of another algorithm begins at the beginning.
    assert_eq!(found.digested(Algorithm::Blake3).offset, 0);
}

#[test]
fn a_part_that_somebody_has_touched_is_read_again() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(&at(8 << 20));
    journal.record_last(20 << 20, Some((5, 6)));
    let open = |changed| Found::open(&path, changed).expect("readable").expect("a slot");
    let untouched = open(Some((5, 6)));
    assert_eq!((untouched.entry.offset, untouched.digested(Algorithm::Md5).offset), (20 << 20, 4 << 20));
    for touched in [Some((5, 7)), Some((6, 6)), None] {
        assert_eq!(open(touched).digested(Algorithm::Md5).offset, 0, "{touched:?}");
    }
    // A run that goes on with it and is killed does not forget it.
    open(Some((5, 7))).resume(&path, about()).record_now_and_then(30 << 20);
    let killed = open(Some((7, 0)));
    assert_eq!((killed.entry.offset, killed.digested(Algorithm::Md5).offset), (30 << 20, 0));
}

#[test]
fn after_a_kill_what_was_synced_is_not_read_again() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(&at(8 << 20));
    journal.record_last(20 << 20, Some((5, 6)));
    let untouched = Found::open(&path, Some((5, 6))).expect("readable").expect("a slot");
    untouched.resume(&path, about()).record_now_and_then(30 << 20);
    let killed = Found::open(&path, Some((7, 0))).expect("readable").expect("a slot");
    assert_eq!((killed.entry.offset, killed.digested(Algorithm::Md5).offset), (30 << 20, 4 << 20));
}

#[test]
fn a_synced_slot_outlives_those_that_are_not() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_last(4 << 20, None);
    journal.record_synced(&at(8 << 20));
    for offset in [12 << 20, 16 << 20, 20 << 20] {
        journal.record_last(offset, None);
        assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(offset), Some(8 << 20)));
    }
    // One that took its time knows less than the slot beside it.
    journal.record_synced(&at(18 << 20));
    assert_eq!(after_a_reboot(&path), Some(18 << 20));
    journal.record_last(30 << 20, None);
    assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(30 << 20), Some(18 << 20)));
    // A later run goes on in the same journal, and spares the synced slot.
    let journal = found(&path).expect("a slot").resume(&path, About { origin: "mirror:9999".to_string(), ..about() });
    for offset in [31 << 20, 32 << 20] {
        journal.record_last(offset, None);
        assert_eq!((offset_found(&path), after_a_reboot(&path)), (Some(offset), Some(18 << 20)));
    }
    assert_eq!(found(&path).expect("a slot").entry.about.origin, "mirror:9999");
}

#[test]
fn small_steps_are_not_worth_a_slot() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_now_and_then(RECORD_EVERY - 1);
    assert_eq!(offset_found(&path), None);
    journal.record_now_and_then(RECORD_EVERY);
    journal.record_now_and_then(2 * RECORD_EVERY - 1);
    assert_eq!(offset_found(&path), Some(RECORD_EVERY));
}

#[test]
fn no_flipped_bit_and_no_cut_is_believed() {
    let folder = Folder::new();
    let path = folder.journal();
    let journal = Journal::create(&path, about()).expect("a journal can be made");
    journal.record_synced(&at(5 << 20));
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
    let lies = [
        Entry { offset: entry.about.size + 1, ..entry.clone() },
        Entry { state: Some((entry.offset + 1, [0; STATE_LEN])), ..entry.clone() },
    ];
    for lie in lies {
        assert_eq!(Entry::decode(&lie.encode()), None);
    }
    // A digest that can be none costs time, and nothing else.
    let forged = Entry { state: Some((3, [0xff; STATE_LEN])), ..entry };
    fs::write(&path, forged.encode()).expect("it can be written");
    assert_eq!(found(&path).expect("a slot").digested(Algorithm::Md5).offset, 0);
}

#[test]
fn the_longest_names_fit() {
    let long = About { name: vec![b'n'; NAME_MAX], origin: "o".repeat(2 * ORIGIN_MAX), ..about() };
    let entry = Entry {
        about: long,
        offset: 1,
        state: None,
        sequence: 1,
        is_synced: false,
        closed: None,
        boot: vec![b'b'; BOOT_MAX],
    };
    let bytes = entry.encode();
    assert!(bytes.len() <= SLOT_LEN, "{} bytes", bytes.len());
    assert_eq!(Entry::decode(&bytes).expect("a slot").about.origin.len(), ORIGIN_MAX);
}

#[test]
fn what_is_no_journal_of_ours_is_none() {
    let folder = Folder::new();
    let path = folder.journal();
    Journal::create(&path, about()).expect("a journal can be made").record_last(5 << 20, None);
    let other = folder.0.join("other");
    fs::rename(&path, &other).expect("it can be renamed");
    std::os::unix::fs::symlink(&other, &path).expect("a link can be made");
    assert_eq!(offset_found(&path), None, "a symbolic link");
    fs::remove_file(&path).expect("the link can be removed");
    fs::hard_link(&other, &path).expect("a link can be made");
    assert_eq!(offset_found(&path), None, "a second name");
    // A new one takes the name, and leaves what had it alone.
    Journal::create(&path, about()).expect("a journal can be made").record_last(6 << 20, None);
    assert_eq!((offset_found(&path), offset_found(&other)), (Some(6 << 20), Some(5 << 20)));
    fs::remove_file(&path).expect("it can be removed");
    fs::create_dir(&path).expect("a folder can be made");
    assert_eq!(offset_found(&path), None, "a folder");
    assert!(Journal::create(&path, about()).is_err());
}
