//! Verified files on their way to their names: several at once, since each waits for the disk.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::clock;
use super::disk;
use super::saved::Saved;
use super::wait::{SIGNAL_GRACE, Stop, Waits};
use super::workers::{Pending, Worker};

/// Threads that commit: a journaling file system then syncs several files with one write of its journal.
const THREADS: usize = 8;

/// Files on their way at most, each with one descriptor or two: four for each thread.
const PENDING_MAX: usize = 32;

/// What a commit came to, or why it failed.
pub type Committed = Result<Saved, String>;

/// Commits under way, each with what is to be said about it in the end.
pub struct Commits<T> {
    workers: Vec<Worker>,
    /// How many of them there may be: fewer than [`THREADS`], once one could not be started.
    most: usize,
    pending: VecDeque<(T, Pending<Committed>)>,
    /// How many there have been.
    count: usize,
}

impl<T> Commits<T> {
    /// None yet, and no thread.
    pub fn new() -> Commits<T> {
        Commits { workers: Vec::new(), most: THREADS, pending: VecDeque::new(), count: 0 }
    }

    /// Starts one.
    pub fn start(&mut self, about: T, job: impl FnOnce() -> Committed + Send + 'static, waits: &Waits) {
        self.start_worker(waits);
        let worker = self.workers.get(self.count % self.workers.len());
        self.count += 1;
        if let Some(worker) = worker {
            self.pending.push_back((about, worker.run(job)));
        }
    }

    /// Has one more thread, if there may be more and one can be had.
    fn start_worker(&mut self, waits: &Waits) {
        if self.workers.len() >= self.most {
            return;
        }
        match Worker::start("commit", waits.waker()) {
            Ok(worker) => self.workers.push(worker),
            Err(stop) => {
                log::warn!(target: "main", "{}; continuing with {}", stop.into_error(), self.workers.len());
                if self.workers.is_empty() {
                    self.workers.push(Worker::here(waits));
                }
                self.most = self.workers.len();
            }
        }
    }

    /// Takes out one that has ended, the oldest first.
    pub fn ended(&mut self) -> Result<Option<(T, Committed)>, Stop> {
        let Some((_, pending)) = self.pending.front() else { return Ok(None) };
        let Some(result) = pending.poll()? else { return Ok(None) };
        Ok(self.pending.pop_front().map(|(about, _)| (about, result)))
    }

    /// Waits for the oldest one.
    pub fn next(&mut self, waits: &mut Waits) -> Result<Option<(T, Committed)>, Stop> {
        while !self.pending.is_empty() {
            if let Some(ended) = self.ended()? {
                return Ok(Some(ended));
            }
            waits.wait(None)?;
        }
        Ok(None)
    }

    /// Whether there are as many as there may be.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// After a signal: those that end in the time that it leaves, and those that do not.
    pub fn last(&mut self) -> Vec<(T, Option<Committed>)> {
        let end = clock::now() + SIGNAL_GRACE;
        let within = |(about, pending): (T, Pending<Committed>)| {
            let left = end.saturating_duration_since(clock::now());
            (about, pending.wait_at_most(left))
        };
        self.pending.drain(..).map(within).collect()
    }
}

/// A folder whose new names several threads want on the disk: one sync serves all who asked before it began.
pub struct Folder {
    path: PathBuf,
    syncs: Mutex<Syncs>,
    ended: Condvar,
}

/// Syncs have numbers; the one that is under way has the number `begun`.
#[derive(Default)]
struct Syncs {
    begun: u64,
    ended: u64,
    /// The last one that succeeded, and why the last one that did not failed.
    succeeded: u64,
    /// Whether the file system of that one can sync folders.
    has_effect: bool,
    failure: Option<Arc<io::Error>>,
}

impl Folder {
    /// The folder of this path.
    pub fn new(path: &Path) -> Arc<Folder> {
        Arc::new(Folder { path: path.to_path_buf(), syncs: Mutex::default(), ended: Condvar::new() })
    }

    /// Waits until every name that was there at the call is on the disk; whether the file system can do that.
    pub fn sync(&self) -> io::Result<bool> {
        let mut syncs = self.lock();
        // One that is under way may have begun before our name was there.
        let ours = syncs.begun + 1;
        while syncs.ended < ours {
            if syncs.begun == syncs.ended {
                syncs.begun += 1;
                let number = syncs.begun;
                drop(syncs);
                let result = disk::sync_folder(&self.path);
                syncs = self.lock();
                syncs.ended = number;
                match result {
                    Ok(has_effect) => (syncs.succeeded, syncs.has_effect) = (number, has_effect),
                    Err(error) => syncs.failure = Some(Arc::new(error)),
                }
                self.ended.notify_all();
            } else {
                syncs = self.ended.wait(syncs).unwrap_or_else(PoisonError::into_inner);
            }
        }
        match &syncs.failure {
            Some(error) if syncs.succeeded < ours => Err(io::Error::new(error.kind(), Arc::clone(error))),
            _ => Ok(syncs.has_effect),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Syncs> {
        // Whole after every statement.
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sync_serves_all_who_asked_before_it_began() {
        let folder = Folder::new(&std::env::temp_dir());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    (0..50).for_each(|_| assert!(folder.sync().expect("a temporary directory can be synced")))
                });
            }
        });
        let syncs = folder.lock();
        assert_eq!(syncs.begun, syncs.ended);
        assert!((50..=50 * THREADS as u64).contains(&syncs.ended), "{} syncs", syncs.ended);
    }

    #[test]
    fn a_failed_sync_is_told_to_all_whom_it_was_to_serve() {
        let folder = Folder::new(Path::new("/nonexistent"));
        for _ in 0..3 {
            let error = folder.sync().expect_err("there is no such directory");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
