//! The way of received bytes: while the network brings the next block, one thread hashes the last and one writes it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Returns, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::Waker;
use rustix::io::Errno;
use rustix::process::{getpriority_process, setpriority_process};

use super::clock;
use super::disk::File;
use super::journal::Journal;
use super::scale::scaled;
use super::sink::Sink;
use super::wait::{SIGNAL_GRACE, Stop, Waits};
use super::workers::{Pending, Worker, wake};
use crate::pages::Pages;
use crate::proto::digest::{Algorithm, Digest, Hasher};

/// Bytes of a block: small writes cost twice as much CPU on ext4.
const BLOCK_LEN: usize = scaled(1 << 20) as usize;

/// Blocks between network, digest and disk at most; with all of them under way, the network waits. A kill loses what is
/// in them: with that, and what is behind the last slot of the journal, it stays below 8 MiB.
const BLOCKS_MAX: usize = 6;

/// Bytes after which those written so far are synced, so that the last sync is short.
pub const SYNC_EVERY: u64 = scaled(32 << 20);

/// With so many cores, nobody has to wait for one.
const CORES_ENOUGH: usize = 4;

/// How much nicer (setpriority(2)) the threads that move bytes are than the one that hashes them; it cannot be taken back.
const GIVES_WAY: i32 = 10;

/// Room for the next bytes of a file, and then these bytes; its buffer goes home when the last thread lets go of it.
struct Block {
    buffer: Pages,
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    /// Where in it the last whole frame ends, if one does.
    border: Option<usize>,
    home: Sender<Pages>,
    waker: Arc<Waker>,
}

impl Block {
    /// The bytes up to the end of the last whole frame, where that lies in the file, and the bytes behind it.
    fn split(&self) -> (Option<(&[u8], u64)>, &[u8]) {
        let bytes = self.buffer.get(..self.len).unwrap_or_default();
        match self.border.and_then(|border| Some((border, bytes.split_at_checked(border)?))) {
            Some((border, (whole, rest))) => (Some((whole, self.offset + border as u64)), rest),
            None => (None, bytes),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody takes it back at the end of the process.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
        wake(&self.waker);
    }
}

/// The threads and buffers, which serve one file after the other.
pub struct Receiver {
    hasher: Worker,
    writer: Worker,
    syncer: Worker,
    home: Sender<Pages>,
    returns: Returns<Pages>,
    /// Buffers made; at most [`BLOCKS_MAX`].
    made: Cell<usize>,
    /// Whether hashing goes before all else, or has no need to.
    hashing_first: Cell<bool>,
    waker: Arc<Waker>,
}

impl Receiver {
    /// Starts the threads.
    pub fn start(waits: &Waits) -> Result<Receiver, Stop> {
        let waker = waits.waker();
        let (home, returns) = channel();
        Ok(Receiver {
            hasher: Worker::start("hash", Arc::clone(&waker))?,
            writer: Worker::start("write", Arc::clone(&waker))?,
            syncer: Worker::start("sync", Arc::clone(&waker))?,
            home,
            returns,
            made: Cell::new(0),
            hashing_first: Cell::new(false),
            waker,
        })
    }

    /// The thread that writes, for whatever must come after the writing.
    pub fn writer(&self) -> &Worker {
        &self.writer
    }

    /// From now on, if there are few cores, lets the thread that hashes have one before those that only move bytes:
    /// with MD5 they wait for it anyway, and each time that it waits for one of them the transfer takes so much longer.
    pub fn put_hashing_first(&self) {
        if self.hashing_first.replace(true) {
            return;
        }
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < CORES_ENOUGH) {
            give_way();
            self.writer.post(give_way);
            self.syncer.post(give_way);
        }
    }

    /// Waits until nothing of an earlier attempt is still being written: it must not land behind what comes next.
    pub fn settle(&self, waits: &mut Waits) -> Result<(), Stop> {
        self.writer.run(|| ()).wait(waits)
    }

    /// A free buffer, unless all are under way.
    fn buffer(&self) -> Option<Pages> {
        if let Ok(buffer) = self.returns.try_recv() {
            return Some(buffer);
        }
        if self.made.get() == BLOCKS_MAX {
            return None;
        }
        self.made.set(self.made.get() + 1);
        Some(Pages::new(BLOCK_LEN))
    }

