//! Digest jobs of real files, with a clock that the tests set.

use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::*;
use crate::file::{self, Stamp};
use crate::proto::digest::Hasher;
use crate::root::{Directory, Root};

const AGE: Duration = Duration::from_secs(600);
const MIB: u64 = 1 << 20;

/// Asks for the MD5 of a file from one address, whatever it costs.
fn ask(digests: &mut Digests, file: &Rc<ServedFile>, waiter: usize, now: Instant) -> Option<Digest> {
    ask_from(1, digests, file, waiter, now)
}

/// The same from any address.
fn ask_from(n: u8, digests: &mut Digests, file: &Rc<ServedFile>, waiter: usize, now: Instant) -> Option<Digest> {
    let (algorithm, trust, waiter) = (Algorithm::Md5, Trust::Kept(Some(AGE)), Waiter(waiter));
    let asked = Asked { file, algorithm, trust, waiter, source: source(n) };
    digests.request(&asked, now, &mut { usize::MAX }).map(|outcome| outcome.expect("it can be read"))
}

fn ask_with(
    digests: &mut Digests,
    file: &Rc<ServedFile>,
    algorithm: Algorithm,
    trust: Trust,
    waiter: usize,
    now: Instant,
) -> Option<Digest> {
    let (waiter, source) = (Waiter(waiter), source(1));
    let asked = Asked { file, algorithm, trust, waiter, source };
    digests.request(&asked, now, &mut { usize::MAX }).map(|outcome| outcome.expect("it can be read"))
}

fn source(n: u8) -> Source {
    Source::V4([192, 0, 2, n].into())
}

/// A folder with files of zeros in it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("xfer-digests-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory can be made");
        Folder(path)
    }

    fn file(&self, name: &str, size: u64) -> Rc<ServedFile> {
        let file = fs::File::create(self.0.join(name)).expect("a file can be made");
        file.set_len(size).expect("it can have a size");
        let mut root = Root::open(&self.0, false, None, &Rc::new(())).expect("the directory can be served");
        root.file(name.as_bytes(), Instant::now()).expect("it is there").file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DIGEST_SLICE: Duration = Duration::from_millis(1);

fn run_all(digests: &mut Digests) -> Vec<Finished> {
    std::iter::from_fn(|| (!digests.is_empty()).then(|| digests.run(DIGEST_SLICE, Instant::now))).flatten().collect()
}

/// Hashes so many chunks.
fn run_chunks(digests: &mut Digests, chunks: u64, now: Instant) -> Vec<Finished> {
    let mut clock = (0..).map(|n| now + Duration::from_millis(n));
    digests.run(Duration::from_millis(chunks), || clock.next().expect("endless"))
}

fn hashed(digests: &Digests, waiter: usize) -> Option<u64> {
    digests.progress(Waiter(waiter)).map(|progress| progress.hashed)
}

/// Nothing may be left of jobs that have ended.
fn assert_empty(digests: &Digests) {
    digests.check();
    assert!(digests.is_empty() && digests.waiting.is_empty());
}

#[test]
fn one_job_serves_all_who_wait_for_the_same_version() {
    let folder = Folder::new("shared");
    let (file, other) = (folder.file("a", 3 * MIB), folder.file("b", 2 * MIB));
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
    assert_empty(&digests);
}

#[test]
fn what_has_just_changed_is_not_kept() {
    let folder = Folder::new("kept");
    let file = folder.file("a", 1000);
    let mut digests = Digests::default();
    let now = Instant::now();
    assert!(ask(&mut digests, &file, 1, now).is_some(), "small: on the spot");
    assert_eq!(digests.cache.len(), 0, "its last change is less than {:?} ago", job::SETTLED);
    let mut job = Job::new(&file, Algorithm::Md5, false);
    job.is_settled = true;
    digests.keep(&job, Hasher::new(Algorithm::Md5).finish(), now);
    assert_eq!(digests.cache.len(), 1);
}

/// However many jobs an address has, another one's get every second chunk.
#[test]
fn an_address_with_many_jobs_does_not_slow_down_another() {
    let folder = Folder::new("fair");
    let mut digests = Digests::default();
    let now = Instant::now();
    for n in 0..500 {
        let file = folder.file(&format!("many-{n}"), 300_000);
        assert_eq!(ask_with(&mut digests, &file, Algorithm::Md5, Trust::Fresh, n, now), None);
    }
    let (large, chunks) = (folder.file("large", 8 * MIB), 8 * MIB / CHUNK as u64);
    assert_eq!(ask_from(2, &mut digests, &large, 9999, now), None);
    let finished = run_chunks(&mut digests, 2 * chunks, now);
    let of_large = finished.iter().position(|finished| finished.waiters == [Waiter(9999)]);
    assert_eq!(of_large, Some(finished.len() - 1), "the last of {finished:?}");
}

#[test]
fn many_addresses_with_huge_jobs_take_equal_parts() {
    let folder = Folder::new("huge");
    let mut digests = Digests::default();
    let now = Instant::now();
    for n in 0..200 {
        assert_eq!(ask_from(n, &mut digests, &folder.file(&n.to_string(), 1 << 40), usize::from(n), now), None);
    }
    assert_eq!(ask_from(200, &mut digests, &folder.file("small", MIB), 200, now), None);
    let finished = run_chunks(&mut digests, 201 * 8, now);
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].waiters, [Waiter(200)], "8 chunks of it, and 8 of each other");
    assert!((0..200).all(|n| hashed(&digests, n) == Some(MIB)));
}

