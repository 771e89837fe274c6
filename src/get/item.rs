//! One file that was asked for, and what is known of it from one attempt to the next.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::beside::not_kept;
use super::clock;
use super::connect::LastAddress;
use super::disk;
use super::flow::Digested;
use super::held::Held;
use super::high_water::HighWater;
use super::ledger::Ledger;
use super::progress::{Activity, Progress};
use super::receive::{Body, PrefixCheck, Receiver, Room, Stopped};
use super::reread::Check;
use super::retry::Backoff;
use super::silence::Silence;
use super::target::{Offer, Resume, Target, There};
use super::wait::{Stop, Waits};
use super::workers::Pending;
use super::{Existing, GetConfig};
use crate::error::reason;
use crate::proto::digest::{Algorithm, Digest, Hasher};
use crate::proto::{Request, Wanted};
use crate::text;

/// Bytes of a file from which on its MD5 takes long enough to arrange the threads for it.
const HASHING_FIRST_FROM: u64 = 64 << 20;

/// What to do about a wrong digest.
const CHECK_HARDWARE: &str =
    "; run the command again, and if that fails too, check the memory and the disks of both machines";

/// How often the bar shows how far a local file has been hashed.
const REFRESH: Duration = Duration::from_millis(100);

/// What every step of a transfer needs.
pub struct Tools<'a> {
    /// What was asked for.
    pub config: &'a GetConfig,
    /// Threads that hash and write.
    pub receiver: &'a Receiver,
    /// The one place to wait.
    pub waits: Waits,
    /// What the user sees.
    pub progress: Progress,
    /// The server, as it was named.
    pub server: String,
    /// Which of its addresses was connected to last.
    pub last_address: LastAddress,
    /// Whether it has sent something whole that only an xfer server sends.
    pub is_xfer_server: bool,
    /// Whether it is dead.
    pub silence: Silence,
    /// What becomes of each file.
    pub ledger: Ledger,
}

/// One file that was asked for.
pub struct Item<'a> {
    /// Its name on the server.
    pub name: &'a [u8],
    /// Where it goes.
    pub target: Target,
    /// Its attempts.
    pub backoff: Backoff,
    /// When its first attempt began, or the reply to the one before it was done with.
    started: Option<Instant>,
    /// When this attempt began, or, if it was asked for behind others, its reply.
    attempt_began: Option<Instant>,
    /// The pause before it.
    paused: Duration,
    /// Not to be asked for before this.
    pub due: Option<Instant>,
    /// What happens next.
    pub stage: Stage,
    /// Bytes of it that came in this run.
    pub received: u64,
    /// Bytes of it that were here when the last attempt broke off, with those that were there before.
    came: u64,
    /// Whether the log knows of this attempt: a comparison and what follows it are one.
    is_logged: bool,
    /// How far it has come, of all attempts.
    high_water: HighWater,
    /// Whether its first bytes are of an earlier run.
    resumes_earlier_run: bool,
}

/// What a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Whether what is there, if anything, is the same.
    Comparing,
    /// Its bytes.
    Fetching,
    /// Its bytes once more, after they arrived damaged: with a digest that the server has not kept.
    Refetching,
}

/// How a file that is whole was received.
pub struct Received {
    /// Its digest, which is the server's.
    pub digest: Digest,
    /// What it is.
    pub offer: Offer,
    /// Whether hashing took most of the time.
    pub slowed_by_digest: bool,
}

impl<'a> Item<'a> {
    /// A file, before its first attempt.
    pub fn new(name: &'a [u8], target: Target, config: &GetConfig) -> Item<'a> {
        let stage = if config.existing == Existing::Compare { Stage::Comparing } else { Stage::Fetching };
        let backoff = Backoff::new(config.attempts, config.max_backoff);
        Item {
            name,
            target,
            backoff,
            started: None,
            attempt_began: None,
            paused: Duration::ZERO,
            due: None,
            stage,
            received: 0,
            came: 0,
            is_logged: false,
            high_water: HighWater::new(),
            resumes_earlier_run: false,
        }
    }

    /// Whether this is the first time that it is asked for in this attempt.
    pub fn begins_attempt(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }

    /// The next time it is asked for is another attempt.
    pub fn end_attempt(&mut self) {
        self.is_logged = false;
        self.attempt_began = None;
    }

    /// Begins to count the time of the file and of this attempt, unless that has begun.
    pub fn start(&mut self) {
        let now = clock::now();
        self.started.get_or_insert(now);
        self.attempt_began.get_or_insert(now);
    }

    /// The pause before the next attempt; `None` if there is none.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let pause = self.backoff.next_pause()?;
        self.paused = pause;
        Some(pause)
    }

