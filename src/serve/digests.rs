//! Digest jobs: each content of a file is hashed once, in slices, for all who wait for it; finished digests are kept.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::file::{Patience, Ready, ServedFile, Stamp};
use crate::pages::Pages;
use crate::proto::digest::{Algorithm, Digest, Hasher};

/// Bytes hashed between two looks at the clock: 0.2 ms of MD5. A file of up to this size that is in memory is hashed
/// on the spot, without a job.
const CHUNK: usize = 128 * 1024;

/// What a byte hashed on the spot costs of a turn's budget, which counts bytes sent: a turn then hashes half a millisecond
/// of MD5 at most.
const HASHING_COST: usize = 4;

/// Jobs hashed at the same time; the rest queue.
const RUNNING_MAX: usize = 64;

/// Bytes that a job hashes before it makes room for one in the queue, if there is any: then the 64 take half a second
/// of MD5. A pause for the disk counts as [`PAUSE_COST`] of them, so that a dead disk does not hold all places.
const QUANTUM: u64 = 4 << 20;
const PAUSE_COST: u64 = 256 << 10;

/// Jobs that go on although nobody waits for them any more: their next client finds the digest ready.
pub const UNWAITED_MAX: usize = 8;

/// Finished digests kept, at some 200 bytes each.
const CACHE_MAX: usize = 16_384;

/// A file that changed less than this before hashing began may have changed again within the same time stamp: the
/// coarsest that file systems in use have is 2 s (FAT).
const SETTLED: Duration = Duration::from_secs(2);

/// Who waits for a digest: the reactor's number for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter(pub usize);

/// Why a digest cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file is not what it was when hashing began.
    Changed,
    /// It cannot be read, and why.
    Unreadable(String),
}

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
}

/// What has a digest: a content of a file, and the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Subject {
    stamp: Stamp,
    algorithm: Algorithm,
}

/// What jobs are told apart by: one that was begun for those who trust no other stands beside the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    subject: Subject,
    fresh: bool,
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
pub struct Digests {
    jobs: HashMap<Key, Job>,
    /// The job that each waiter waits for: one at a time.
    waiting: HashMap<Waiter, Key>,
    /// In turn; at most [`RUNNING_MAX`].
    running: VecDeque<Key>,
    /// In the order of arrival, those that have had their quantum behind; each has a waiter.
    queued: VecDeque<Key>,
    /// Whether the next one from the queue is the one with the least left to do, and not the first.
    prefers_short: bool,
    /// Whether the running job that is hashed next is the one with the least left, and not the next in turn.
    runs_short: bool,
    cache: Cache,
    buffer: Pages,
}

struct Job {
    file: Rc<ServedFile>,
    hasher: Hasher,
    /// Bytes hashed; 0 <= offset <= size.
    offset: u64,
    waiters: Vec<Waiter>,
    patience: Patience,
    /// Not to be looked at before this, since its bytes are on their way from the disk.
    paused_until: Option<Instant>,
    settled: bool,
    /// Bytes until it makes room for another.
    quantum: u64,
}

impl Default for Digests {
    fn default() -> Digests {
        Digests {
            jobs: HashMap::new(),
            waiting: HashMap::new(),
            running: VecDeque::new(),
            queued: VecDeque::new(),
            prefers_short: true,
            runs_short: false,
            cache: Cache::default(),
            buffer: Pages::new(CHUNK),
        }
    }
}