    /// Begins a file behind the bytes that are there. Nothing of it counts as synced unless `sync`.
    pub fn begin(&self, sink: Sink, there: Digested, journal: Option<Arc<Journal>>, sync: bool) -> Body<'_> {
        let syncs = sync && matches!(sink, Sink::File { .. });
        let offset = there.offset;
        Body {
            receiver: self,
            flow: Arc::new(Flow {
                sink,
                journal,
                hasher: Mutex::new(there.hasher.clone()),
                borders: Mutex::new(VecDeque::from([there])),
                written: AtomicU64::new(offset),
                hashing_nanos: AtomicU64::new(0),
                failure: Mutex::new(None),
            }),
            open: None,
            taken: offset,
            syncs,
            sync_at: offset.saturating_add(SYNC_EVERY),
            syncing: None,
        }
    }

    /// Goes on digesting with bytes of a local file, up to `end`; `done` is where it is. A file that ends before is an error.
    pub fn digest_file(
        &self,
        file: Arc<File>,
        from: Digested,
        end: u64,
        done: Arc<AtomicU64>,
    ) -> Pending<io::Result<Digested>> {
        self.hasher.run(move || {
            let Digested { mut offset, mut hasher } = from;
            each_block(&file, offset..end, |bytes, _| {
                // Nobody looks any more, and others wait for this thread.
                if Arc::strong_count(&done) == 1 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                hasher.update(bytes);
                offset += bytes.len() as u64;
                done.store(offset, Ordering::Relaxed);
                Ok(())
            })?;
            Ok(Digested { offset, hasher })
        })
    }
}

/// Writes again what a file holds there, where it lies.
///
/// Of a sync that failed the kernel tells once, and calls clean what is not on the disk (fsync(2)): after that, only what
/// is written again is synced again.
pub fn rewrite(file: &File, range: Range<u64>) -> io::Result<()> {
    each_block(file, range, |bytes, offset| file.write_all_at(bytes, offset))
}

