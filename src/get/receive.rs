//! The way of received bytes: while the network brings the next block, one thread hashes the last and one writes it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Returns, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::wait::{Stop, Waits};
use super::workers::{Pending, Worker};
use crate::error::{Error, ExitCode, reason};
use crate::proto::digest::{Algorithm, Digest, Hasher};

/// Bytes of a block: small writes cost twice as much CPU on ext4.
const BLOCK_LEN: usize = 1 << 20;

/// Blocks between network, digest and disk at most; with all of them under way, the network waits.
const BLOCKS_MAX: usize = 8;

/// Bytes after which those written so far are synced, so that the last sync is short.
const SYNC_EVERY: u64 = 32 << 20;

/// linux/fs.h; Linux 6.14.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Where blocks are written.
#[derive(Clone)]
pub enum Sink {
    /// A file, each byte at its place.
    File {
        /// The file.
        file: Arc<File>,
        /// Whether its bytes need not stay in the page cache; turned off by a file system that knows no such writes.
        passes_cache: Arc<AtomicBool>,
        /// What error lines call it.
        shown: String,
    },
    /// Something that takes each byte once.
    Stream {
        /// It.
        file: Arc<File>,
        /// Bytes it has taken.
        written: Arc<AtomicU64>,
        /// What error lines call it.
        shown: String,
    },
}

impl Sink {
    fn write(&self, mut bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Sink::File { file, passes_cache, .. } => write_at(file, passes_cache, bytes, offset),
            Sink::Stream { file, written, .. } => {
                let skip = written.load(Ordering::Acquire).saturating_sub(offset);
                bytes = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
                while !bytes.is_empty() {
                    match (&**file).write(bytes) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(n) => {
                            written.fetch_add(n as u64, Ordering::AcqRel);
                            bytes = bytes.get(n..).unwrap_or_default();
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        // Somebody has made it non-blocking. This thread has nothing else to do.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            rustix::event::poll(&mut [PollFd::new(&**file, PollFlags::OUT)], None)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    /// What a failed write means for the user.
    fn failure(&self, error: &io::Error) -> Stop {
        let (Sink::File { shown, .. } | Sink::Stream { shown, .. }) = self;
        match (Errno::from_io_error(error), self) {
            (Some(Errno::PIPE), Sink::Stream { .. }) => {
                Stop::Final(Error::new(ExitCode::ClosedPipe, format!("{shown} was closed")))
            }
            (Some(Errno::NOSPC | Errno::DQUOT), Sink::Stream { .. }) => {
                Stop::local(format!("cannot write to {shown}: the disk is full"))
            }
            (Some(Errno::NOSPC | Errno::DQUOT), Sink::File { .. }) => {
                Stop::local(format!("cannot write {shown}: the disk is full; make room, or save elsewhere with -d"))
            }
            (Some(Errno::FBIG), _) => Stop::local(format!(
                "cannot write {shown}: it would exceed a limit on the size of files (see ulimit -f)"
            )),
            _ => Stop::local(format!("cannot write {shown}: {}", reason(error))),
        }
    }
}

/// Writes all of this, if possible past the page cache (pwritev2(2), RWF_DONTCACHE): the disk begins at once, so that
/// the last sync finds nothing to do, and the pages are used again, so that a download takes nobody's cache. A GiB to
/// ext4 then took 0.4 s of CPU every time, in place of 0.3 to 3.4 s.
fn write_at(file: &File, passes_cache: &AtomicBool, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while passes_cache.load(Ordering::Relaxed) && !bytes.is_empty() {
        match rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, RWF_DONTCACHE) {
            // Not again with the same outcome: the plain write below says what is wrong.
            Ok(0) => break,
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            // Before Linux 6.14, and on many file systems.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => passes_cache.store(false, Ordering::Relaxed),
            Err(error) => return Err(error.into()),
        }
    }
    file.write_all_at(bytes, offset)
}

/// Room for the next bytes of a file, and then these bytes; its buffer goes home when the last thread lets go of it.
pub struct Block {
    buffer: Vec<u8>,
    len: usize,
    home: Sender<Vec<u8>>,
    waker: Arc<Waker>,
}

impl Block {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// The place for more bytes, until there are `goal` of them.
    pub fn room(&mut self, goal: usize) -> &mut [u8] {
        self.buffer.get_mut(self.len..goal).unwrap_or_default()
    }

    /// Says that so many bytes were put in there.
    pub fn add(&mut self, n: usize) {
        self.len += n;
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody takes it back at the end of the process.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
        let _ = self.waker.wake();
    }
}

/// The threads and buffers, which serve one file after the other.
pub struct Receiver {
    hasher: Worker,
    writer: Worker,
    syncer: Worker,
    home: Sender<Vec<u8>>,
    returns: Returns<Vec<u8>>,
    /// Buffers made; at most [`BLOCKS_MAX`].
    made: usize,
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
            made: 0,
            waker,
        })
    }

    /// The thread that writes, for whatever must come after the writing.
    pub fn writer(&self) -> &Worker {
        &self.writer
    }