impl Digests {
    /// The digest of a file, if it is known or quickly made; what that takes counts against `budget`. Otherwise
    /// `None`: a job makes it, and the waiter will be among those of its [`Finished`].
    pub fn request(&mut self, asked: &Asked<'_>, now: Instant, budget: &mut usize) -> Option<Digest> {
        let waiter = asked.waiter;
        let subject = Subject { stamp: asked.file.stamp, algorithm: asked.algorithm };
        if let Trust::Kept(max_age) = asked.trust
            && let Some(digest) = self.cache.get(&subject, max_age, now)
        {
            return Some(digest);
        }
        if let Some(key) = self.under_way(subject, asked.trust)
            && let Some(job) = self.jobs.get_mut(&key)
        {
            job.waiters.push(waiter);
            self.waiting.insert(waiter, key);
            return None;
        }
        let mut job = Job::new(Rc::clone(asked.file), asked.algorithm, waiter);
        if subject.stamp.size <= CHUNK as u64 {
            // One step reads all there is of it.
            let outcome = job.step(&mut self.buffer, now);
            let hashed = usize::try_from(job.offset).unwrap_or(CHUNK);
            *budget = budget.saturating_sub(hashed * HASHING_COST);
            if let Some(Ok(digest)) = outcome {
                self.cache.keep(subject, &job, digest, now);
                return Some(digest);
            }
        }
        let key = Key { subject, fresh: asked.trust == Trust::Fresh };
        self.jobs.insert(key, job);
        self.waiting.insert(waiter, key);
        match self.running.len() < RUNNING_MAX {
            true => self.running.push_back(key),
            false => self.queued.push_back(key),
        }
        None
    }

    /// The job whose digest may answer, if there is one.
    fn under_way(&self, subject: Subject, trust: Trust) -> Option<Key> {
        let [fresh, usual] = [true, false].map(|fresh| Key { subject, fresh });
        match trust {
            Trust::Fresh => Some(fresh),
            Trust::Kept(_) => [usual, fresh].into_iter().find(|key| self.jobs.contains_key(key)),
        }
    }

    /// How far the job is that somebody waits for.
    pub fn progress(&self, waiter: Waiter) -> Option<Progress> {
        let job = self.jobs.get(self.waiting.get(&waiter)?)?;
        Some(Progress { hashed: job.offset, waits_for_disk: job.patience.is_waiting() })
    }

    /// Says that a connection waits for nothing any more, if it did.
    pub fn leave(&mut self, waiter: Waiter) {
        let Some(key) = self.waiting.remove(&waiter) else { return };
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.waiters.retain(|other| *other != waiter);
        if job.waiters.is_empty() {
            self.abandon(&key);
        }
    }

