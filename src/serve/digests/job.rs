//! A digest job: one content of a file, hashed a chunk at a time, and who waits for it.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::Waiter;
use super::cache::Subject;
use super::lanes::Position;
use crate::file::{Patience, Ready, ServedFile};
use crate::proto::digest::{Algorithm, Digest, Hasher};
use crate::serve::peers::Source;

/// Bytes hashed between two looks at the clock: 0.2 ms of MD5.
pub const CHUNK: usize = 128 * 1024;

/// How long a disk brings nothing before it counts as asleep or dead, and not as busy: one that turns has what was asked
/// of it within some tens of milliseconds.
const ASLEEP: Duration = Duration::from_secs(1);

/// A file that changed less than this before hashing began may have changed again within the same time stamp: the
/// coarsest that file systems in use have is 2 s (FAT).
pub const SETTLED: Duration = Duration::from_secs(2);

/// Why a digest cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file is not what it was when hashing began.
    Changed,
    /// It cannot be read, and why.
    Unreadable(String),
}

/// What jobs are told apart by: one that was begun for those who trust no other stands beside the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What is hashed.
    pub subject: Subject,
    /// Whether it was begun for "hash again".
    pub is_again: bool,
}

/// An address that waits for a job.
pub struct Share {
    /// Where the job stands in its queue.
    pub position: Position,
    /// How many of its connections wait.
    pub waiters: usize,
}

/// A digest that is being made.
pub struct Job {
    /// What of.
    pub key: Key,
    file: Rc<ServedFile>,
    hasher: Hasher,
    /// Bytes hashed; 0 <= offset <= size.
    pub offset: u64,
    /// In the order in which they asked.
    pub waiters: Vec<(Waiter, Source)>,
    /// The addresses of those.
    pub shares: HashMap<Source, Share>,
    patience: Patience,
    /// Not to be looked at before this, since its bytes are on their way from the disk.
    pub paused_until: Option<Instant>,
    /// Whether the digest may be kept.
    pub is_settled: bool,
}

impl Job {
    /// A job for which nobody waits yet.
    pub fn new(file: &Rc<ServedFile>, algorithm: Algorithm, is_again: bool) -> Job {
        let subject = Subject { stamp: file.stamp, algorithm };
        Job {
            key: Key { subject, is_again },
            file: Rc::clone(file),
            hasher: Hasher::new(algorithm),
            offset: 0,
            waiters: Vec::new(),
            shares: HashMap::new(),
            patience: Patience::default(),
            paused_until: None,
            is_settled: !file.stamp.is_younger_than(SETTLED, SystemTime::now()),
        }
    }

    /// Bytes that are still to be hashed.
    pub fn left(&self) -> u64 {
        self.file.stamp.size.saturating_sub(self.offset)
    }

    /// Whether its bytes are on their way from the disk.
    pub fn waits_for_disk(&self) -> bool {
        self.patience.is_waiting()
    }

    /// Whether its disk has brought nothing for long.
    pub fn is_asleep(&self) -> bool {
        self.patience.has_waited(ASLEEP)
    }

    /// Hashes one chunk; `Some` once the job has ended.
    pub fn step(&mut self, buffer: &mut [u8], now: Instant) -> Option<Result<Digest, Failure>> {
        let len = usize::try_from(self.left()).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..len)?;
        if !chunk.is_empty() {
            match self.file.read_ready(chunk, self.offset, &mut self.patience) {
                Ready::Bytes(n) => {
                    self.paused_until = None;
                    self.hasher.update(chunk.get(..n)?);
                    self.offset += n as u64;
                }
                Ready::NotYet => {
                    self.paused_until = Some(self.patience.look_again_at(now));
                    return None;
                }
                Ready::End => return Some(Err(self.wrong_size("fewer"))),
                Ready::Failed(error) => return Some(Err(Failure::Unreadable(crate::error::reason(&error)))),
            }
        }
        if self.left() > 0 {
            return None;
        }
        // Before it is asked whether it has changed: otherwise what was written in between would be looked at.
        let has_more = self.file.has_more();
        if !self.file.is_unchanged() {
            return Some(Err(Failure::Changed));
        }
        match has_more {
            true => Some(Err(self.wrong_size("more"))),
            false => Some(Ok(self.hasher.clone().finish())),
        }
    }

    /// The file has fewer bytes, or more, than its size says: it has changed since, or will never have as many.
    fn wrong_size(&self, how_many: &str) -> Failure {
        self.file.untrue_size(how_many).map_or(Failure::Changed, Failure::Unreadable)
    }
}