/// Among the files of one address the small one is first, and it does not make the large ones wait for ever.
#[test]
fn a_small_file_does_not_wait_for_the_large_ones_of_its_address() {
    let folder = Folder::new("small");
    let mut digests = Digests::default();
    let now = Instant::now();
    for n in 0..200 {
        assert_eq!(ask(&mut digests, &folder.file(&format!("large-{n}"), 1 << 40), n, now), None);
    }
    run_chunks(&mut digests, 100, now);
    assert_eq!(ask(&mut digests, &folder.file("small", MIB), 9999, now), None);
    let finished = run_chunks(&mut digests, 8, now);
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].waiters, [Waiter(9999)]);
}

/// A job has the turns of all addresses that wait for it, as long as they do.
#[test]
fn a_shared_job_belongs_to_every_address_that_waits() {
    let folder = Folder::new("joined");
    let mut digests = Digests::default();
    let now = Instant::now();
    let (shared, own) = (folder.file("shared", 100 * MIB), folder.file("own", 200 * MIB));
    for n in 1..=2 {
        assert_eq!(ask_from(n, &mut digests, &shared, usize::from(n), now), None);
    }
    // Twice from one address is not two addresses.
    assert_eq!(ask_from(2, &mut digests, &shared, 20, now), None);
    assert_eq!(ask_from(3, &mut digests, &own, 3, now), None);
    run_chunks(&mut digests, 30, now);
    let chunks = |digests: &Digests, waiter| hashed(digests, waiter).map(|bytes| bytes / CHUNK as u64);
    assert_eq!([1, 3].map(|waiter| chunks(&digests, waiter)), [Some(20), Some(10)]);
    digests.leave(Waiter(2));
    run_chunks(&mut digests, 30, now);
    assert_eq!([1, 3].map(|waiter| chunks(&digests, waiter)), [Some(40), Some(20)]);
    digests.leave(Waiter(20));
    run_chunks(&mut digests, 30, now);
    assert_eq!([1, 3].map(|waiter| chunks(&digests, waiter)), [Some(55), Some(35)]);
    [1, 3].into_iter().for_each(|waiter| digests.leave(Waiter(waiter)));
    assert_eq!(digests.len(), 2, "100 and 200 MiB are little");
    run_all(&mut digests);
    assert_empty(&digests);
}

#[test]
fn a_job_that_nobody_waits_for_ends_unless_little_is_left() {
    let folder = Folder::new("unwaited");
    let now = Instant::now();
    let cases = [
        (8 << 40, 1, Trust::Kept(None), 0),
        (UNWAITED_LEFT_MAX + CHUNK as u64 + 1, 1, Trust::Kept(None), 0),
        (UNWAITED_LEFT_MAX + CHUNK as u64, 1, Trust::Kept(None), 1),
        (MIB, 1, Trust::Kept(None), 1),
        (MIB, 0, Trust::Kept(None), 0),
        (MIB, 1, Trust::Fresh, 0),
    ];
    for (size, chunks, trust, left) in cases {
        let mut digests = Digests::default();
        let file = folder.file("a", size);
        assert_eq!(ask_with(&mut digests, &file, Algorithm::Md5, trust, 1, now), None);
        run_chunks(&mut digests, chunks, now);
        digests.leave(Waiter(1));
        assert_eq!(digests.len(), left, "{size} bytes after {chunks} chunks, {trust:?}");
        assert_eq!(digests.next_at(now).is_some(), left > 0);
    }
}

