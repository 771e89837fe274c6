//! The way of received bytes: while the network brings the next block, one thread hashes the last and one writes it.

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Returns, Sender, channel};
use std::time::{Duration, Instant};

use mio::Waker;
use rustix::process::{getpriority_process, setpriority_process};

use super::block::{BLOCK_LEN, Block};
use super::clock;
use super::disk::File;
use super::flow::{Digested, Flow};
use super::journal::{Journal, KEPT_AFTER};
use super::reread::{Check, each_block};
use super::sink::Sink;
use super::slot::Checkpoint;
use super::wait::{SIGNAL_GRACE, Stop, Waits};
use super::workers::{Pending, Worker};
use crate::pages::Pages;
use crate::proto::digest::Digest;

/// Blocks between network, digest and disk at most; with all of them under way, the network waits. A kill loses what is
/// in them: with that, and what is behind the last slot of the journal, it stays below 8 MiB.
const BLOCKS_MAX: usize = 6;

/// With so many cores, nobody has to wait for one.
const CORES_ENOUGH: usize = 4;

/// How much nicer (setpriority(2)) the threads that move bytes are than the one that hashes them; it cannot be taken back.
const GIVES_WAY: i32 = 10;

/// The threads and buffers, which serve one file after the other.
pub struct Receiver {
    hasher: Worker,
    writer: Worker,
    syncer: Arc<Worker>,
    /// Compares what was there before a run; started when the first part is resumed.
    checker: OnceCell<Worker>,
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
    pub fn start(waits: &Waits) -> Receiver {
        let waker = waits.waker();
        let (home, returns) = channel();
        let writer = Worker::start_or_here("write", waits);
        Receiver {
            hasher: Worker::start_or_share("hash", &writer),
            syncer: Arc::new(Worker::start_or_share("sync", &writer)),
            writer,
            checker: OnceCell::new(),
            home,
            returns,
            made: Cell::new(0),
            hashing_first: Cell::new(false),
            waker,
        }
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
        if has_few_cores() {
            give_way();
            [Some(&self.writer), Some(&*self.syncer), self.checker.get()].into_iter().flatten().for_each(|worker| {
                worker.post(give_way);
            });
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
    pub fn begin(&self, sink: Sink, start: Start, journal: Option<Arc<Journal>>, sync: bool) -> Body<'_> {
        let Start { offset, digested, checkpoint, rewritten_from, check } = start;
        let syncer = sync.then(|| Arc::clone(&self.syncer));
        let again = digested.offset..offset;
        let flow = Arc::new(Flow::new(sink, journal, digested, checkpoint, offset, syncer));
        let mut body = Body {
            receiver: self,
            flow,
            open: None,
            opened: clock::now(),
            taken: offset,
            check: None,
            replaying: None,
            held: Vec::new(),
            is_useless: false,
        };
        if let Sink::File { file, .. } = &body.flow.sink {
            body.check = match check {
                PrefixCheck::None => None,
                PrefixCheck::Running(check) => Some(check),
                PrefixCheck::Due(checkpoint) => Some(Check::start(self.checker(), Arc::clone(file), checkpoint.prefix)),
            };
            if !again.is_empty() {
                let (flow, file) = (Arc::clone(&body.flow), Arc::clone(file));
                body.replaying = Some(self.hasher.run(move || flow.replay(&file, again, rewritten_from)));
            }
        }
        body
    }

    fn checker(&self) -> &Worker {
        self.checker.get_or_init(|| {
            let checker = Worker::start_or_share("check", &self.writer);
            // It moves bytes like the others, and hashes many times as fast as MD5.
            if self.hashing_first.get() && has_few_cores() {
                checker.post(give_way);
            }
            checker
        })
    }

    /// Continues a digest with the bytes of a local file, up to `end`; `done` is where it is. A file that ends before is an
    /// error.
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

fn has_few_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() < CORES_ENOUGH)
}

/// Makes the calling thread, and on Linux only that one, nicer by [`GIVES_WAY`].
fn give_way() {
    // Where it cannot be done, nothing is lost but time.
    let _ = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + GIVES_WAY));
}

/// What is there of a file when more of it begins to arrive.
pub struct Start {
    /// Bytes there; the next ones follow them.
    pub offset: u64,
    /// The digest of them, or of fewer: the others are read again.
    pub digested: Digested,
    /// Of what is there, if the journal has one.
    pub checkpoint: Option<Checkpoint>,
    /// From where on what is read again is written again, too.
    pub rewritten_from: u64,
    /// What is still to be compared of it.
    pub check: PrefixCheck,
}

