//! What the threads do with the bytes of one file: hash, write and sync them, and say in the journal how far it is good.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::block::Block;
use super::clock;
use super::disk::File;
use super::journal::Journal;
use super::reread::each_block;
use super::sink::Sink;
use super::slot::{Checkpoint, PIECE};
use super::wait::Stop;
use super::workers::Worker;
use crate::error::no_room;
use crate::proto::digest::{Algorithm, Digest, Hasher};
use crate::proto::tree::{Prefix, Tree};

/// Checkpoints in the making that are kept of each digest: hashing, writing and the last whole frame are less than a piece
/// apart, so that two of them have one in common.
const MARKS: usize = 2;

/// The first bytes of a file, as a digest has them.
#[derive(Clone, Debug)]
pub struct Digested {
    /// How many they are.
    pub offset: u64,
    /// The digest of them, to be continued.
    pub hasher: Hasher,
}

impl Digested {
    /// No byte.
    pub fn nothing(algorithm: Algorithm) -> Digested {
        Digested { offset: 0, hasher: Hasher::in_pieces(algorithm, PIECE) }
    }
}

/// What the threads know of one file.
pub struct Flow {
    pub sink: Sink,
    journal: Option<Arc<Journal>>,
    /// Of the bytes up to `hashed`.
    hasher: Mutex<Hasher>,
    hashed: AtomicU64,
    /// The BLAKE3 of what is written, where a journal needs it and `hasher` has none.
    tree: Mutex<Option<Tree>>,
    marks: Mutex<Marks>,
    /// Where the last whole frame ends that is written.
    written: AtomicU64,
    hashing_nanos: AtomicU64,
    early_syncs: Option<EarlySyncs>,
    failure: Mutex<Option<WriteFailure>>,
}

/// Syncs of what is written and hashed, while more comes in.
struct EarlySyncs {
    worker: Arc<Worker>,
    /// How far both must be for the next one.
    due_at: AtomicU64,
    /// Whether one is under way.
    is_running: AtomicBool,
}

/// What checkpoints are made of: the digests at the ends of the last few pieces.
struct Marks {
    hashed: VecDeque<Digested>,
    written: VecDeque<Prefix>,
    /// The last one made, or that of the journal.
    checkpoint: Option<Checkpoint>,
}

/// Why a file cannot be written on.
enum WriteFailure {
    /// A write or a sync failed.
    Disk(io::Error),
    /// What an earlier attempt wrote cannot be read.
    Unreadable(io::Error),
}

impl Flow {
    /// Begins behind `written` bytes, fewer of which, those of `digested`, are digested yet.
    pub fn new(
        sink: Sink,
        journal: Option<Arc<Journal>>,
        digested: Digested,
        checkpoint: Option<Checkpoint>,
        written: u64,
        syncer: Option<Arc<Worker>>,
    ) -> Flow {
        let tree = match (&journal, &digested.hasher) {
            // A checkpoint lies at the end of a piece, and not at that of the file.
            (Some(journal), Hasher::Md5(_)) if journal.about().size > PIECE => Some(match &checkpoint {
                Some(checkpoint) if digested.offset > 0 => {
                    // One that the journal has is less than the file.
                    Tree::resume(&checkpoint.prefix, PIECE, journal.about().size).unwrap_or_else(|| Tree::new(PIECE))
                }
                _ => Tree::new(PIECE),
            }),
            _ => None,
        };
        Flow {
            sink,
            journal,
            hashed: AtomicU64::new(digested.offset),
            hasher: Mutex::new(digested.hasher),
            tree: Mutex::new(tree),
            marks: Mutex::new(Marks { hashed: VecDeque::new(), written: VecDeque::new(), checkpoint }),
            written: AtomicU64::new(written),
            hashing_nanos: AtomicU64::new(0),
            early_syncs: syncer.map(|worker| EarlySyncs {
                worker,
                due_at: AtomicU64::new(next_sync(written)),
                is_running: AtomicBool::new(false),
            }),
            failure: Mutex::new(None),
        }
    }