    /// Which attempt is next, and at which file.
    pub fn attempt(&self) -> (String, Vec<u8>) {
        (self.backoff.label(), self.name.to_vec())
    }

    /// Seconds since its time began.
    pub fn seconds(&self) -> f64 {
        self.started.map_or(0.0, |started| clock::since(started).as_secs_f64())
    }

    /// Takes what an earlier run has left; whether that says that our server speaks version 2.
    pub fn find(&mut self, tools: &mut Tools<'_>) -> Result<bool, Stop> {
        let config = tools.config;
        let look = self.target.find(self.name)?;
        if !config.resume {
            self.target.forget();
        } else if let Some(why) = look.useless {
            tools.progress.note(Some(self.name), &cannot_resume(&self.target.shown(), &why));
        }
        if let Some(resume) = self.target.resume() {
            self.high_water.start_at(resume.version, resume.offset);
            self.resumes_earlier_run = true;
        }
        Ok(look.origin.as_deref() == Some(&tools.server))
    }

    /// All bytes came, and their digest is wrong: a flipped bit on the way, or a server that trusts an old digest. Once
    /// more from the beginning, and then never again.
    pub fn damaged(&mut self, ours: &Digest, theirs: &Digest) -> Stop {
        self.target.spoil();
        self.came = 0;
        let shown = text::quoted(self.name);
        let why = format!("{shown} arrived damaged: its {} is {ours}, the server says {theirs}", ours.algorithm());
        if self.stage == Stage::Refetching || !self.target.can_start_again() {
            return Stop::Mismatch(why + CHECK_HARDWARE);
        }
        self.stage = Stage::Refetching;
        if std::mem::take(&mut self.resumes_earlier_run) {
            // It may be this disk, and not the server or the way from it.
            return Stop::PartUnusable(why);
        }
        if !self.backoff.has_next() {
            return Stop::Mismatch(why + CHECK_HARDWARE);
        }
        Stop::again(why)
    }

