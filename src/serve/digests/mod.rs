//! Digest jobs: each content of a file is hashed once, in slices, for all who wait for it; finished digests are kept.

mod cache;
mod job;
mod lanes;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::peers::Source;
use crate::file::ServedFile;
use crate::pages::Pages;
use crate::proto::digest::{Algorithm, Digest};
use cache::{Cache, Subject};
pub use job::Failure;
use job::{CHUNK, Job, Key, Share};
use lanes::{JobId, Lanes};

/// Bytes hashed on the spot, without a job, until the jobs have had their next slice: 1 ms of MD5, as much as that slice.
/// A file that is no longer than a chunk is, as long as this lasts; then it takes its turn like all others. Requests of 60
/// bytes could otherwise keep the thread from everybody else.
const ON_THE_SPOT_MAX: usize = 512 * 1024;

/// What a byte hashed on the spot costs of a turn's budget, which counts bytes sent: a turn then hashes half a millisecond
/// of MD5 at most.
const HASHING_COST: usize = 4;

/// Bytes left of a job that goes on although nobody waits for it any more, when there is nothing else to hash: half a
/// second of MD5. Whoever asks again, one second later at the earliest if it is our client, finds the digest ready.
const UNWAITED_LEFT_MAX: u64 = 256 << 20;

/// How many jobs go on so.
pub const UNWAITED_MAX: usize = 8;

/// Who waits for a digest: the reactor's number for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter(pub usize);

/// Which digests may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One that was kept at most this long ago, or however long ago; or that of a job under way.
    Kept(Option<Duration>),
    /// Only one that is made for such requests: a store through a mapping changes a file and none of its time stamps.
    Fresh,
}

/// What a connection asks for.
pub struct Asked<'a> {
    /// The file.
    pub file: &'a Rc<ServedFile>,
    /// How it is to be digested.
    pub algorithm: Algorithm,
    /// What may answer.
    pub trust: Trust,
    /// Who asks.
    pub waiter: Waiter,
    /// From where: what is hashed counts for that address.
    pub source: Source,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes hashed.
    pub hashed: u64,
    /// Whether it waits for the disk, which it does not do for ever.
    pub waits_for_disk: bool,
}

/// A job that has ended, with all who waited for it.
#[derive(Debug)]
pub struct Finished {
    /// In the order in which they asked.
    pub waiters: Vec<Waiter>,
    /// The digest, or why there is none.
    pub outcome: Result<Digest, Failure>,
}

/// All jobs and all finished digests.
///
/// A job with waiters stands in the queue of each address that they are from, and gets the turns of all of them.
pub struct Digests {
    jobs: HashMap<JobId, Job>,
    by_key: HashMap<Key, JobId>,
    /// The job that each waiter waits for: one at a time.
    waiting: HashMap<Waiter, JobId>,
    lanes: Lanes,
    /// Jobs that nobody waits for; at most [`UNWAITED_MAX`].
    unwaited: Vec<JobId>,
    /// Jobs made so far.
    made: u64,
    /// Until when no job can go on, if the last look has found none.
    idle_until: Option<Instant>,
    /// What may still be hashed on the spot; at most [`ON_THE_SPOT_MAX`].
    on_the_spot: usize,
    cache: Cache,
    buffer: Pages,
}

impl Default for Digests {
    fn default() -> Digests {
        Digests {
            jobs: HashMap::new(),
            by_key: HashMap::new(),
            waiting: HashMap::new(),
            lanes: Lanes::default(),
            unwaited: Vec::new(),
            made: 0,
            idle_until: None,
            on_the_spot: ON_THE_SPOT_MAX,
            cache: Cache::default(),
            buffer: Pages::new(CHUNK),
        }
    }
}