    /// Hashes a block.
    pub fn hash(self: &Arc<Flow>, block: &Block) {
        let started = clock::now();
        self.hash_bytes(block.bytes(), block.offset());
        let nanos = u64::try_from(clock::since(started).as_nanos()).unwrap_or(u64::MAX);
        self.hashing_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.sync_if_due();
    }

    fn hash_bytes(&self, bytes: &[u8], offset: u64) {
        let mut hasher = lock(&self.hasher);
        for (piece, end) in by_pieces(bytes, offset) {
            hasher.update(piece);
            if self.is_mark(end) {
                self.with_marks(|marks| push(&mut marks.hashed, Digested { offset: end, hasher: hasher.clone() }));
            }
        }
        self.hashed.store(offset + bytes.len() as u64, Ordering::Release);
    }

    /// Writes a block.
    pub fn write(self: &Arc<Flow>, block: &Block) {
        // After a failure the rest has no place.
        if lock(&self.failure).is_some() {
            return;
        }
        if let Err(error) = self.sink.write(block.bytes(), block.offset()) {
            return self.fail(WriteFailure::Disk(error));
        }
        self.digest_written(block.bytes(), block.offset());
        if let Some(end) = block.frame_end() {
            self.written.store(end, Ordering::Release);
        }
        if let Some(journal) = &self.journal {
            let written = self.written();
            journal.record_now_and_then(written, || self.checkpoint(written));
        }
        self.sync_if_due();
    }

    fn digest_written(&self, bytes: &[u8], offset: u64) {
        let mut tree = lock(&self.tree);
        let Some(tree) = tree.as_mut() else { return };
        for (piece, end) in by_pieces(bytes, offset) {
            tree.update(piece);
            if self.is_mark(end)
                && let Some(prefix) = tree.prefix()
            {
                self.with_marks(|marks| push(&mut marks.written, prefix));
            }
        }
    }

    /// Whether a checkpoint can be here: not at the end, where nothing is left to be resumed.
    fn is_mark(&self, end: u64) -> bool {
        end.is_multiple_of(PIECE) && self.journal.as_ref().is_some_and(|journal| end < journal.about().size)
    }

    fn with_marks<T>(&self, change: impl FnOnce(&mut Marks) -> T) -> T {
        change(&mut lock(&self.marks))
    }