    /// Decides about a job that nobody waits for any more: it goes on if it has begun and is one of few.
    fn abandon(&mut self, key: &Key) {
        if let Some(at) = self.queued.iter().position(|queued| queued == key) {
            self.queued.remove(at);
            self.jobs.remove(key);
            return;
        }
        let is_unwaited = |key: &Key| self.jobs.get(key).is_some_and(|job| job.waiters.is_empty());
        let unwaited: Vec<Key> = self.running.iter().copied().filter(is_unwaited).collect();
        if unwaited.len() > UNWAITED_MAX {
            // The one with the most left to do is the least likely to be of use before it is dropped anyway.
            if let Some(longest) = unwaited.into_iter().max_by_key(|key| self.left(key)) {
                self.end(&longest);
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
        let at = |key| self.jobs.get(key).map(|job: &Job| job.paused_until.unwrap_or(now));
        self.running.iter().filter_map(at).min()
    }

    /// Hashes for about `budget`; returns the jobs that ended. `clock` is read between chunks.
    pub fn run(&mut self, budget: Duration, mut clock: impl FnMut() -> Instant) -> Vec<Finished> {
        let mut finished = Vec::new();
        let mut now = clock();
        let end = now + budget;
        while now < end {
            let Some(key) = self.next_job(now) else { break };
            // `next_job` names only jobs that exist.
            let Some(job) = self.jobs.get_mut(&key) else { break };
            if let Some(outcome) = job.step(&mut self.buffer, now) {
                if let Ok(digest) = outcome {
                    self.cache.keep(key.subject, job, digest, now);
                }
                let waiters = std::mem::take(&mut job.waiters);
                for waiter in &waiters {
                    self.waiting.remove(waiter);
                }
                finished.push(Finished { waiters, outcome });
                self.end(&key);
            } else if job.quantum == 0 {
                job.quantum = QUANTUM;
                self.make_room(key);
            }
            now = clock();
        }
        finished
    }

    /// The next job in turn that can go on: one that someone waits for, if there is any.
    fn next_job(&mut self, now: Instant) -> Option<Key> {
        let can_go = |key: &Key, waited: bool| {
            self.jobs.get(key).is_some_and(|job| {
                job.paused_until.is_none_or(|until| until <= now) && job.waiters.is_empty() != waited
            })
        };
        // Every second time the one that is done soonest: a few clients that have huge files hashed, and wait for nothing
        // else, would slow down all others by as many times.
        self.runs_short = !self.runs_short;
        let runs_short = self.runs_short;
        let find = |waited| {
            let mut able = self.running.iter().enumerate().filter(|(_, key)| can_go(key, waited));
            match runs_short {
                true => able.min_by_key(|(_, key)| self.left(key)).map(|(at, _)| at),
                false => able.next().map(|(at, _)| at),
            }
        };
        let at = find(true).or_else(|| find(false))?;
        let key = self.running.remove(at)?;
        self.running.push_back(key);
        Some(key)
    }

    /// Bytes of a job that are still to be hashed.
    fn left(&self, key: &Key) -> Option<u64> {
        self.jobs.get(key).map(|job| key.subject.stamp.size.saturating_sub(job.offset))
    }

    /// Forgets a running job, and starts one from the queue in its place.
    fn end(&mut self, key: &Key) {
        self.jobs.remove(key);
        self.running.retain(|running| running != key);
        self.start_queued();
    }

    /// Puts a running job behind those that queue, if any do. One that nobody waits for is forgotten then.
    fn make_room(&mut self, key: Key) {
        if self.queued.is_empty() {
            return;
        }
        if self.jobs.get(&key).is_none_or(|job| job.waiters.is_empty()) {
            return self.end(&key);
        }
        self.running.retain(|running| *running != key);
        self.queued.push_back(key);
        self.start_queued();
    }

    /// Starts a job from the queue: in turn the first one, which so waits for a bounded time, and the one with the least
    /// left, so that a small file does not wait for all the large ones before it.
    fn start_queued(&mut self) {
        self.prefers_short = !self.prefers_short;
        let at = match self.prefers_short {
            true => self.queued.iter().enumerate().min_by_key(|(_, key)| self.left(key)).map_or(0, |(at, _)| at),
            false => 0,
        };
        self.running.extend(self.queued.remove(at));
    }
}

impl Job {
    fn new(file: Rc<ServedFile>, algorithm: Algorithm, waiter: Waiter) -> Job {
        let settled = !file.stamp.is_younger_than(SETTLED, SystemTime::now());
        Job {
            file,
            hasher: Hasher::new(algorithm),
            offset: 0,
            waiters: vec![waiter],
            patience: Patience::default(),
            paused_until: None,
            settled,
            quantum: QUANTUM,
        }
    }

    /// Hashes one chunk; `Some` once the job has ended.
    fn step(&mut self, buffer: &mut [u8], now: Instant) -> Option<Result<Digest, Failure>> {
        let size = self.file.stamp.size;
        let len = usize::try_from(size - self.offset).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..len)?;
        if !chunk.is_empty() {
            match self.file.read_ready(chunk, self.offset, &mut self.patience) {
                Ready::Bytes(n) => {
                    self.paused_until = None;
                    self.hasher.update(chunk.get(..n)?);
                    self.offset += n as u64;
                    self.quantum = self.quantum.saturating_sub(n as u64);
                }
                Ready::NotYet => {
                    self.paused_until = Some(self.patience.look_again_at(now));
                    self.quantum = self.quantum.saturating_sub(PAUSE_COST);
                    return None;
                }
                Ready::End => return Some(Err(Failure::Changed)),
                Ready::Failed(error) => return Some(Err(Failure::Unreadable(crate::error::reason(&error)))),
            }
        }
        if self.offset < size {
            return None;
        }
        match self.file.is_unchanged() {
            true => Some(Ok(self.hasher.clone().finish())),
            false => Some(Err(Failure::Changed)),
        }
    }
}

/// Finished digests, the oldest dropped first.
#[derive(Default)]
struct Cache {
    digests: HashMap<Subject, (Digest, Instant)>,
    order: VecDeque<Subject>,
}

impl Cache {
    fn get(&self, subject: &Subject, max_age: Option<Duration>, now: Instant) -> Option<Digest> {
        let (digest, made) = self.digests.get(subject)?;
        max_age.is_none_or(|max_age| now.duration_since(*made) <= max_age).then_some(*digest)
    }