/// Reads what a file holds there, a block at a time, with its place. A file that ends before is an error.
fn each_block(file: &File, range: Range<u64>, mut take: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Pages::new(BLOCK_LEN);
    let mut offset = range.start;
    while offset < range.end {
        let len = usize::try_from(range.end - offset).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
        match file.read_at(buffer.get_mut(..len).unwrap_or_default(), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                take(buffer.get(..n).unwrap_or_default(), offset)?;
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the calling thread, and on Linux only that one, nicer by [`GIVES_WAY`].
fn give_way() {
    // Where it cannot be done, nothing is lost but time.
    let _ = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + GIVES_WAY));
}

/// What two threads share here is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first bytes of a file, as a digest has them.
#[derive(Clone, Debug)]
pub struct Digested {
    /// How many they are.
    pub offset: u64,
    /// The digest of them, to go on with.
    pub hasher: Hasher,
}

impl Digested {
    /// No byte.
    pub fn nothing(algorithm: Algorithm) -> Digested {
        Digested { offset: 0, hasher: Hasher::new(algorithm) }
    }
}

/// What the threads know of one file.
struct Flow {
    sink: Sink,
    journal: Option<Arc<Journal>>,
    hasher: Mutex<Hasher>,
    /// The digest at the ends of frames: the last few of them, since hashing may be ahead of writing.
    borders: Mutex<VecDeque<Digested>>,
    /// Where the last whole frame ends that is written.
    written: AtomicU64,
    hashing_nanos: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl Flow {
    fn hash(&self, block: &Block) {
        let started = clock::now();
        let mut hasher = lock(&self.hasher);
        let (whole, rest) = block.split();
        if let Some((bytes, end)) = whole {
            hasher.update(bytes);
            let mut borders = lock(&self.borders);
            borders.push_back(Digested { offset: end, hasher: hasher.clone() });
            // One for each block that may still wait for the disk, and the one before them.
            while borders.len() > BLOCKS_MAX + 1 {
                borders.pop_front();
            }
        }
        hasher.update(rest);
        let nanos = u64::try_from(clock::since(started).as_nanos()).unwrap_or(u64::MAX);
        self.hashing_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn write(&self, block: &Block) {
        // After a failed write the rest has no place.
        if lock(&self.failure).is_some() {
            return;
        }
        let bytes = block.buffer.get(..block.len).unwrap_or_default();
        if let Err(error) = self.sink.write(bytes, block.offset) {
            *lock(&self.failure) = Some(error);
            return;
        }
        if let (Some((_, end)), _) = block.split() {
            self.written.store(end, Ordering::Release);
        }
        if let Some(journal) = &self.journal {
            journal.record_now_and_then(self.written.load(Ordering::Acquire));
        }
    }

    /// Syncs what is written, and then says so in the journal.
    fn sync(&self, file: &File) {
        let resumable = self.resumable();
        match file.sync_data() {
            Ok(()) => {
                if let Some(journal) = &self.journal {
                    journal.record_synced(&resumable);
                    journal.record_passing(self.written.load(Ordering::Acquire));
                }
            }
            // A failed writeback is told once (fsync(2)): the last sync might succeed.
            Err(error) => *lock(&self.failure) = Some(error),
        }
    }

    /// Says in the journal how far the part is good in the end.
    fn record_last(&self) {
        if let (Some(journal), Sink::File { file, .. }, false) = (&self.journal, &self.sink, self.is_in_doubt()) {
            let changed = file.stat().ok().map(|stat| stat.changed);
            journal.record_last(self.written.load(Ordering::Acquire), changed);
        }
    }

    /// Whether what is written may not be what will be read: not after an error that only says that there is no room.
    fn is_in_doubt(&self) -> bool {
        let failure = lock(&self.failure);
        let errno = failure.as_ref().map(Errno::from_io_error);
        errno.is_some_and(|errno| !matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG)))
    }

    /// How far this file could be resumed now, with the digest as far as it goes.
    fn resumable(&self) -> Resumable {
        let offset = self.written.load(Ordering::Acquire);
        let borders = lock(&self.borders);
        let digested = borders.iter().rev().find(|border| border.offset <= offset).cloned();
        Resumable { offset, digested }
    }
}

/// How far a part is good.
#[derive(Clone, Debug)]
pub struct Resumable {
    /// Bytes of it that are written, up to the end of a frame.
    pub offset: u64,
    /// The digest of them or of fewer, to go on with; without it, they are digested again.
    pub digested: Option<Digested>,
}

/// Where the bytes of a reply are put.
pub trait Room {
    /// Bytes of the file that have come, with those that were there.
    fn received(&self) -> u64;
    /// The place for the next bytes, at most `len`.
    fn room(&mut self, len: u64, waits: &mut Waits) -> Result<&mut [u8], Stop>;
    /// Says that so many bytes were put into the room.
    fn add(&mut self, n: usize);
    /// Says that a frame ends here, so that the bytes up to here are what the server meant to send.
    fn end_frame(&mut self);
    /// Says that no more is here for the moment.
    fn pause(&mut self) {}
}

/// One file on its way through.
pub struct Body<'a> {
    receiver: &'a Receiver,
    flow: Arc<Flow>,
    /// The block that is being filled.
    open: Option<Block>,
    /// Bytes of the file in the blocks before it, and in what was there at the beginning.
    taken: u64,
    syncs: bool,
    /// When this many bytes have been taken, those before are synced.
    sync_at: u64,
    syncing: Option<Pending<()>>,
}