    /// Waits until nothing of an earlier attempt is still being written: it must not land behind what comes next.
    pub fn settle(&self, waits: &mut Waits) -> Result<(), Stop> {
        self.writer.run(|| ()).wait(waits)
    }

    /// A free buffer, unless all are under way.
    fn buffer(&mut self) -> Option<Vec<u8>> {
        if let Ok(buffer) = self.returns.try_recv() {
            return Some(buffer);
        }
        if self.made == BLOCKS_MAX {
            return None;
        }
        self.made += 1;
        Some(vec![0; BLOCK_LEN])
    }

    /// Begins a file, for which the target is ready.
    pub fn begin(&mut self, sink: Sink, sync: bool) -> Body<'_> {
        let syncs = sync && matches!(sink, Sink::File { .. });
        Body {
            receiver: self,
            sink,
            hasher: Arc::new(Mutex::new(Hasher::new(Algorithm::Md5))),
            failure: Arc::new(Mutex::new(None)),
            received: 0,
            syncs,
            sync_at: SYNC_EVERY,
            syncing: None,
        }
    }

    /// Hashes a local file; `done` counts its bytes.
    pub fn hash_file(&self, path: PathBuf, done: Arc<AtomicU64>) -> Pending<io::Result<Digest>> {
        self.hasher.run(move || {
            let mut file = File::open(path)?;
            let mut hasher = Hasher::new(Algorithm::Md5);
            let mut buffer = vec![0; BLOCK_LEN];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.finish()),
                    n => {
                        hasher.update(buffer.get(..n).unwrap_or_default());
                        done.fetch_add(n as u64, Ordering::Relaxed);
                    }
                }
            }
        })
    }
}

/// What two threads share here is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One file on its way through.
pub struct Body<'a> {
    receiver: &'a mut Receiver,
    sink: Sink,
    hasher: Arc<Mutex<Hasher>>,
    failure: Arc<Mutex<Option<io::Error>>>,
    /// Bytes taken so far.
    received: u64,
    syncs: bool,
    /// When this many bytes have been taken, those before are synced.
    sync_at: u64,
    syncing: Option<Pending<()>>,
}

impl Body<'_> {
    /// Bytes taken so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether bytes go on as they come, in blocks that are not full.
    pub fn is_stream(&self) -> bool {
        matches!(self.sink, Sink::Stream { .. })
    }

    /// An empty block; waits while all are under way.
    pub fn block(&mut self, waits: &mut Waits) -> Result<Block, Stop> {
        loop {
            self.check()?;
            if let Some(buffer) = self.receiver.buffer() {
                let (home, waker) = (self.receiver.home.clone(), Arc::clone(&self.receiver.waker));
                return Ok(Block { buffer, len: 0, home, waker });
            }
            waits.wait(None)?;
        }
    }

    /// Fails if a write has failed.
    fn check(&self) -> Result<(), Stop> {
        match &*lock(&self.failure) {
            Some(error) => Err(self.sink.failure(error)),
            None => Ok(()),
        }
    }

    /// Takes the next bytes of the file.
    pub fn take(&mut self, block: Block) {
        let offset = self.received;
        self.received += block.len() as u64;
        let block = Arc::new(block);

        let (hasher, hashed) = (Arc::clone(&self.hasher), Arc::clone(&block));
        self.receiver.hasher.post(move || lock(&hasher).update(hashed.bytes()));

        let (sink, failure) = (self.sink.clone(), Arc::clone(&self.failure));
        self.receiver.writer.post(move || {
            // After a failed write the rest has no place.
            if lock(&failure).is_none()
                && let Err(error) = sink.write(block.bytes(), offset)
            {
                *lock(&failure) = Some(error);
            }
        });
        self.sync_early();
    }

    /// Every now and then, lets the disk have what is written, while more comes in.
    fn sync_early(&mut self) {
        if !self.syncs || self.received < self.sync_at {
            return;
        }
        if self.syncing.as_ref().is_some_and(|syncing| matches!(syncing.poll(), Ok(None))) {
            return;
        }
        self.sync_at = self.received + SYNC_EVERY;
        if let Sink::File { file, .. } = &self.sink {
            let file = Arc::clone(file);
            // If it fails, the last sync fails too, and is heard.
            self.syncing = Some(self.receiver.syncer.run(move || drop(file.sync_data())));
        }
    }

    /// The digest of all that was taken so far.
    pub fn digest(&self, waits: &mut Waits) -> Result<Digest, Stop> {
        let hasher = Arc::clone(&self.hasher);
        self.receiver.hasher.run(move || lock(&hasher).clone().finish()).wait(waits)
    }

    /// Waits until all that was taken is hashed and written; the digest.
    pub fn finish(&self, waits: &mut Waits) -> Result<Digest, Stop> {
        let written = self.receiver.writer.run(|| ());
        let digest = self.digest(waits)?;
        written.wait(waits)?;
        self.check()?;
        Ok(digest)
    }
}