    fn keep(&mut self, subject: Subject, job: &Job, digest: Digest, now: Instant) {
        if !job.settled {
            return;
        }
        if self.digests.insert(subject, (digest, now)).is_none() {
            self.order.push_back(subject);
        }
        if self.order.len() > CACHE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    use crate::root::{Directory, Root};

    const AGE: Duration = Duration::from_secs(600);

    /// Asks for the MD5 of a file, whatever it costs.
    fn ask(digests: &mut Digests, file: &Rc<ServedFile>, waiter: usize, now: Instant) -> Option<Digest> {
        ask_with(digests, file, Algorithm::Md5, Trust::Kept(Some(AGE)), Waiter(waiter), now)
    }

    fn ask_with(
        digests: &mut Digests,
        file: &Rc<ServedFile>,
        algorithm: Algorithm,
        trust: Trust,
        waiter: Waiter,
        now: Instant,
    ) -> Option<Digest> {
        let mut budget = usize::MAX;
        digests.request(&Asked { file, algorithm, trust, waiter }, now, &mut budget)
    }

    /// A folder with a file of zeros in it, which may look old.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("xfer-digests-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("the temporary folder can be made");
            Folder(path)
        }

        fn file(&self, name: &str, size: u64) -> Rc<ServedFile> {
            let file = fs::File::create(self.0.join(name)).expect("a file can be made");
            file.set_len(size).expect("it can have a size");
            let mut root = Root::open(&self.0, false, None, &Rc::new(())).expect("the folder can be served");
            root.file(name.as_bytes(), Instant::now()).expect("it is there").file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn run_all(digests: &mut Digests) -> Vec<Finished> {
        std::iter::from_fn(|| (!digests.is_empty()).then(|| digests.run(DIGEST_SLICE, Instant::now)))
            .flatten()
            .collect()
    }

    const DIGEST_SLICE: Duration = Duration::from_millis(1);

    #[test]
    fn one_job_serves_all_who_wait_for_the_same_version() {
        let folder = Folder::new("shared");
        let (file, other) = (folder.file("a", 3 << 20), folder.file("b", 2 << 20));
        let mut digests = Digests::default();
        let now = Instant::now();
        for waiter in 0..20 {
            assert_eq!(ask(&mut digests, &file, waiter, now), None);
        }
        assert_eq!(ask(&mut digests, &other, 99, now), None);
        assert_eq!(digests.len(), 2);
        let mut finished = run_all(&mut digests);
        finished.sort_by_key(|finished| finished.waiters.len());
        assert_eq!(finished[0].waiters, [Waiter(99)]);
        assert_eq!(finished[1].waiters, (0..20).map(Waiter).collect::<Vec<_>>());
        let digest = finished[1].outcome.clone().expect("a digest");
        assert_eq!(digest.to_string(), "d1dd210d6b1312cb342b56d02bd5e651", "MD5 of 3 MiB of zeros");
    }

    #[test]
    fn what_has_just_changed_is_not_kept_and_what_is_kept_grows_old() {
        let folder = Folder::new("kept");
        let file = folder.file("a", 1000);
        let mut digests = Digests::default();
        let now = Instant::now();
        assert!(ask(&mut digests, &file, 1, now).is_some(), "small: on the spot");
        assert!(digests.cache.digests.is_empty(), "its last change is less than {SETTLED:?} ago");
        let subject = Subject { stamp: file.stamp, algorithm: Algorithm::Md5 };
        let mut job = Job::new(file, Algorithm::Md5, Waiter(1));
        job.settled = true;
        let digest = Hasher::new(Algorithm::Md5).finish();
        digests.cache.keep(subject, &job, digest, now);
        let later = now + AGE + DIGEST_SLICE;
        assert_eq!(digests.cache.get(&subject, Some(AGE), now + AGE), Some(digest));
        assert_eq!(digests.cache.get(&subject, Some(AGE), later), None);
        assert_eq!(digests.cache.get(&subject, None, later), Some(digest), "without a limit of age");
        let other = Subject { algorithm: Algorithm::Blake3, ..subject };
        assert_eq!(digests.cache.get(&other, None, now), None, "another algorithm");
    }

    #[test]
    fn a_small_file_does_not_wait_for_all_the_large_ones_before_it() {
        let folder = Folder::new("fair");
        let mut digests = Digests::default();
        let now = Instant::now();
        for n in 0..3 * RUNNING_MAX {
            let large = folder.file(&format!("large-{n}"), 1 << 40);
            assert_eq!(ask(&mut digests, &large, n, now), None);
        }
        let small = folder.file("small", 1 << 20);
        assert_eq!(ask(&mut digests, &small, 9999, now), None);
        // Its turn comes when the first 64 have had their quanta, and takes 8 rounds of all.
        let chunks = RUNNING_MAX as u64 * QUANTUM / CHUNK as u64 + 16 * RUNNING_MAX as u64;
        let step = Duration::from_millis(1);
        let mut clock = (0..).map(|n| now + step * n);
        let budget = step * u32::try_from(chunks).expect("a few thousand");
        let finished = digests.run(budget, || clock.next().expect("endless"));
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].waiters, [Waiter(9999)]);
    }

