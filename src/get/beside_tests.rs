//! What stays beside a target, state by state.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Output;
use super::super::receive::Stopped;
use super::super::saved::Saved;
use super::super::slot::{About, PIECE};
use super::super::target::Target;
use super::*;
use crate::proto::digest::{Algorithm, Hasher};
use crate::proto::tree::Tree;
use crate::proto::{Mtime, Version};

const MIB: u64 = 1 << 20;

/// Bytes of a file, and where it is interrupted.
const SIZE: u64 = 8192;
const HALF: u64 = SIZE / 2;

const PART: &str = ".a.xfer-part";
const JOURNAL: &str = ".a.xfer-part.state";

/// A folder, and what a step of a transfer needs.
struct Bench {
    folder: PathBuf,
    waits: Waits,
    worker: Worker,
}

impl Bench {
    fn new() -> Bench {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("xfer-beside-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary directory can be made");
        let waits = Waits::for_test();
        let worker = Worker::start("test", waits.waker()).expect("a thread can be started");
        Bench { folder, waits, worker }
    }

    fn target(&self) -> PathBuf {
        self.folder.join("a")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).expect("the directory is there");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).expect("a name in UTF-8")).collect();
        names.sort();
        names
    }

    fn begin(&mut self, beside: &mut Beside, offer: &Offer) -> Begun {
        let begun = beside.begin(&self.target(), offer, &self.worker, &mut self.waits);
        begun.unwrap_or_else(|stop| panic!("{stop:?}"))
    }

    /// A part of which half has come in this run, and what is known of it.
    fn ours(&mut self, offer: &Offer, kept: Kept) -> Beside {
        let mut beside = Beside::Unseen;
        let begun = self.begin(&mut beside, offer);
        begun.file.write_all_at(b"come", HALF - 4).expect("the part can be written");
        if let Some(journal) = begun.journal {
            journal.record(HALF, None);
        }
        beside.keep(kept);
        beside
    }

    /// What a run that was ended at half has left, found again.
    fn earlier(&mut self) -> Beside {
        drop(self.ours(&offer(SIZE, 0), Kept::Unknown));
        self.find()
    }

    fn find(&self) -> Beside {
        let mut beside = Beside::Unseen;
        beside.find(&self.target(), b"dir/a").unwrap_or_else(|stop| panic!("{stop:?}"));
        beside
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn offer(size: u64, offset: u64) -> Offer {
    let about = About {
        name: b"dir/a".to_vec(),
        origin: "server:9999".to_string(),
        size,
        version: Version([7; 16]),
        algorithm: Algorithm::Md5,
    };
    // Nobody may write to it.
    let attributes = Attributes { mtime: Mtime { seconds: 1_700_000_000, nanos: 0 }, mode: 0o444 };
    Offer { about, offset, attributes: Some(attributes) }
}

/// What has no journal.
fn of_version_1() -> Offer {
    Offer { attributes: None, ..offer(SIZE, 0) }
}

fn resumable(offset: u64) -> Resumable {
    let digested = Digested { offset, ..Digested::nothing(Algorithm::Md5) };
    Resumable { offset, digested, checkpoint: None, check: PrefixCheck::None }
}

fn good() -> Kept {
    let resume = Resume { version: Version([7; 16]), size: SIZE, offset: HALF };
    Kept::Good(resume, Box::new(Restart::behind(resumable(HALF))))
}

/// The digests of the first piece of a part.
fn checkpoint() -> Checkpoint {
    let mut tree = Tree::new(PIECE);
    tree.update(&vec![0; PIECE as usize]);
    Checkpoint { prefix: tree.prefix().expect("a whole piece"), md5: Hasher::new(Algorithm::Md5).save() }
}

/// What is told of what is left: how much, as far as that is known.
fn told(left: Option<Left>) -> Option<Option<(u64, u64)>> {
    left.map(|left| {
        assert!(left.path.ends_with(PART), "{left:?}", left = left.path);
        left.progress
    })
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|there| there.ino())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

#[test]
fn of_what_nobody_looked_at_nothing_goes() {
    let mut bench = Bench::new();
    assert_eq!(told(Beside::Unseen.abandon()), None);
    drop(bench.ours(&offer(SIZE, 0), Kept::Unknown));
    assert_eq!(told(Beside::Unseen.abandon()), None);
    assert_eq!(bench.names(), [PART, JOURNAL]);
}

#[test]
fn of_an_earlier_run_nothing_goes() {
    let mut bench = Bench::new();
    let mut beside = bench.earlier();
    assert_eq!(beside.resume().map(|resume| resume.offset), Some(HALF));
    assert_eq!(told(beside.abandon()), Some(Some((HALF, SIZE))));
    assert_eq!(bench.names(), [PART, JOURNAL]);
    // What we cannot read, a later version may.
    fs::write(bench.path(JOURNAL), b"damaged").expect("the journal can be written");
    let mut beside = bench.find();
    assert!(matches!(beside, Beside::Earlier { found: None, .. }));
    assert_eq!(told(beside.abandon()), None);
    assert_eq!(bench.names(), [PART, JOURNAL]);
    assert_eq!(fs::metadata(bench.path(PART)).expect("the part").len(), HALF);
}

/// Only what a journal speaks of can be gone on with in a later run.
#[test]
fn of_ours_what_is_of_use_stays() {
    let kept: [fn() -> Kept; 3] = [good, || Kept::Unknown, || Kept::Worthless];
    let with_journal = [Some(Some((HALF, SIZE))), Some(None), None];
    for (kept, with_journal) in kept.into_iter().zip(with_journal) {
        for (offer, expected) in [(offer(SIZE, 0), with_journal), (of_version_1(), None)] {
            let mut bench = Bench::new();
            let mut beside = bench.ours(&offer, kept());
            let left = beside.abandon();
            let names: &[&str] = if left.is_some() { &[PART, JOURNAL] } else { &[] };
            assert_eq!(bench.names(), names, "{offer:?}, {expected:?}");
            assert_eq!(told(left), expected, "{offer:?}");
            assert!(matches!(beside, Beside::Unseen));
            // The lock is gone with it.
            let mut again = Beside::Unseen;
            bench.begin(&mut again, &offer);
        }
    }
}

/// What came is there, though the disk has not said so in time.
#[test]
fn an_attempt_that_ends_unknown_or_in_doubt() {
    let cases: [(Stopped, &[&str]); 5] = [
        (Stopped::Good(Box::new(resumable(HALF))), &[PART, JOURNAL]),
        (Stopped::Good(Box::new(resumable(0))), &[]),
        (Stopped::Unknown, &[PART, JOURNAL]),
        // Nothing was synced.
        (Stopped::InDoubt(PrefixCheck::None), &[]),
        (Stopped::Useless, &[]),
    ];
    for (stopped, names) in cases {
        let mut bench = Bench::new();
        let output = Output::Path(bench.target());
        let mut target = Target::new(&output, b"dir/a", &bench.worker, &mut bench.waits).expect("a target");
        let Ok(begun) = target.begin(&offer(SIZE, 0), &bench.worker, &mut bench.waits) else { panic!("a part") };
        begun.journal.expect("a journal").record(HALF, None);
        target.keep(&offer(SIZE, 0), stopped);
        assert_eq!(target.abandon().is_some(), !names.is_empty());
        assert_eq!(bench.names(), names);
    }
}

#[test]
fn a_clean_target_has_nothing_beside_it() {
    let mut bench = Bench::new();
    let mut beside = bench.earlier();
    beside.clean(&bench.target());
    assert_eq!(bench.names(), [""; 0], "seen");
    drop(bench.ours(&offer(SIZE, 0), Kept::Unknown));
    Beside::Unseen.clean(&bench.target());
    assert_eq!(bench.names(), [""; 0], "not seen");
    fs::write(bench.path(JOURNAL), b"an orphan").expect("it can be written");
    Beside::Unseen.clean(&bench.target());
    assert_eq!(bench.names(), [""; 0], "a journal alone");
    let other = bench.ours(&offer(SIZE, 0), Kept::Unknown);
    Beside::Unseen.clean(&bench.target());
    assert_eq!(bench.names(), [PART, JOURNAL], "of another client");
    drop(other);
}

#[test]
fn an_offer_of_the_rest_goes_on() {
    let mut bench = Bench::new();
    let mut beside = bench.earlier();
    let (part, journal) = (inode(&bench.path(PART)), inode(&bench.path(JOURNAL)));
    beside.part().expect("the part").file().set_len(HALF + MIB).expect("it can be longer");
    let begun = bench.begin(&mut beside, &offer(SIZE, HALF));
    assert_eq!((begun.start.offset, begun.journal.is_some()), (HALF, true));
    assert_eq!(begun.start.digested.offset, 0, "all of it is read again");
    assert_eq!((inode(&bench.path(PART)), inode(&bench.path(JOURNAL))), (part, journal));
    assert_eq!(begun.file.stat().expect("the part").len, HALF, "nothing behind what is good");
    assert_eq!(told(beside.abandon()), Some(None), "and more may have come");
    // The lock goes with the last handle.
    drop(begun);
    assert_eq!(told(bench.find().abandon()), Some(Some((HALF, SIZE))));
}

/// Nothing of the old file may stay, and no journal may speak of it.
#[test]
fn an_offer_of_another_offset_starts_clean() {
    for (offer, has_journal) in [(offer(SIZE, 0), true), (of_version_1(), false)] {
        let states: [fn(&mut Bench) -> Beside; 3] = [
            Bench::earlier,
            |bench| bench.ours(&super::tests::offer(SIZE, 0), good()),
            |bench| {
                drop(bench.ours(&super::tests::offer(SIZE, 0), Kept::Unknown));
                fs::remove_file(bench.path(PART)).expect("the part can be removed");
                Beside::Unseen
            },
        ];
        for state in states {
            let mut bench = Bench::new();
            let mut beside = state(&mut bench);
            // Its number would be given again, once it is gone.
            let old = fs::File::open(bench.path(JOURNAL)).expect("the old journal");
            let begun = bench.begin(&mut beside, &offer);
            assert_eq!((begun.start.offset, begun.file.stat().expect("the part").len), (0, 0));
            assert_eq!(begun.journal.is_some(), has_journal);
            assert_eq!(old.metadata().expect("open").nlink(), 0, "the old journal is gone");
            let names: &[&str] = if has_journal { &[PART, JOURNAL] } else { &[PART] };
            assert_eq!(bench.names(), names);
            assert!(beside.resume().is_none());
        }
    }
}

/// A whole file whose name cannot be had: it stays where it can be resumed, and can still be opened.
#[test]
fn a_name_that_cannot_be_had() {
    for (offer, names) in [(offer(SIZE, 0), &[PART, JOURNAL, "a"][..]), (of_version_1(), &["a"])] {
        let has_journal = offer.attributes.is_some();
        let mut bench = Bench::new();
        let mut beside = bench.ours(&offer, Kept::Unknown);
        fs::create_dir(bench.target()).expect("a directory can be made");
        let job = beside.commit(offer.attributes, None, true).expect("a part of ours");
        let message = job().expect_err("a directory is in the way");
        assert!(message.contains("it is a directory"), "{message}");
        assert_eq!(message.contains("kept the complete file in"), has_journal, "{message}");
        assert_eq!(message.contains(PART), has_journal, "{message}");
        assert_eq!(message.contains("the 4.0 KiB received were not kept"), !has_journal, "{message}");
        assert_eq!(bench.names(), names);
        if has_journal {
            assert_eq!(mode(&bench.path(PART)) & 0o600, 0o600, "ours to open");
            fs::remove_dir(bench.target()).expect("it can be removed");
            assert_eq!(told(bench.find().abandon()), Some(Some((HALF, SIZE))));
        }
        drop(beside);
    }
}

#[test]
fn a_name_that_can_be_had() {
    for offer in [offer(SIZE, 0), of_version_1()] {
        let mut bench = Bench::new();
        let mut beside = bench.ours(&offer, Kept::Unknown);
        let attributes = super::tests::offer(SIZE, 0).attributes;
        let job = beside.commit(attributes, None, true).expect("a part of ours");
        assert_eq!(job(), Ok(Saved::New));
        assert_eq!(bench.names(), ["a"]);
        assert_eq!(mode(&bench.target()), 0o444);
        assert!(beside.commit(None, None, true).is_none(), "once");
    }
}

/// What somebody else has put in the part's place, with a journal of its own, is none of ours to rename or to remove.
#[test]
fn a_part_that_somebody_has_replaced() {
    for offer in [offer(SIZE, 0), of_version_1()] {
        let mut bench = Bench::new();
        let mut beside = bench.ours(&offer, Kept::Worthless);
        for name in [PART, JOURNAL] {
            let _ = fs::remove_file(bench.path(name));
            fs::write(bench.path(name), name).expect("it can be written");
        }
        let job = beside.commit(offer.attributes, None, true).expect("a part of ours");
        let message = job().expect_err("it is not ours");
        assert!(message.contains("another program has replaced") && !message.contains("kept"), "{message}");
        assert_eq!(bench.names(), [PART, JOURNAL]);
        // Nor when it is given up, in any other way.
        for name in [PART, JOURNAL] {
            fs::remove_file(bench.path(name)).expect("it can be removed");
        }
        let mut beside = bench.ours(&offer, Kept::Worthless);
        for name in [PART, JOURNAL] {
            let _ = fs::remove_file(bench.path(name));
            fs::write(bench.path(name), name).expect("it can be written");
        }
        beside.abandon();
        assert_eq!(bench.names(), [PART, JOURNAL]);
    }
}

/// A run that was ended between the renaming and the removal of the journal leaves it alone; a small file, which has none,
/// takes it away as well.
#[test]
fn a_journal_without_a_part_goes() {
    let mut bench = Bench::new();
    let mut beside = bench.earlier();
    assert!(beside.abandon().is_some());
    fs::rename(bench.path(PART), bench.target()).expect("it is ours");
    assert_eq!(bench.names(), [JOURNAL, "a"]);
    let mut beside = Beside::Unseen;
    assert!(beside.begin_unnamed(&bench.target()).is_none(), "nothing would look at what lies there");
    bench.begin(&mut beside, &of_version_1());
    assert_eq!(bench.names(), [PART, "a"]);
}

/// A size whose file has a checkpoint, and behind it something that is not synced.
const TWO_PIECES: u64 = 2 * PIECE;

/// A part of ours, the first piece of which was synced.
fn with_a_synced_piece(bench: &mut Bench) -> Beside {
    let mut beside = Beside::Unseen;
    let begun = bench.begin(&mut beside, &offer(TWO_PIECES, 0));
    begun.file.write_all_at(&[0; PIECE as usize + 9], 0).expect("the part can be written");
    let journal = begun.journal.expect("a file of this size has one");
    journal.record_synced(PIECE, Some(checkpoint()));
    journal.record(PIECE + 9, Some(checkpoint()));
    beside
}

/// After a failed write or sync of what came later, what was synced stays, and is what a later run resumes behind.
#[test]
fn what_was_synced_outlives_a_failure() {
    let mut bench = Bench::new();
    let mut beside = with_a_synced_piece(&mut bench);
    beside.go_back(&offer(TWO_PIECES, 0), PrefixCheck::None);
    assert_eq!(fs::metadata(bench.path(PART)).expect("the part").len(), PIECE, "nothing that is in doubt");
    assert_eq!(told(beside.abandon()), Some(Some((PIECE, TWO_PIECES))));
    let mut found = bench.find();
    assert_eq!(found.resume().map(|resume| resume.offset), Some(PIECE));
    let begun = bench.begin(&mut found, &offer(TWO_PIECES, PIECE));
    assert_eq!((begun.start.offset, begun.start.digested.offset), (PIECE, PIECE), "nothing is read before more comes");
    assert!(matches!(begun.start.check, PrefixCheck::Due(of) if of == checkpoint()), "and it is compared meanwhile");
}

/// What is behind the checkpoint is read again, and written again.
#[test]
fn digests_continue_behind_the_checkpoint() {
    let mut bench = Bench::new();
    drop(with_a_synced_piece(&mut bench));
    let mut found = bench.find();
    let begun = bench.begin(&mut found, &offer(TWO_PIECES, PIECE + 9));
    let start = begun.start;
    assert_eq!((start.offset, start.digested.offset, start.rewritten_from), (PIECE + 9, PIECE, PIECE));
}