#[test]
fn jobs_that_nobody_waits_for_are_few_and_give_way() {
    let folder = Folder::new("few");
    let mut digests = Digests::default();
    let now = Instant::now();
    let files: Vec<_> = (0..20).map(|n| folder.file(&n.to_string(), 2 * MIB)).collect();
    for (n, file) in (0..).zip(&files) {
        assert_eq!(ask_from(n, &mut digests, file, usize::from(n), now), None);
    }
    run_chunks(&mut digests, 20, now);
    (0..19).for_each(|n| digests.leave(Waiter(n)));
    assert_eq!(digests.len(), UNWAITED_MAX + 1);
    let finished = run_chunks(&mut digests, 15, now);
    assert_eq!(finished.len(), 1, "{finished:?}");
    assert_eq!(finished[0].waiters, [Waiter(19)], "the one that is waited for is first");
    // Who comes back has the job as far as it is.
    let kept = digests.unwaited[0];
    let number = digests.jobs[&kept].key.subject.stamp.inode;
    let file = files.iter().find(|file| file.stamp.inode == number).expect("one of them");
    assert_eq!(ask(&mut digests, file, 99, now), None);
    assert_eq!((hashed(&digests, 99), digests.unwaited.len()), (Some(CHUNK as u64), UNWAITED_MAX - 1));
    assert_eq!(run_all(&mut digests).len(), UNWAITED_MAX);
    assert_empty(&digests);
}

#[test]
fn a_file_that_changes_under_a_job_has_no_digest() {
    let folder = Folder::new("changed");
    let file = folder.file("a", MIB);
    let mut digests = Digests::default();
    ask(&mut digests, &file, 1, Instant::now());
    folder.file("a", 1000);
    let finished = run_all(&mut digests);
    assert_eq!(finished[0].outcome, Err(Failure::Changed));
}

#[test]
fn each_algorithm_has_a_job_of_its_own_and_tells_how_far_it_is() {
    let folder = Folder::new("algorithms");
    let file = folder.file("a", 3 * MIB);
    let mut digests = Digests::default();
    let now = Instant::now();
    for (number, algorithm) in [Algorithm::Md5, Algorithm::Blake3].into_iter().enumerate() {
        assert_eq!(ask_with(&mut digests, &file, algorithm, Trust::Kept(None), number, now), None);
    }
    assert_eq!(digests.len(), 2);
    assert_eq!(hashed(&digests, 1), Some(0));
    run_chunks(&mut digests, 2, now);
    assert_eq!([0, 1, 2].map(|waiter| hashed(&digests, waiter)), [Some(2 * CHUNK as u64), Some(0), None]);
    let made: Vec<_> = run_all(&mut digests).into_iter().map(|finished| (finished.waiters, finished.outcome)).collect();
    for (waiters, outcome) in made {
        let algorithm = outcome.expect("a digest").algorithm();
        assert_eq!(waiters, [Waiter(if algorithm == Algorithm::Md5 { 0 } else { 1 })]);
    }
}

/// A file on a disk that sleeps.
#[derive(Debug)]
struct Asleep(Stamp);

impl AsFd for Asleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}

impl file::Source for Asleep {
    fn stamp(&self) -> Result<Stamp, Errno> {
        Ok(self.0)
    }

    fn read_cached(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::AGAIN)
    }

    fn read(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
        panic!("the thread waits for the disk")
    }

    fn ask_for(&self, _: u64, _: u64) {}
}