impl Digests {
    /// The digest of a file, or why it has none, if that is known or quickly found; what that takes counts against
    /// `budget`. Otherwise `None`: a job makes it, and the waiter will be among those of its [`Finished`].
    pub fn request(&mut self, asked: &Asked<'_>, now: Instant, budget: &mut usize) -> Option<Result<Digest, Failure>> {
        let subject = Subject { stamp: asked.file.stamp, algorithm: asked.algorithm };
        if let Trust::Kept(max_age) = asked.trust
            && let Some(digest) = self.cache.get(&subject, max_age, now)
        {
            return Some(Ok(digest));
        }
        if let Some(id) = self.under_way(subject, asked.trust) {
            self.join(id, asked);
            return None;
        }
        let is_again = asked.trust == Trust::Fresh;
        let mut job = Job::new(asked.file, asked.algorithm, is_again);
        // "Hash again" may be asked for without end, and so only ever takes its address's turns.
        if !is_again && job.left() <= self.on_the_spot.min(CHUNK) as u64 {
            // One step reads all there is of it; another finds that this is less than its size.
            let mut outcome = job.step(&mut self.buffer, now);
            if outcome.is_none() && job.offset > 0 {
                outcome = job.step(&mut self.buffer, now);
            }
            let hashed = usize::try_from(job.offset).unwrap_or(CHUNK);
            self.on_the_spot = self.on_the_spot.saturating_sub(hashed);
            *budget = budget.saturating_sub(hashed * HASHING_COST);
            if let Some(outcome) = outcome {
                if let Ok(digest) = outcome {
                    self.keep(&job, digest, now);
                }
                return Some(outcome);
            }
        }
        self.made += 1;
        let id = JobId(self.made);
        self.by_key.insert(job.key, id);
        self.jobs.insert(id, job);
        self.join(id, asked);
        None
    }

    /// The job whose digest may answer, if there is one.
    fn under_way(&self, subject: Subject, trust: Trust) -> Option<JobId> {
        let job = |is_again| self.by_key.get(&Key { subject, is_again }).copied();
        match trust {
            Trust::Fresh => job(true),
            Trust::Kept(_) => job(false).or_else(|| job(true)),
        }
    }

    /// Lets one more wait for a job.
    fn join(&mut self, id: JobId, asked: &Asked<'_>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.unwaited.retain(|unwaited| *unwaited != id);
        self.waiting.insert(asked.waiter, id);
        job.waiters.push((asked.waiter, asked.source));
        let (left, is_again, is_asleep) = (job.left(), job.key.is_again, job.is_asleep());
        let share = job.shares.entry(asked.source).or_insert_with(|| {
            let mut position = self.lanes.add(asked.source, id, left, is_again);
            if is_asleep {
                self.lanes.set_asleep(asked.source, &mut position, is_again, true);
            }
            Share { position, waiters: 0 }
        });
        share.waiters += 1;
        self.idle_until = None;
    }

    /// How far the job is that somebody waits for.
    pub fn progress(&self, waiter: Waiter) -> Option<Progress> {
        let job = self.jobs.get(self.waiting.get(&waiter)?)?;
        Some(Progress { hashed: job.offset, waits_for_disk: job.waits_for_disk() })
    }

    /// Says that a connection waits for nothing any more, if it did.
    pub fn leave(&mut self, waiter: Waiter) {
        let Some(id) = self.waiting.remove(&waiter) else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(at) = job.waiters.iter().position(|(other, _)| *other == waiter) else { return };
        let (_, source) = job.waiters.remove(at);
        if let Some(share) = job.shares.get_mut(&source) {
            share.waiters -= 1;
            if share.waiters == 0 {
                self.lanes.remove(source, share.position, job.key.is_again);
                job.shares.remove(&source);
            }
        }
        if job.waiters.is_empty() {
            self.abandon(id);
        }
        self.idle_until = None;
    }

    /// Decides about a job that nobody waits for any more: it goes on if it has begun, is nearly done and one of few. One
    /// that hashes again what is known is of use to nobody else.
    fn abandon(&mut self, id: JobId) {
        let is_of_use = |job: &Job| job.offset > 0 && !job.key.is_again && job.left() <= UNWAITED_LEFT_MAX;
        if !self.jobs.get(&id).is_some_and(is_of_use) {
            self.end(id);
            return;
        }
        self.unwaited.push(id);
        if self.unwaited.len() > UNWAITED_MAX {
            // The one with the most left to do is the least likely to be of use.
            let left = |id: &JobId| self.jobs.get(id).map(Job::left);
            if let Some(longest) = self.unwaited.iter().copied().max_by_key(left) {
                self.end(longest);
            }
        }
    }