impl Start {
    /// With these first bytes, all of them digested.
    pub fn behind(digested: Digested) -> Start {
        let offset = digested.offset;
        Start { offset, digested, checkpoint: None, rewritten_from: offset, check: PrefixCheck::None }
    }
}

/// What is to be compared of a part with its journal before it can be trusted.
pub enum PrefixCheck {
    /// Nothing, or nothing more.
    None,
    /// The bytes of this checkpoint, which an earlier run has left.
    Due(Checkpoint),
    /// It is under way.
    Running(Check),
}

/// How far what came is good.
pub struct Resumable {
    /// Bytes of it that are written, up to the end of a frame.
    pub offset: u64,
    /// The digest of all that came.
    pub digested: Digested,
    /// The last checkpoint within them.
    pub checkpoint: Option<Checkpoint>,
    /// What is still to be compared of what was there before.
    pub check: PrefixCheck,
}

/// Where the bytes of a reply are put.
pub trait Room {
    /// That what has come cannot be written out from here.
    type Late;
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
    /// How many of how many bytes that were there before are compared with their journal, if any are to be.
    fn checked(&self) -> Option<(u64, u64)> {
        None
    }
    /// When what has come has been in memory for long enough; not while nothing is there.
    fn due(&self) -> Option<Instant>;
    /// Lets the disk have what has come.
    fn write_out(&mut self) -> Result<(), Self::Late>;
}

/// One file on its way through.
pub struct Body<'a> {
    receiver: &'a Receiver,
    flow: Arc<Flow>,
    /// The block that is being filled.
    open: Option<Block>,
    /// Since when.
    opened: Instant,
    /// Bytes of the file in the blocks before it, and in what was there at the beginning.
    taken: u64,
    /// The comparison of what was there before.
    check: Option<Check>,
    /// What is read again of that, before anything that follows is hashed or written.
    replaying: Option<Pending<()>>,
    /// Blocks that wait for this.
    held: Vec<Arc<Block>>,
    /// Whether what was there before proved to be something else.
    is_useless: bool,
}