/// Jobs on a disk that sleeps have all places of their address only until it is clear that it does.
#[test]
fn a_disk_that_sleeps_holds_nobody_up_for_long() {
    let folder = Folder::new("asleep");
    let mut digests = Digests::default();
    let (awake, start) = (folder.file("awake", 2 * MIB), Instant::now());
    for n in 0..200 {
        let stamp = Stamp { inode: n, size: MIB, device: 0, ..awake.stamp };
        let file = Rc::new(ServedFile::new(Box::new(Asleep(stamp)), stamp, 0o644, &Rc::new(())));
        assert_eq!(ask(&mut digests, &file, 1000 + n as usize, start), None);
    }
    assert_eq!(ask(&mut digests, &awake, 1, start), None);
    assert_eq!(ask_from(2, &mut digests, &folder.file("other", 3 * MIB), 2, start), None);
    let mut finished = Vec::new();
    // Each look takes 10 µs, and a slice is as in the server.
    let mut now = start;
    while finished.len() < 2 && now < start + Duration::from_secs(15) {
        now = digests.next_at(now).expect("there are jobs").max(now);
        let done = digests.run(DIGEST_SLICE, || {
            now += Duration::from_micros(10);
            now
        });
        finished.extend(done.into_iter().map(|done| (done.waiters[0].0, now - start)));
    }
    let [(2, first), (1, second)] = finished[..] else { panic!("{finished:?}") };
    assert!(first < Duration::from_millis(50), "another address: {first:?}");
    assert!(second < Duration::from_secs(6), "the disk is asked for 64 files after the other: {second:?}");
    digests.check();
    (0..200).for_each(|n| digests.leave(Waiter(1000 + n)));
    assert_empty(&digests);
}

/// Neither what was kept nor a job under way may answer; those who trust nothing share a job.
#[test]
fn a_fresh_digest_is_made_once_for_all_who_want_one_and_replaces_the_kept_one() {
    let folder = Folder::new("fresh");
    let file = folder.file("a", 3 * MIB);
    let subject = Subject { stamp: file.stamp, algorithm: Algorithm::Md5 };
    let mut digests = Digests::default();
    let now = Instant::now();
    let fresh = |digests: &mut Digests, waiter| ask_with(digests, &file, Algorithm::Md5, Trust::Fresh, waiter, now);
    assert_eq!(ask(&mut digests, &file, 1, now), None);
    assert_eq!((fresh(&mut digests, 2), fresh(&mut digests, 3)), (None, None));
    assert_eq!(digests.len(), 2, "a usual job and a fresh one");
    digests.jobs.values_mut().for_each(|job| job.is_settled = true);
    run_all(&mut digests);
    let kept = digests.cache.get(&subject, None, now).expect("kept");
    digests.cache.keep(subject, Hasher::new(Algorithm::Md5).finish(), now);
    assert_eq!(fresh(&mut digests, 4), None, "not from the cache");
    digests.jobs.values_mut().for_each(|job| job.is_settled = true);
    let finished = run_all(&mut digests);
    assert_eq!((&finished[0].waiters[..], &finished[0].outcome), (&[Waiter(4)][..], &Ok(kept)));
    assert_eq!(digests.cache.get(&subject, None, now), Some(kept));
    assert_eq!(digests.cache.len(), 1);
}

#[test]
fn what_is_hashed_on_the_spot_costs_its_bytes() {
    let folder = Folder::new("cost");
    let file = folder.file("a", 1000);
    let (algorithm, trust, waiter) = (Algorithm::Blake3, Trust::Kept(None), Waiter(1));
    let asked = Asked { file: &file, algorithm, trust, waiter, source: source(1) };
    let mut budget = 2500 * HASHING_COST;
    for left in [1500, 500, 0] {
        assert!(Digests::default().request(&asked, Instant::now(), &mut budget).is_some());
        assert_eq!(budget, left * HASHING_COST);
    }
}

/// Requests for small files cannot keep the thread from the jobs and from other connections.
#[test]
fn only_so_much_is_hashed_on_the_spot_and_nothing_again() {
    let folder = Folder::new("spot");
    let file = folder.file("a", CHUNK as u64);
    let mut digests = Digests::default();
    let now = Instant::now();
    // It has just been made, so nothing is kept of it.
    let on_the_spot = |digests: &mut Digests, waiters: RangeInclusive<usize>| {
        waiters.filter(|waiter| ask(digests, &file, *waiter, now).is_some()).count()
    };
    assert_eq!(on_the_spot(&mut digests, 1..=100), ON_THE_SPOT_MAX / CHUNK);
    assert_eq!(digests.len(), 1);
    assert_eq!(run_all(&mut digests)[0].waiters.len(), 100 - ON_THE_SPOT_MAX / CHUNK);
    assert_eq!(on_the_spot(&mut digests, 1..=1), 1, "after a slice of the jobs");
    assert_eq!(ask_with(&mut digests, &file, Algorithm::Md5, Trust::Fresh, 2, now), None, "again: never");
    run_all(&mut digests);
    assert_empty(&digests);
}