    /// Jobs under way or queued.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is no job.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// When a job can go on: at once (`now`), later, or, without any job, never.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        (!self.is_empty()).then(|| self.idle_until.unwrap_or(now))
    }

    /// Hashes for about `budget`; returns the jobs that ended. `clock` is read between chunks.
    pub fn run(&mut self, budget: Duration, mut clock: impl FnMut() -> Instant) -> Vec<Finished> {
        self.on_the_spot = ON_THE_SPOT_MAX;
        let mut finished = Vec::new();
        let mut now = clock();
        let end = now + budget;
        while now < end {
            let Some((source, id)) = self.next_job(now) else { break };
            finished.extend(self.step(source, id, now));
            now = clock();
        }
        finished
    }

    /// The next job that can go on, with the address whose turn it is; one that nobody waits for if there is no other.
    fn next_job(&mut self, now: Instant) -> Option<(Option<Source>, JobId)> {
        if self.idle_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut soonest: Option<Instant> = None;
        let mut is_ready = |id| {
            let Some(job) = self.jobs.get(&id) else { return false };
            let paused = job.paused_until.filter(|until| now < *until);
            soonest = soonest.into_iter().chain(paused).min();
            paused.is_none()
        };
        let waited = self.lanes.next(&mut is_ready).map(|(source, id)| (Some(source), id));
        let next = waited.or_else(|| Some((None, self.unwaited.iter().copied().find(|id| is_ready(*id))?)));
        // Whatever changes that sets it back.
        self.idle_until = if next.is_none() { soonest } else { None };
        next
    }

    /// Hashes a chunk of a job.
    fn step(&mut self, source: Option<Source>, id: JobId, now: Instant) -> Option<Finished> {
        let job = self.jobs.get_mut(&id)?;
        let (before, was_asleep) = (job.offset, job.is_asleep());
        let outcome = job.step(&mut self.buffer, now);
        if let Some(source) = source {
            self.lanes.end_turn(source, job.offset - before);
        }
        let Some(outcome) = outcome else {
            let (is_asleep, is_again) = (job.is_asleep(), job.key.is_again);
            if is_asleep != was_asleep {
                for (source, share) in &mut job.shares {
                    self.lanes.set_asleep(*source, &mut share.position, is_again, is_asleep);
                }
            }
            return None;
        };
        let job = self.end(id)?;
        if let Ok(digest) = outcome {
            self.keep(&job, digest, now);
        }
        let waiters: Vec<Waiter> = job.waiters.iter().map(|(waiter, _)| *waiter).collect();
        for waiter in &waiters {
            self.waiting.remove(waiter);
        }
        Some(Finished { waiters, outcome })
    }

    /// Forgets a job.
    fn end(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.by_key.remove(&job.key);
        self.unwaited.retain(|unwaited| *unwaited != id);
        for (source, share) in &job.shares {
            self.lanes.remove(*source, share.position, job.key.is_again);
        }
        Some(job)
    }

    /// Panics if what is noted of the jobs and of who waits for them does not fit together.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.by_key.len(), self.jobs.len());
        for (id, job) in &self.jobs {
            assert_eq!(self.by_key[&job.key], *id);
            assert!(job.waiters.iter().all(|(waiter, _)| self.waiting[waiter] == *id));
            assert_eq!(job.waiters.is_empty(), self.unwaited.contains(id));
            assert_eq!(job.shares.values().map(|share| share.waiters).sum::<usize>(), job.waiters.len());
        }
        assert_eq!(self.waiting.len(), self.jobs.values().map(|job| job.waiters.len()).sum::<usize>());
        assert_eq!(self.lanes.len(), self.jobs.values().map(|job| job.shares.len()).sum::<usize>());
        assert!(self.unwaited.len() <= UNWAITED_MAX);
    }

    /// Keeps the digest that a job has made, unless the file may have changed again within the same time stamp.
    fn keep(&mut self, job: &Job, digest: Digest, now: Instant) {
        if job.is_settled {
            self.cache.keep(job.key.subject, digest, now);
        }
    }
}

#[cfg(test)]
mod tests;