impl Body<'_> {
    fn is_stream(&self) -> bool {
        matches!(self.flow.sink, Sink::Stream { .. })
    }

    /// Time spent on hashing so far.
    pub fn hashing(&self) -> Duration {
        self.flow.hashing()
    }

    /// An empty block.
    fn new_block(&mut self, waits: &mut Waits) -> Result<Block, Stop> {
        // A fast server leaves nothing to wait for, and signals would go unseen.
        waits.check()?;
        loop {
            self.check()?;
            if let Some(buffer) = self.receiver.buffer() {
                let (home, waker) = (self.receiver.home.clone(), Arc::clone(&self.receiver.waker));
                return Ok(Block { buffer, len: 0, offset: self.taken, frame_end: None, home, waker });
            }
            waits.wait(None)?;
        }
    }

    /// Fails if a write has failed, or what was there before is not what was written. Lets the threads have what has waited
    /// for that to be read.
    fn check(&mut self) -> Result<(), Stop> {
        if self.replaying.as_ref().is_some_and(|replaying| !matches!(replaying.poll(), Ok(None))) {
            self.let_go();
        }
        if let Some(stop) = self.flow.failure() {
            return Err(stop);
        }
        self.poll_check()?;
        Ok(())
    }

    /// Whether what was there before is compared by now; fails if it differs.
    pub fn poll_check(&mut self) -> Result<Option<&Check>, Stop> {
        let Some(check) = &self.check else { return Ok(None) };
        match check.poll()? {
            None => {}
            Some(Ok(true)) => self.check = None,
            Some(Ok(false)) => {
                self.check = None;
                self.is_useless = true;
                return Err(Stop::PartUnusable(String::from("the partial file is damaged")));
            }
            // Not a reason to throw it away: the next run compares it again.
            Some(Err(error)) => return Err(self.flow.sink.unreadable(&error)),
        }
        Ok(self.check.as_ref())
    }

    /// Lets the threads have the bytes that have come, though they fill no block.
    pub fn flush(&mut self) {
        let Some(mut block) = self.open.take() else { return };
        // A stream cannot take a byte back, wherever a frame ends.
        if self.is_stream() {
            block.frame_end = Some(block.len);
        }
        self.taken += block.len as u64;
        let block = Arc::new(block);
        match self.replaying {
            Some(_) => self.held.push(block),
            None => self.post(block),
        }
    }

    /// Lets the threads have what has waited for the bytes before it.
    fn let_go(&mut self) {
        self.replaying = None;
        std::mem::take(&mut self.held).into_iter().for_each(|block| self.post(block));
    }

    fn post(&self, block: Arc<Block>) {
        let (flow, hashed) = (Arc::clone(&self.flow), Arc::clone(&block));
        self.receiver.hasher.post(move || flow.hash(&hashed));
        let flow = Arc::clone(&self.flow);
        self.receiver.writer.post(move || flow.write(&block));
    }

    /// Waits until what is read again is read, and whatever waits for that is on its way.
    fn end_replay(&mut self, waits: &mut Waits) -> Result<(), Stop> {
        if let Some(replaying) = &self.replaying {
            replaying.wait(waits)?;
        }
        self.let_go();
        Ok(())
    }

    /// The digest of all that has come so far.
    pub fn digest(&mut self, waits: &mut Waits) -> Result<Digest, Stop> {
        self.flush();
        self.end_replay(waits)?;
        let flow = Arc::clone(&self.flow);
        self.receiver.hasher.run(move || flow.digest()).wait(waits)
    }

    /// Waits until all that has come is hashed, written and, as far as it was begun, synced; the digest.
    pub fn finish(&mut self, waits: &mut Waits) -> Result<Digest, Stop> {
        let digest = self.digest(waits)?;
        self.receiver.writer.run(|| ()).wait(waits)?;
        // An early one may have been told of a failure that the last sync is not told of.
        self.receiver.syncer.run(|| ()).wait(waits)?;
        while self.poll_check()?.is_some() {
            waits.wait(None)?;
        }
        self.check()?;
        Ok(digest)
    }

    /// Ends in the middle, with all that has come hashed, written and in the journal, as far as the disk takes it in the
    /// time that a signal leaves.
    pub fn stop(mut self, waits: &mut Waits) -> Result<Stopped, Stop> {
        self.flush();
        if let Some(replaying) = self.replaying.take()
            && !replaying.ends_through_signal(waits, SIGNAL_GRACE)?
        {
            return Ok(Stopped::Unknown);
        }
        self.let_go();
        // The syncs last: what they say in the journal is older than what is said in the end.
        for worker in [&self.receiver.hasher, &self.receiver.writer, &*self.receiver.syncer] {
            if !worker.run(|| ()).ends_through_signal(waits, SIGNAL_GRACE)? {
                return Ok(Stopped::Unknown);
            }
        }
        let flow = Arc::clone(&self.flow);
        if !self.receiver.writer.run(move || flow.record_last()).ends_through_signal(waits, SIGNAL_GRACE)? {
            return Ok(Stopped::Unknown);
        }
        if self.is_useless {
            return Ok(Stopped::Useless);
        }
        let check = self.check.map_or(PrefixCheck::None, PrefixCheck::Running);
        if self.flow.is_in_doubt() {
            return Ok(Stopped::InDoubt(check));
        }
        let (offset, digested) = (self.flow.written(), self.flow.digested());
        let checkpoint = self.flow.checkpoint(offset);
        Ok(Stopped::Good(Box::new(Resumable { offset, digested, checkpoint, check })))
    }
}

impl Room for Body<'_> {
    type Late = Infallible;

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
            None => {
                let block = self.new_block(waits)?;
                self.opened = clock::now();
                block
            }
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
            block.frame_end = Some(block.len);
        }
    }

    /// A stream gets bytes as they come, in blocks that are not full.
    fn pause(&mut self) {
        if self.is_stream() {
            self.flush();
        }
    }

    fn checked(&self) -> Option<(u64, u64)> {
        self.check.as_ref().map(|check| (check.done(), check.len()))
    }

    /// Not while they would wait for what is read again: that takes no time, or all blocks would be under way with a few
    /// bytes in each.
    fn due(&self) -> Option<Instant> {
        let holds_bytes = self.open.as_ref().is_some_and(|block| block.len > 0);
        (holds_bytes && self.replaying.is_none()).then(|| self.opened + KEPT_AFTER)
    }

    fn write_out(&mut self) -> Result<(), Infallible> {
        self.flush();
        Ok(())
    }
}

/// What an attempt that did not come to its end has left.
pub enum Stopped {
    /// Bytes to resume behind.
    Good(Box<Resumable>),
    /// The disk did not say in time.
    Unknown,
    /// Bytes that may not be what was written, but for those that were synced before.
    InDoubt(PrefixCheck),
    /// Bytes that are not what an earlier run has written.
    Useless,
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
