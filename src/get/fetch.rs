//! All files of a run: which is asked for next, over which connection, and what happens when one fails.
//!
//! A server that speaks version 2 gets requests ahead of its replies, all on one connection. Until it has shown that it
//! does, it gets one alone; one that does not is asked in version 1, a connection for each file.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::clock;
use super::commits::Folder;
use super::held::HELD_MAX;
use super::item::{Item, Outcome, Received, Tools, cannot_resume};
use super::ledger::Done;
use super::progress::Ended;
use super::saved::Saved;
use super::target::Target;
use super::v2::{Failed, Session, Speaks};
use super::wait::{Stop, signal_name};
use super::{Existing, v1};
use crate::error::{Error, ExitCode};
use crate::proto::digest::Digest;
use crate::proto::{self, Wanted};
use crate::text;

/// Requests ahead of replies at most: enough for the longest way, and few enough to keep memory flat. They go out in
/// halves of it, since a segment for each would cost as much as a small file.
const ASKED_MAX: usize = 64;

/// Files that wait for another attempt at most before no others are asked for. Each may have two descriptors, for its part and
/// its journal, and so may those that are asked for again and those that are saved: (16 + 64 + 32) × 2 fit into the 256 that
/// some processes have.
const LATER_MAX: usize = 16;

/// How often a server may say nothing to version 2 and answer in version 1 before it counts as an old one: some of those
/// close without a word, but so does a server of version 2 in the moment in which it is restarted.
const SILENCES_MAX: u32 = 2;

/// What to do when the server cannot be reached or is silent.
const CHECK_SERVER: &str = "; check the server, then run the same command again";

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Not known yet.
    Unknown,
    /// Version 1, or that is all that we may speak.
    V1,
    /// Version 2, and never anything else in this run.
    V2,
}

/// Fetches all files of a run.
pub struct Fetcher<'a> {
    tools: Tools<'a>,
    names: std::slice::Iter<'a, Vec<u8>>,
    /// To be asked for before the next name.
    ready: VecDeque<Item<'a>>,
    /// To be asked for later, when they are due.
    later: Vec<Item<'a>>,
    /// In the order of their replies.
    asked: VecDeque<(Item<'a>, Wanted)>,
    speech: Speech,
    /// How often it has said nothing to version 2, and answered in version 1.
    silences: u32,
    session: Option<Session>,
    /// What the user has been told to check.
    hints: HashSet<&'static str>,
    /// Whether a signal has been told of, with the file that it stopped.
    is_stop_said: bool,
}