impl Body<'_> {
    fn is_stream(&self) -> bool {
        matches!(self.flow.sink, Sink::Stream { .. })
    }

    /// Time spent on hashing so far.
    pub fn hashing(&self) -> Duration {
        Duration::from_nanos(self.flow.hashing_nanos.load(Ordering::Relaxed))
    }

    /// An empty block.
    fn new_block(&mut self, waits: &mut Waits) -> Result<Block, Stop> {
        // A fast server leaves nothing to wait for, and signals would go unseen.
        waits.check()?;
        loop {
            self.check()?;
            if let Some(buffer) = self.receiver.buffer() {
                let (home, waker) = (self.receiver.home.clone(), Arc::clone(&self.receiver.waker));
                return Ok(Block { buffer, len: 0, offset: self.taken, border: None, home, waker });
            }
            waits.wait(None)?;
        }
    }

    /// Fails if a write has failed.
    fn check(&self) -> Result<(), Stop> {
        match &*lock(&self.flow.failure) {
            Some(error) => Err(self.flow.sink.failure(error)),
            None => Ok(()),
        }
    }

    /// Lets the threads have the bytes that have come, though they fill no block.
    pub fn flush(&mut self) {
        let Some(mut block) = self.open.take() else { return };
        // A stream cannot take a byte back, wherever a frame ends.
        if self.is_stream() {
            block.border = Some(block.len);
        }
        self.taken += block.len as u64;
        let block = Arc::new(block);
        let (flow, hashed) = (Arc::clone(&self.flow), Arc::clone(&block));
        self.receiver.hasher.post(move || flow.hash(&hashed));
        let flow = Arc::clone(&self.flow);
        self.receiver.writer.post(move || flow.write(&block));
        self.sync_early();
    }

    /// Every now and then, lets the disk have what is written, while more comes in.
    fn sync_early(&mut self) {
        if !self.syncs || self.taken < self.sync_at {
            return;
        }
        if self.syncing.as_ref().is_some_and(|syncing| matches!(syncing.poll(), Ok(None))) {
            return;
        }
        self.sync_at = self.taken.saturating_add(SYNC_EVERY);
        if let Sink::File { file, .. } = &self.flow.sink {
            let (flow, file) = (Arc::clone(&self.flow), Arc::clone(file));
            self.syncing = Some(self.receiver.syncer.run(move || flow.sync(&file)));
        }
    }

    /// The digest of all that has come so far.
    pub fn digest(&mut self, waits: &mut Waits) -> Result<Digest, Stop> {
        self.flush();
        let flow = Arc::clone(&self.flow);
        self.receiver.hasher.run(move || lock(&flow.hasher).clone().finish()).wait(waits)
    }

    /// Waits until all that has come is hashed, written and, as far as it was begun, synced; the digest.
    pub fn finish(&mut self, waits: &mut Waits) -> Result<Digest, Stop> {
        self.flush();
        let written = self.receiver.writer.run(|| ());
        let digest = self.digest(waits)?;
        written.wait(waits)?;
        // It may have been told of a failure that the last sync is not told of.
        if let Some(syncing) = &self.syncing {
            syncing.wait(waits)?;
        }
        self.syncing = None;
        self.check()?;
        Ok(digest)
    }

    /// Ends in the middle, with all that has come hashed, written and in the journal, as far as the disk takes it in the
    /// time that a signal leaves.
    pub fn stop(mut self, waits: &mut Waits) -> Result<Stopped, Stop> {
        self.flush();
        let under_way = [
            Some(self.receiver.hasher.run(|| ())),
            Some(self.receiver.writer.run(|| ())),
            // What a sync says in the journal is older than what is said in the end.
            self.syncing.take(),
        ];
        for pending in under_way.iter().flatten() {
            if !pending.ends_through_signal(waits, SIGNAL_GRACE)? {
                return Ok(Stopped::Unknown);
            }
        }
        let flow = Arc::clone(&self.flow);
        if !self.receiver.writer.run(move || flow.record_last()).ends_through_signal(waits, SIGNAL_GRACE)? {
            return Ok(Stopped::Unknown);
        }
        Ok(match self.flow.is_in_doubt() {
            true => Stopped::InDoubt,
            false => Stopped::Good(self.flow.resumable()),
        })
    }
}

impl Room for Body<'_> {
    fn received(&self) -> u64 {
        self.taken + self.open.as_ref().map_or(0, |block| block.len as u64)
    }

    /// Waits while all blocks are under way.
    fn room(&mut self, len: u64, waits: &mut Waits) -> Result<&mut [u8], Stop> {
        // Not as soon as it is full: the frame that ends there must be known to end.
        if self.open.as_ref().is_some_and(|block| block.len == BLOCK_LEN) {
            self.flush();
        }
        let block = match self.open.take() {
            Some(block) => block,
            None => self.new_block(waits)?,
        };
        let block = self.open.insert(block);
        let end = usize::try_from(len).ok().and_then(|len| block.len.checked_add(len)).unwrap_or(BLOCK_LEN);
        Ok(block.buffer.get_mut(block.len..end.min(BLOCK_LEN)).unwrap_or_default())
    }

    fn add(&mut self, n: usize) {
        if let Some(block) = &mut self.open {
            block.len = block.len.saturating_add(n).min(BLOCK_LEN);
        }
    }

    fn end_frame(&mut self) {
        if let Some(block) = &mut self.open {
            block.border = Some(block.len);
        }
    }

    /// A stream gets bytes as they come, in blocks that are not full.
    fn pause(&mut self) {
        if self.is_stream() {
            self.flush();
        }
    }
}

/// What an attempt that did not come to its end has left.
pub enum Stopped {
    /// Bytes to go on with.
    Good(Resumable),
    /// The disk did not say in time.
    Unknown,
    /// Bytes that may not be what was written.
    InDoubt,
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