    /// Reads again what an earlier attempt wrote and this one has no digest of, and from `rewritten_from` on writes it
    /// again.
    ///
    /// Of a sync that failed the kernel tells once, and calls clean what is not on the disk (fsync(2)): after that, only
    /// what is written again is synced again. What is written is what was hashed: one read serves both.
    pub fn replay(&self, file: &File, range: Range<u64>, rewritten_from: u64) {
        let result = each_block(file, range, |bytes, offset| {
            self.hash_bytes(bytes, offset);
            self.digest_written(bytes, offset);
            let skip = usize::try_from(rewritten_from.saturating_sub(offset)).unwrap_or(usize::MAX);
            let again = bytes.get(skip..).unwrap_or_default();
            if !again.is_empty()
                && let Err(error) = file.write_all_at(again, offset + skip as u64)
            {
                self.fail(WriteFailure::Disk(error));
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
        if let Err(error) = result {
            // Unless it was a write: the first failure stays.
            self.fail(WriteFailure::Unreadable(error));
        }
    }

    /// Lets the disk have what is written, when whole pieces are written and hashed since the last time: so the journal can
    /// have a checkpoint there. Whichever thread is the later one sees it, also while nothing more comes in.
    fn sync_if_due(self: &Arc<Flow>) {
        let (Some(syncs), Sink::File { file, .. }) = (&self.early_syncs, &self.sink) else { return };
        let settled = self.written().min(self.hashed.load(Ordering::Acquire));
        if settled < syncs.due_at.load(Ordering::Acquire) || syncs.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        syncs.due_at.store(next_sync(settled), Ordering::Release);
        let (flow, file) = (Arc::clone(self), Arc::clone(file));
        syncs.worker.post(move || {
            flow.sync(&file);
            if let Some(syncs) = &flow.early_syncs {
                syncs.is_running.store(false, Ordering::Release);
            }
        });
    }

    /// Syncs what is written, and then says so in the journal.
    fn sync(&self, file: &File) {
        let written = self.written();
        match file.sync_data() {
            Ok(()) => {
                let Some(journal) = &self.journal else { return };
                journal.record_synced(written, self.checkpoint(written));
                let written = self.written();
                journal.record(written, self.checkpoint(written));
            }
            // A failed writeback is told once (fsync(2)): the last sync might succeed.
            Err(error) => self.fail(WriteFailure::Disk(error)),
        }
    }

    /// Says in the journal how far the part is good in the end.
    pub fn record_last(&self) {
        if let (Some(journal), false) = (&self.journal, self.is_in_doubt()) {
            let written = self.written();
            journal.record(written, self.checkpoint(written));
        }
    }

    /// The last checkpoint within the first `limit` bytes.
    pub fn checkpoint(&self, limit: u64) -> Option<Checkpoint> {
        self.with_marks(|marks| {
            let made = marks.hashed.iter().rev().filter(|mark| mark.offset <= limit).find_map(|mark| {
                let of_same = |prefix: &&Prefix| prefix.len == mark.offset;
                let prefix = mark.hasher.prefix().or_else(|| marks.written.iter().find(of_same).cloned())?;
                Some(Checkpoint { prefix, md5: mark.hasher.save() })
            });
            if let Some(made) = made {
                marks.checkpoint = Some(made);
            }
            marks.checkpoint.clone().filter(|checkpoint| checkpoint.end() <= limit)
        })
    }

    /// Bytes written, up to the end of the last whole frame.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Time spent on hashing so far.
    pub fn hashing(&self) -> Duration {
        Duration::from_nanos(self.hashing_nanos.load(Ordering::Relaxed))
    }

    /// All that is hashed so far.
    pub fn digested(&self) -> Digested {
        let hasher = lock(&self.hasher);
        Digested { offset: self.hashed.load(Ordering::Acquire), hasher: hasher.clone() }
    }

    /// The digest of all that is hashed so far.
    pub fn digest(&self) -> Digest {
        self.digested().hasher.finish()
    }

    /// The first failure stays.
    fn fail(&self, failure: WriteFailure) {
        lock(&self.failure).get_or_insert(failure);
    }

    /// What a failure means, if there has been one.
    pub fn failure(&self) -> Option<Stop> {
        lock(&self.failure).as_ref().map(|failure| match failure {
            WriteFailure::Disk(error) => self.sink.failure(error),
            WriteFailure::Unreadable(error) => self.sink.unreadable(error),
        })
    }

    /// Whether what is written may not be what will be read: not after an error that only says that there is no room.
    pub fn is_in_doubt(&self) -> bool {
        match &*lock(&self.failure) {
            None | Some(WriteFailure::Unreadable(_)) => false,
            Some(WriteFailure::Disk(error)) => {
                no_room(error).is_none() && Errno::from_io_error(error) != Some(Errno::FBIG)
            }
        }
    }
}

/// Where the next early sync is due: each piece is synced on its own, so that the last sync is short.
fn next_sync(offset: u64) -> u64 {
    (offset / PIECE + 1).saturating_mul(PIECE)
}

/// Cuts bytes that lie at `offset` at the ends of pieces; each with where it ends.
fn by_pieces(mut bytes: &[u8], mut offset: u64) -> impl Iterator<Item = (&[u8], u64)> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let room = usize::try_from(PIECE - offset % PIECE).unwrap_or(usize::MAX).min(bytes.len());
        let (piece, behind) = bytes.split_at(room);
        offset += piece.len() as u64;
        bytes = behind;
        Some((piece, offset))
    })
}

/// Keeps the last few.
fn push<T>(marks: &mut VecDeque<T>, mark: T) {
    if marks.len() == MARKS {
        marks.pop_front();
    }
    marks.push_back(mark);
}

/// What two threads share here is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