impl<'a> Fetcher<'a> {
    /// Ready for the first file.
    pub fn new(tools: Tools<'a>) -> Fetcher<'a> {
        let speech = if tools.config.v1 { Speech::V1 } else { Speech::Unknown };
        Fetcher {
            names: tools.config.files.iter(),
            tools,
            ready: VecDeque::new(),
            later: Vec::new(),
            asked: VecDeque::new(),
            speech,
            silences: 0,
            session: None,
            hints: HashSet::new(),
            is_stop_said: false,
        }
    }

    /// Fetches all files; the first failure decides the exit code, and has been reported.
    pub fn run(mut self) -> ExitCode {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    let exit = self.tools.ledger.failures.first.unwrap_or(ExitCode::Done);
                    self.tools.progress.summary(exit, true);
                    return exit;
                }
                Err(stop) => {
                    let exit = self.end_by(stop);
                    self.tools.progress.summary(exit, false);
                    return exit;
                }
            }
        }
    }

    /// Ends the run before its end.
    fn end_by(&mut self, stop: Stop) -> ExitCode {
        match stop {
            Stop::Signal(signal) => self.end_by_signal(signal),
            // Whoever read our output has seen enough: no failure to speak of.
            Stop::Final(error) if error.exit == ExitCode::ClosedPipe => ExitCode::ClosedPipe,
            stop => {
                let error = stop.into_error();
                self.tools.progress.error(None, Some(error.exit), &error.to_string());
                error.exit
            }
        }
    }

    fn end_by_signal(&mut self, signal: u8) -> ExitCode {
        self.tools.progress.end();
        self.is_stop_said |= self.tools.collect_last(signal);
        self.ask_again();
        let mut left = String::new();
        for item in self.ready.iter_mut().chain(&mut self.later) {
            left.push_str(&item.abandon());
        }
        // Also behind a line about the one that was being received.
        if !self.is_stop_said || !left.is_empty() {
            let line = format!("stopped by {}{left}", signal_name(signal));
            self.tools.progress.error(None, Some(ExitCode::Signal(signal)), &line);
        }
        ExitCode::Signal(signal)
    }

    /// Does the next thing; whether there is another.
    fn step(&mut self) -> Result<bool, Stop> {
        self.tools.waits.glance()?;
        self.tools.collect()?;
        self.tools.silence.begin();
        if self.speech == Speech::V1 {
            return match self.next_item()? {
                Some(item) => self.fetch_in_v1(item).map(|()| true),
                None => self.wait_for_later(),
            };
        }
        self.ask_ahead()?;
        match self.asked.pop_front() {
            Some((item, wanted)) => self.take_reply(item, wanted).map(|()| true),
            None if self.speech == Speech::V1 => Ok(true),
            None => self.wait_for_later(),
        }
    }

    /// Waits for what is still to come; whether there is anything.
    fn wait_for_later(&mut self) -> Result<bool, Stop> {
        if !self.ready.is_empty() && self.later.len() < LATER_MAX {
            return Ok(true);
        }
        let next = self.later.iter().filter_map(|item| Some((item.due?, item))).min_by_key(|(due, _)| *due);
        if let Some((due, attempt)) = next.map(|(due, item)| (due, item.attempt())) {
            self.tools.pause(due, Some(attempt))?;
            return Ok(true);
        }
        Ok(self.tools.collect_one()? || self.names.len() > 0)
    }

    /// The next file to ask for: one that is due again, one that is ready, or one that has not been looked at.
    fn next_item(&mut self) -> Result<Option<Item<'a>>, Stop> {
        let now = clock::now();
        if let Some(at) = self.later.iter().position(|item| item.due.is_none_or(|due| due <= now)) {
            return Ok(Some(self.later.remove(at)));
        }
        if self.later.len() >= LATER_MAX {
            return Ok(None);
        }
        if let Some(item) = self.ready.pop_front() {
            return Ok(Some(item));
        }
        for name in self.names.by_ref() {
            self.tools.waits.glance()?;
            let config = self.tools.config;
            let writer = self.tools.receiver.writer();
            let target = Target::new(&config.output, name, writer, &mut self.tools.waits).and_then(|target| {
                let kept = if config.existing == Existing::Keep { target.kept_size()? } else { None };
                Ok((target, kept))
            });
            match target {
                Ok((target, Some(size))) => {
                    let line = format!("kept {}: it already exists (--no-clobber)", target.shown());
                    let path = target.path();
                    let (saved, size) = (Saved::Kept, Some(size));
                    self.tools.progress.done(&Ended { name, saved, path, size, digest: None, seconds: None }, &line);
                }
                Ok((target, None)) => return Ok(Some(Item::new(name, target, config))),
                Err(stop @ Stop::Signal(_)) => return Err(stop),
                Err(stop) => self.tools.ledger.failures.add(name, &stop.into_error(), &mut self.tools.progress),
            }
        }
        Ok(None)
    }

    /// Sends requests ahead of replies, many at a time.
    fn ask_ahead(&mut self) -> Result<(), Stop> {
        if self.asked.len() > self.window() / 2 {
            return Ok(());
        }
        let result = self.ask_up_to_the_window();
        if let Some(session) = &mut self.session {
            session.flush();
        }
        result
    }

    fn ask_up_to_the_window(&mut self) -> Result<(), Stop> {
        while self.asked.len() < self.window() {
            let Some(mut item) = self.next_item()? else { return Ok(()) };
            let has_unseen_part = item.target.has_unseen_part();
            // Looking at what is there can take long, and nothing else is received meanwhile.
            if has_unseen_part && !self.asked.is_empty() {
                self.ready.push_front(item);
                return Ok(());
            }
            if self.asked.is_empty() {
                item.start();
            }
            let speaks_v2 = if has_unseen_part { item.find(&mut self.tools) } else { Ok(false) };
            match speaks_v2 {
                Ok(true) => self.speech = Speech::V2,
                Ok(false) => {}
                Err(stop) => {
                    self.give_up(item, stop)?;
                    continue;
                }
            }
            self.log_attempt(&mut item);
            if self.session.is_none() {
                match Session::connect(&mut self.tools) {
                    Ok(session) => self.session = Some(session),
                    Err(stop) => return self.try_again(item, stop),
                }
            }
            let request = item.request(self.tools.config);
            if let Some(session) = &mut self.session {
                session.ask(&request);
            }
            self.asked.push_back((item, request.wanted));
        }
        Ok(())
    }

    /// Requests that may be under way now.
    fn window(&self) -> usize {
        match self.speech {
            Speech::V2 => ASKED_MAX,
            Speech::Unknown => 1,
            Speech::V1 => 0,
        }
    }

    fn log_attempt(&self, item: &mut Item<'_>) {
        if item.begins_attempt() {
            let (label, name) = (item.backoff.label(), text::quoted(item.name));
            log::info!(target: "main", "{label}: {name} from {}", self.tools.server);
        }
    }

    /// Takes the reply to the oldest request.
    fn take_reply(&mut self, mut item: Item<'a>, wanted: Wanted) -> Result<(), Stop> {
        // Asked for over it.
        let Some(mut session) = self.session.take() else {
            self.ready.push_front(item);
            return Ok(());
        };
        if self.speech == Speech::Unknown {
            match session.speaks(&mut self.tools) {
                Ok(Speaks::V2) => self.speech = Speech::V2,
                Ok(Speaks::V1) => {
                    // It has said so.
                    self.silences = SILENCES_MAX;
                    return self.probe_v1(item);
                }
                Ok(Speaks::Nothing(stop)) => return self.ask_the_silent(item, stop),
                Err(stop) => return self.try_again(item, stop),
            }
        }
        item.start();
        match session.reply(&mut item, wanted, &mut self.tools) {
            Ok(outcome) => {
                self.session = Some(session);
                self.succeed(item, outcome);
                Ok(())
            }
            Err(Failed::Reply(stop)) => {
                self.session = Some(session);
                if item.has_advanced() {
                    item.backoff.reset();
                }
                self.try_later(item, stop)
            }
            Err(Failed::Changed(stop)) => {
                self.session = Some(session);
                self.try_later(item, stop)
            }
            Err(Failed::Stale(stop)) => {
                log::debug!(target: "main", "{}; connecting again", stop.into_error());
                self.ask_again();
                self.ready.push_front(item);
                // A server that has no time for us has none for the other files either.
                match self.later.iter().filter_map(|item| item.due).min() {
                    Some(due) if session.was_refused() => self.tools.pause(due, None),
                    _ => Ok(()),
                }
            }
            Err(Failed::Connection(stop) | Failed::Local(stop)) => {
                self.ask_again();
                if item.has_advanced() {
                    item.backoff.reset();
                }
                self.try_again(item, stop)
            }
        }
    }

    /// Those whose replies were lost with the connection are asked for once more.
    fn ask_again(&mut self) {
        while let Some((item, _)) = self.asked.pop_back() {
            self.ready.push_front(item);
        }
    }

    /// A server that has closed the connection without a word may be an old one.
    fn ask_the_silent(&mut self, item: Item<'a>, stop: Stop) -> Result<(), Stop> {
        // A name that version 1 cannot say, or a part with which version 1 cannot go on: too much for what may be a
        // moment's failure.
        if proto::v1::check_name(item.name).is_err() {
            return self.try_again(item, stop);
        }
        let why = stop.into_error();
        if item.target.resume().is_some() {
            let why = why.with("; if it only speaks version 1, use --v1, which starts over").to_string();
            return self.try_again(item, Stop::again(why));
        }
        log::info!(target: "main", "{why}; trying version 1");
        self.probe_v1(item)
    }

    /// A server that has never spoken version 2 is asked in version 1, at once.
    fn probe_v1(&mut self, item: Item<'a>) -> Result<(), Stop> {
        match v1::ask(&item, &mut self.tools) {
            Ok(answered) => {
                log::info!(target: "main", "{} speaks version 1, which cannot resume", self.tools.server);
                // An error says nothing of the version: a server of version 2 that has no room for us cuts the one
                // connection, and has a word for the next.
                self.silences = self.silences.saturating_add(u32::from(!answered.is_refusal()));
                // A stream has to go on in the version in which it began.
                if self.silences >= SILENCES_MAX || item.target.is_stream() {
                    self.speech = Speech::V1;
                }
                self.take_v1(item, answered)
            }
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn fetch_in_v1(&mut self, mut item: Item<'a>) -> Result<(), Stop> {
        item.start();
        // What an earlier run has left may say that this server speaks version 2 after all.
        let speaks_v2 = if item.target.has_unseen_part() { item.find(&mut self.tools) } else { Ok(false) };
        match speaks_v2 {
            Ok(true) if !self.tools.config.v1 => {
                self.speech = Speech::V2;
                self.ready.push_front(item);
                return Ok(());
            }
            Ok(_) => {}
            Err(stop) => return self.give_up(item, stop),
        }
        self.log_attempt(&mut item);
        match v1::ask(&item, &mut self.tools) {
            Ok(answered) => self.take_v1(item, answered),
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn take_v1(&mut self, mut item: Item<'a>, answered: v1::Answered) -> Result<(), Stop> {
        match answered.finish(&mut item, &mut self.tools) {
            Ok(outcome) => {
                self.succeed(item, outcome);
                Ok(())
            }
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn succeed(&mut self, mut item: Item<'a>, outcome: Outcome) {
        match outcome {
            Outcome::Differs => self.ready.push_front(item),
            Outcome::UpToDate { digest, size } => {
                let (shown, path) = (item.target.shown(), item.target.path().map(Path::to_path_buf));
                let (name, seconds, details) = (item.name.to_vec(), item.seconds(), details(size, &digest));
                let done = Done { name, shown, path, seconds, size, digest, details };
                match self.folder_to_sync(&item).and_then(|folder| item.target.sync(folder)) {
                    Some(job) => self.tools.ledger.commits.start(done, job, &self.tools.waits),
                    None => {
                        item.target.clean();
                        self.tools.committed(done, Ok(Saved::UpToDate));
                    }
                }
            }
            Outcome::Received(received) => self.commit(item, &received),
        }
    }

    /// Lets a verified file have its name.
    fn commit(&mut self, mut item: Item<'a>, received: &Received) {
        let config = self.tools.config;
        self.tools.progress.complete();
        let done = Done {
            name: item.name.to_vec(),
            shown: item.target.shown(),
            path: item.target.path().map(Path::to_path_buf),
            seconds: item.seconds(),
            size: received.offer.about.size,
            digest: received.digest,
            details: received_details(&item, received),
        };
        let folder = self.folder_to_sync(&item);
        let replaces = config.existing != Existing::Keep;
        // Whatever waits for the disk is not for this thread; closing a large file can be such a thing.
        let waits_for_disk = config.sync || done.size > HELD_MAX as u64;
        match item.target.commit(received.offer.attributes, folder, replaces) {
            Some(job) if waits_for_disk => self.tools.ledger.commits.start(done, job, &self.tools.waits),
            Some(job) => self.tools.committed(done, job()),
            None => self.tools.committed(done, Ok(Saved::Written)),
        }
    }

    /// The folder of a target, if that has to be on the disk before the file counts as saved.
    fn folder_to_sync(&mut self, item: &Item<'_>) -> Option<Arc<Folder>> {
        let path = item.target.folder().filter(|_| self.tools.config.sync)?;
        Some(Arc::clone(self.tools.ledger.folder.get_or_insert_with(|| Folder::new(&path))))
    }

    /// Waits, and then tries a file again, if that is worth it.
    fn try_again(&mut self, mut item: Item<'a>, stop: Stop) -> Result<(), Stop> {
        match self.next_attempt(&mut item, stop) {
            Ok(due) => {
                let paused = self.tools.pause(due, Some(item.attempt()));
                match paused {
                    Ok(()) => {
                        self.ready.push_front(item);
                        Ok(())
                    }
                    Err(stop) => self.give_up(item, stop),
                }
            }
            Err(stop) => self.give_up(item, stop),
        }
    }

    /// Tries a file again later, if that is worth it, and others before.
    fn try_later(&mut self, mut item: Item<'a>, stop: Stop) -> Result<(), Stop> {
        match self.next_attempt(&mut item, stop) {
            Ok(due) => {
                item.due = Some(due);
                self.later.push(item);
                Ok(())
            }
            Err(stop) => self.give_up(item, stop),
        }
    }

    /// When to try a file again, if `stop` is worth another attempt and there is one.
    fn next_attempt(&mut self, item: &mut Item<'a>, stop: Stop) -> Result<Instant, Stop> {
        let (mut why, hint, connected) = match stop {
            Stop::Again { why, hint, connected } => (why, hint, connected),
            // At once, and not counted: it is no failure of the server, and happens once.
            Stop::PartUnusable(why) => {
                self.tools.progress.note(Some(item.name), &cannot_resume(&item.target.shown(), &why));
                return Ok(clock::now());
            }
            stop => return Err(stop),
        };
        if let Some(hint) = hint.filter(|hint| self.hints.insert(hint)) {
            why.push_str(&format!(" ({hint})"));
        }
        self.tools.progress.end();
        item.end_attempt();
        if self.tools.silence.fail(!item.backoff.has_next()) && connected {
            self.tools.last_address.was_silent();
        }
        let is_dead = self.tools.silence.is_dead();
        let Some(pause) = (if is_dead { None } else { item.next_pause() }) else {
            let why = format!("cannot fetch {}: {why}{}", text::quoted(item.name), item.backoff.gave_up());
            return Err(Stop::Again { why, hint: None, connected });
        };
        let line = format!("{why}; retrying in {} s ({})", pause.as_secs_f64(), item.backoff.label());
        self.tools.progress.retry(item.name, pause, &line);
        Ok(clock::now() + pause)
    }

    /// Gives up a file, and with it the run, if that is what `stop` means.
    fn give_up(&mut self, mut item: Item<'a>, stop: Stop) -> Result<(), Stop> {
        self.tools.progress.end();
        let left = item.abandon();
        match stop {
            Stop::Signal(signal) => {
                let shown = text::quoted(item.name);
                let line = format!("stopped by {}: {shown} not saved{left}", signal_name(signal));
                self.is_stop_said = true;
                self.tools.progress.error(Some(item.name), Some(ExitCode::Signal(signal)), &line);
                Err(stop)
            }
            Stop::Final(ref error) if error.exit == ExitCode::ClosedPipe => Err(stop),
            stop => {
                let (reached, silent) = (!stop.host_is_dead(), self.tools.silence.is_dead());
                let why_to_leave = match &stop {
                    Stop::WrongServer(_) => Some(("is not an xfer server", "")),
                    _ if !reached => Some(("cannot be reached", CHECK_SERVER)),
                    _ => silent.then_some(("does not answer", CHECK_SERVER)),
                };
                let error = match stop {
                    Stop::WrongServer(why) => {
                        let what = format!("{} from {}", text::quoted(item.name), self.tools.server);
                        Error::new(ExitCode::Integrity, format!("cannot fetch {what}: {why}"))
                    }
                    stop => stop.into_error(),
                };
                self.tools.ledger.failures.add(item.name, &error.with(&left), &mut self.tools.progress);
                if let Some((why, advice)) = why_to_leave {
                    self.leave(why, advice);
                }
                Ok(())
            }
        }
    }

    /// The server is dead: the rest is not tried.
    fn leave(&mut self, why: &str, advice: &str) {
        self.ask_again();
        let (mut names, mut left) = (Vec::new(), String::new());
        for mut item in self.ready.drain(..).chain(self.later.drain(..)) {
            left.push_str(&item.abandon());
            names.push(item.name);
        }
        names.extend(self.names.by_ref().map(Vec::as_slice));
        let why = format!("{} {why}", self.tools.server);
        let advice = format!("{advice}{left}");
        self.tools.ledger.failures.leave(&names, &why, &advice, &mut self.tools.progress);
    }
}

/// Size and digest of a file, for the line about it.
fn details(size: u64, digest: &Digest) -> String {
    format!("{}, {} {digest}, verified", text::size(size), digest.algorithm())
}

/// The same, with time and speed, of a file that was fetched.
fn received_details(item: &Item<'_>, received: &Received) -> String {
    let size = received.offer.about.size;
    let seconds = item.seconds();
    let mut details = format!("{}, {seconds:.1} s", details(size, &received.digest));
    // Bytes of an earlier run did not come with any speed.
    if item.received > 0 || size == 0 {
        details.push_str(&format!(", {}", text::speed(item.received, seconds)));
    }
    if received.slowed_by_digest {
        details.push_str(" (limited by md5; --checksum blake3 is faster)");
    }
    details
}