    #[test]
    fn a_smaller_file_gets_half_the_time_beside_many_huge_ones() {
        let folder = Folder::new("half");
        let mut digests = Digests::default();
        let now = Instant::now();
        for n in 0..RUNNING_MAX - 1 {
            let large = folder.file(&format!("large-{n}"), 1 << 40);
            assert_eq!(ask(&mut digests, &large, n, now), None);
        }
        let (small, chunks) = (folder.file("small", 8 << 20), (8 << 20) / CHUNK);
        assert_eq!(ask(&mut digests, &small, 9999, now), None);
        let step = Duration::from_millis(1);
        let mut clock = (0..).map(|n| now + step * n);
        let budget = step * u32::try_from(2 * chunks + 3).expect("some hundreds");
        let finished = digests.run(budget, || clock.next().expect("endless"));
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].waiters, [Waiter(9999)]);
    }

    #[test]
    fn jobs_that_nobody_waits_for_are_few() {
        let folder = Folder::new("unwaited");
        let mut digests = Digests::default();
        let now = Instant::now();
        let files: Vec<_> = (0..RUNNING_MAX + 20).map(|n| folder.file(&n.to_string(), 1 << 20)).collect();
        for (n, file) in files.iter().enumerate() {
            assert_eq!(ask(&mut digests, file, n, now), None);
        }
        assert_eq!((digests.running.len(), digests.queued.len()), (RUNNING_MAX, 20));
        for n in 0..files.len() {
            digests.leave(Waiter(n));
        }
        assert!(digests.waiting.is_empty());
        assert!(digests.len() <= UNWAITED_MAX, "{} jobs", digests.len());
        assert_eq!(digests.len(), digests.running.len());
        assert!(run_all(&mut digests).iter().all(|finished| finished.waiters.is_empty()));
    }

    #[test]
    fn a_file_that_changes_under_a_job_has_no_digest() {
        let folder = Folder::new("changed");
        let file = folder.file("a", 1 << 20);
        let mut digests = Digests::default();
        ask(&mut digests, &file, 1, Instant::now());
        folder.file("a", 1000);
        let finished = run_all(&mut digests);
        assert_eq!(finished[0].outcome, Err(Failure::Changed));
    }

    #[test]
    fn each_algorithm_has_a_job_of_its_own_and_tells_how_far_it_is() {
        let folder = Folder::new("algorithms");
        let file = folder.file("a", 3 << 20);
        let mut digests = Digests::default();
        let now = Instant::now();
        for (number, algorithm) in [Algorithm::Md5, Algorithm::Blake3].into_iter().enumerate() {
            assert_eq!(ask_with(&mut digests, &file, algorithm, Trust::Kept(None), Waiter(number), now), None);
        }
        assert_eq!(digests.len(), 2);
        let hashed = |digests: &Digests, waiter| digests.progress(Waiter(waiter)).map(|progress| progress.hashed);
        assert_eq!(hashed(&digests, 1), Some(0));
        let mut clock = [now, now, now, now + DIGEST_SLICE].into_iter();
        digests.run(DIGEST_SLICE, || clock.next().expect("three steps"));
        assert_eq!(hashed(&digests, 0), Some(2 * CHUNK as u64), "in turn");
        assert_eq!((hashed(&digests, 1), hashed(&digests, 2)), (Some(CHUNK as u64), None));
        let made: Vec<_> =
            run_all(&mut digests).into_iter().map(|finished| (finished.waiters, finished.outcome)).collect();
        for (waiters, outcome) in made {
            let algorithm = outcome.expect("a digest").algorithm();
            assert_eq!(waiters, [Waiter(if algorithm == Algorithm::Md5 { 0 } else { 1 })]);
        }
    }

    /// Neither what was kept nor a job under way may answer; those who trust nothing share a job.
    #[test]
    fn a_fresh_digest_is_made_once_for_all_who_want_one_and_replaces_the_kept_one() {
        let folder = Folder::new("fresh");
        let file = folder.file("a", 3 << 20);
        let subject = Subject { stamp: file.stamp, algorithm: Algorithm::Md5 };
        let mut digests = Digests::default();
        let now = Instant::now();
        let fresh =
            |digests: &mut Digests, waiter| ask_with(digests, &file, Algorithm::Md5, Trust::Fresh, Waiter(waiter), now);
        assert_eq!(ask(&mut digests, &file, 1, now), None);
        assert_eq!((fresh(&mut digests, 2), fresh(&mut digests, 3)), (None, None));
        assert_eq!(digests.len(), 2, "a usual job and a fresh one");
        digests.jobs.values_mut().for_each(|job| job.settled = true);
        run_all(&mut digests);
        let kept = digests.cache.get(&subject, None, now).expect("kept");
        digests.cache.digests.insert(subject, (Hasher::new(Algorithm::Md5).finish(), now));
        assert_eq!(fresh(&mut digests, 4), None, "not from the cache");
        digests.jobs.values_mut().for_each(|job| job.settled = true);
        let finished = run_all(&mut digests);
        assert_eq!((&finished[0].waiters[..], &finished[0].outcome), (&[Waiter(4)][..], &Ok(kept)));
        assert_eq!(digests.cache.get(&subject, None, now), Some(kept));
        assert_eq!(digests.cache.order.len(), 1);
    }

    #[test]
    fn what_is_hashed_on_the_spot_costs_its_bytes() {
        let folder = Folder::new("cost");
        let file = folder.file("a", 1000);
        let asked = Asked { file: &file, algorithm: Algorithm::Blake3, trust: Trust::Kept(None), waiter: Waiter(1) };
        let mut budget = 2500 * HASHING_COST;
        for left in [1500, 500, 0] {
            assert!(Digests::default().request(&asked, Instant::now(), &mut budget).is_some());
            assert_eq!(budget, left * HASHING_COST);
        }
    }
}