    /// What to ask a server of version 2 for.
    pub fn request(&mut self, config: &GetConfig) -> Request<'a> {
        let existing = self.target.existing_size();
        if self.stage == Stage::Comparing && existing.is_none() {
            self.stage = Stage::Fetching;
        }
        let wanted = match (self.stage, existing, self.target.resume()) {
            (Stage::Comparing, Some(size), _) => Wanted::Digest { size },
            (_, _, Some(Resume { offset, version, .. })) => Wanted::Bytes { offset: *offset, version: *version },
            (_, _, None) => Wanted::ALL,
        };
        let rehash = self.stage == Stage::Refetching;
        Request { name: self.name, algorithm: config.algorithm, wanted, rehash }
    }

    /// Begins to digest the file that is there already, if it still has this size.
    pub fn digest_existing(&self, size: u64, algorithm: Algorithm, tools: &Tools<'_>) -> Comparison {
        let path = match self.target.existing(size, algorithm) {
            There::Nothing => return Comparison::Known(None),
            There::Hashed(digest) => return Comparison::Known(Some(digest)),
            There::File(path) => path,
        };
        let file = match disk::open_to_read(&path) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                let why = reason(&error);
                log::warn!(target: "main", "cannot compare {}: {why}; fetching it", self.target.shown());
                return Comparison::Known(None);
            }
        };
        let done = Arc::new(AtomicU64::new(0));
        let nothing = Digested::nothing(algorithm);
        let pending = tools.receiver.digest_file(file, nothing, size, Arc::clone(&done));
        Comparison::Running { pending, done, size }
    }

    /// The digest of the file that is there already, with a bar while it takes time.
    pub fn existing_digest(&mut self, comparison: Comparison, tools: &mut Tools<'_>) -> Result<Option<Digest>, Stop> {
        let (pending, done, size) = match comparison {
            Comparison::Known(digest) => return Ok(digest),
            Comparison::Running { pending, done, size } => (pending, done, size),
        };
        let look = || Ok(pending.poll()?.ok_or_else(|| done.load(Ordering::Relaxed)));
        match self.watch(look, Activity::Comparing, size, tools)? {
            Ok(digested) => {
                let digest = digested.hasher.finish();
                self.target.hashed(digest);
                Ok(Some(digest))
            }
            Err(error) => {
                let why = reason(&error);
                log::warn!(target: "main", "cannot compare {}: {why}; fetching it", self.target.shown());
                Ok(None)
            }
        }
    }

    /// Waits until what an earlier run has left is compared with its journal, with a bar while it takes time.
    pub fn end_check(&self, body: &mut Body<'_>, tools: &mut Tools<'_>) -> Result<(), Stop> {
        let Some(len) = body.poll_check()?.map(Check::len) else { return Ok(()) };
        let look = || Ok(body.poll_check()?.map_or(Ok(()), |check| Err(check.done())));
        self.watch(look, Activity::Checking, len, tools)
    }

    /// Waits for the reading of a local file, with a bar while it takes time. `look` says what came of it, or how many
    /// bytes are read.
    fn watch<T>(
        &self,
        mut look: impl FnMut() -> Result<Result<T, u64>, Stop>,
        activity: Activity,
        total: u64,
        tools: &mut Tools<'_>,
    ) -> Result<T, Stop> {
        loop {
            let done = match look()? {
                Ok(result) => {
                    tools.progress.end();
                    return Ok(result);
                }
                Err(done) => done,
            };
            match tools.progress.is_about(activity) {
                true => tools.progress.advance(done),
                false => tools.progress.begin(activity, self.name, total, done),
            }
            tools.waits.wait(Some(clock::now() + REFRESH))?;
        }
    }

    /// Compares the digest of the target, if it has one, with the server's; whether they are equal.
    pub fn is_up_to_date(&mut self, ours: Option<Digest>, theirs: &Digest) -> bool {
        if self.stage == Stage::Comparing {
            self.stage = Stage::Fetching;
        }
        if ours.is_some_and(|ours| ours != *theirs) {
            log::info!(target: "main", "{} differs from the file on the server; fetching it", self.target.shown());
        }
        ours == Some(*theirs)
    }

    /// Begins to receive what a server offers.
    pub fn begin<'r>(&mut self, offer: &Offer, tools: &mut Tools<'r>) -> Result<Body<'r>, Stop> {
        let asked = self.target.resume().map(|resume| resume.offset);
        let body = self.open(offer, tools)?;
        let size = offer.about.size;
        self.resumes_earlier_run &= offer.offset > 0;
        match (offer.offset, asked) {
            (0, Some(offset)) if !self.target.is_stream() => {
                let why = match offer.attributes {
                    Some(_) => "it has changed on the server",
                    None => "version 1 cannot resume",
                };
                if self.received == 0 {
                    // It changed before this run, which is no reason to count each of its attempts.
                    self.high_water.forget();
                }
                let (shown, had) = (text::quoted(self.name), text::size(offset));
                let line = format!("starting {shown} over: {why} ({had} discarded)");
                tools.progress.note(Some(self.name), &line);
            }
            (0, _) => {}
            (offset, _) => tools.progress.resume(self.name, offset, size),
        }
        tools.progress.begin(Activity::Receiving, self.name, size, offer.offset);
        Ok(body)
    }

    fn open<'r>(&mut self, offer: &Offer, tools: &mut Tools<'r>) -> Result<Body<'r>, Stop> {
        let receiver: &'r Receiver = tools.receiver;
        receiver.settle(&mut tools.waits)?;
        if offer.about.algorithm == Algorithm::Md5 && offer.about.size >= HASHING_FIRST_FROM {
            receiver.put_hashing_first();
        }
        let ready = self.target.begin(offer, receiver.writer(), &mut tools.waits)?;
        Ok(receiver.begin(ready.sink, ready.start, ready.journal, tools.config.sync))
    }

    /// Takes a small file that came whole: once it is verified, its part is written.
    pub fn take_small(
        &mut self,
        bytes: &[u8],
        theirs: &Digest,
        offer: &Offer,
        tools: &mut Tools<'_>,
    ) -> Result<Digest, Stop> {
        self.received += bytes.len() as u64;
        self.came = bytes.len() as u64;
        let mut hasher = Hasher::new(offer.about.algorithm);
        hasher.update(bytes);
        let ours = hasher.finish();
        if ours != *theirs {
            return Err(self.damaged(&ours, theirs));
        }
        let sink = self.target.begin_small(offer, tools.receiver.writer(), &mut tools.waits)?;
        sink.write(bytes, 0).map_err(|error| sink.failure(&error))?;
        Ok(ours)
    }

    /// Lets what came of a small file go the way of a large one: it takes its time, or an attempt has ended, and the next
    /// one must resume behind it, since a link may never bring all of it at once.
    pub fn leave_memory<'r>(&mut self, held: &Held, offer: &Offer, tools: &mut Tools<'r>) -> Result<Body<'r>, Stop> {
        self.came = held.received();
        let mut body = self.open(offer, tools)?;
        let (whole, torn) = held.bytes().split_at(held.frame_end());
        for (bytes, ends_frame) in [(whole, true), (torn, false)].into_iter().filter(|(bytes, _)| !bytes.is_empty()) {
            let room = body.room(bytes.len() as u64, &mut tools.waits).inspect_err(|_| self.target.spoil())?;
            // A block has room for all of it.
            room.copy_from_slice(bytes);
            body.add(bytes.len());
            if ends_frame {
                body.end_frame();
            }
        }
        // It has been in memory for long enough.
        body.flush();
        Ok(body)
    }

    /// Ends an attempt at a small file.
    pub fn interrupt_small(&mut self, held: &Held, offer: &Offer, stop: Stop, tools: &mut Tools<'_>) -> Stop {
        self.came = held.received();
        if held.frame_end() == 0 || !matches!(stop, Stop::Again { .. }) {
            return stop;
        }
        match self.leave_memory(held, offer, tools) {
            Ok(body) => self.interrupt(body, offer, stop, tools),
            Err(other) => other,
        }
    }

    /// Ends an attempt that did not come to its end: keeps what can be resumed.
    pub fn interrupt(&mut self, body: Body<'_>, offer: &Offer, stop: Stop, tools: &mut Tools<'_>) -> Stop {
        self.came = body.received();
        self.received += self.came.saturating_sub(offer.offset);
        match body.stop(&mut tools.waits) {
            Ok(stopped) => {
                if matches!(stopped, Stopped::Useless | Stopped::InDoubt(_)) {
                    self.high_water.forget();
                }
                if matches!(stopped, Stopped::Useless) {
                    self.came = 0;
                }
                self.target.keep(offer, stopped);
                stop
            }
            Err(other) => {
                self.target.keep(offer, Stopped::InDoubt(PrefixCheck::None));
                other
            }
        }
    }

    /// Whether the last attempt brought more of one version than any before it, so that the count of attempts begins again.
    pub fn has_advanced(&mut self) -> bool {
        let Some(Resume { version, offset, .. }) = self.target.resume() else { return false };
        let took = self.paused + self.attempt_began.map_or(Duration::ZERO, clock::since);
        self.high_water.advances(*version, *offset, took)
    }

    /// Gives up; the end of the error line says what is left and what to do, or that nothing is.
    pub fn abandon(&mut self) -> String {
        match self.target.abandon() {
            Some(left) => left.describe(),
            None if self.came > 0 && !self.target.is_stream() => not_kept(self.came),
            None => String::new(),
        }
    }
}

/// The line about a partial file that is of no use.
pub fn cannot_resume(shown: &str, why: &str) -> String {
    format!("cannot resume {shown}: {why}; starting over")
}

/// How a reply ended well.
pub enum Outcome {
    /// All bytes are there and verified.
    Received(Received),
    /// The target already has the same content.
    UpToDate {
        /// The digest of both.
        digest: Digest,
        /// Bytes in the file.
        size: u64,
    },
    /// What is there is not the same: to be fetched.
    Differs,
}

/// The digest of a file that is there already.
pub enum Comparison {
    /// As far as it can be had.
    Known(Option<Digest>),
    /// It is being made.
    Running {
        /// The result.
        pending: Pending<io::Result<Digested>>,
        /// Bytes done.
        done: Arc<AtomicU64>,
        /// Bytes to do.
        size: u64,
    },
}
