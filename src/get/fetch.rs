//! All files of a run: which is asked for next, over which connection, and what happens when one fails.
//!
//! A server that speaks version 2 gets requests ahead of its replies, all on one connection. Until it has shown that it
//! does, it gets one alone; one that does not is asked in version 1, a connection for each file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::commits::{Commits, Folder};
use super::item::{Item, Received, Tools};
use super::target::Target;
use super::v2::{Failed, Outcome, Session, Speaks};
use super::wait::{Stop, signal_name};
use super::{Existing, Failures, v1};
use crate::error::ExitCode;
use crate::proto::Wanted;
use crate::text;

/// Requests ahead of replies at most: enough for the longest way, and few enough to keep memory flat.
const ASKED_MAX: usize = 64;

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

/// What is to be said of a file when it has its name.
struct Done {
    name: Vec<u8>,
    shown: String,
    size: u64,
    line: String,
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
    session: Option<Session>,
    commits: Commits<Done>,
    folder: Option<Arc<Folder>>,
    failures: Failures,
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
            session: None,
            commits: Commits::new(),
            folder: None,
            failures: Failures::default(),
            is_stop_said: false,
        }
    }

    /// Fetches all files; the first failure decides the exit code, and has been reported.
    pub fn run(mut self) -> ExitCode {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return self.failures.summary(self.tools.config.files.len(), &mut self.tools.progress),
                Err(Stop::Signal(signal)) => return self.end_by(signal),
                // Whoever read our output has seen enough: no failure to speak of.
                Err(Stop::Final(error)) if error.exit == ExitCode::ClosedPipe => return ExitCode::ClosedPipe,
                Err(stop) => {
                    let error = stop.into_error();
                    self.tools.progress.error(None, &error.to_string());
                    return error.exit;
                }
            }
        }
    }

    /// Ends the run after a signal.
    fn end_by(mut self, signal: u8) -> ExitCode {
        for (done, result) in self.commits.last() {
            self.committed(done, result);
        }
        self.tools.progress.end();
        self.ask_again();
        let mut left = String::new();
        for item in self.ready.iter_mut().chain(&mut self.later) {
            left.push_str(&item.abandon());
        }
        if !self.is_stop_said {
            self.tools.progress.error(None, &format!("stopped by {}{left}", signal_name(signal)));
        }
        ExitCode::Signal(signal)
    }

    /// Does the next thing; whether there is another.
    fn step(&mut self) -> Result<bool, Stop> {
        self.collect()?;
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

    /// Waits for the first of those that are tried again later; whether there is one.
    fn wait_for_later(&mut self) -> Result<bool, Stop> {
        if let Some(due) = self.later.iter().filter_map(|item| item.due).min() {
            self.tools.waits.pause(due)?;
            return Ok(true);
        }
        if let Some((done, result)) = self.commits.next(&mut self.tools.waits)? {
            self.committed(done, result);
            return Ok(true);
        }
        Ok(!self.ready.is_empty() || self.names.len() > 0)
    }

    /// The next file to ask for: one that is due again, one that is ready, or one that has not been looked at.
    fn next_item(&mut self) -> Result<Option<Item<'a>>, Stop> {
        let now = Instant::now();
        if let Some(at) = self.later.iter().position(|item| item.due.is_none_or(|due| due <= now)) {
            return Ok(Some(self.later.remove(at)));
        }
        if let Some(item) = self.ready.pop_front() {
            return Ok(Some(item));
        }
        for name in self.names.by_ref() {
            let config = self.tools.config;
            let writer = self.tools.receiver.writer();
            match Target::new(&config.output, name, writer, &mut self.tools.waits) {
                Ok(target) if config.existing == Existing::Keep && target.exists() => {
                    let line = format!("kept {}: it is there already (--no-clobber)", target.shown());
                    self.tools.progress.done(name, 0, &line);
                }
                Ok(target) => return Ok(Some(Item::new(name, target, config))),
                Err(stop @ Stop::Signal(_)) => return Err(stop),
                Err(stop) => self.failures.add(name, &stop.into_error(), &mut self.tools.progress),
            }
        }
        Ok(None)
    }

    /// Sends requests ahead of replies.
    fn ask_ahead(&mut self) -> Result<(), Stop> {
        while self.asked.len() < self.window() {
            let Some(mut item) = self.next_item()? else { return Ok(()) };
            // Looking at what is there can take long, and nothing else is received meanwhile.
            if !self.asked.is_empty() && item.target.resume().is_none() && item.target.has_part() {
                self.ready.push_front(item);
                return Ok(());
            }
            if self.asked.is_empty() {
                item.start();
            }
            match item.find(&mut self.tools) {
                Ok(true) => self.speech = Speech::V2,
                Ok(false) => {}
                Err(stop) => {
                    self.give_up(item, stop)?;
                    continue;
                }
            }
            if self.session.is_none() {
                self.log_attempt(&item);
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

    fn log_attempt(&self, item: &Item<'_>) {
        let (label, name) = (item.backoff.label(), text::quoted(item.name));
        log::info!(target: "main", "{label}: {name} from {}", self.tools.server);
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
                Ok(Speaks::V1) => return self.probe_v1(item),
                Ok(Speaks::Nothing(stop)) if item.target.resume().is_none() => {
                    log::debug!(target: "main", "{}; asking in version 1", stop.into_error());
                    return self.probe_v1(item);
                }
                // An old server would have us begin again: too much for what may be a moment's failure.
                Ok(Speaks::Nothing(stop)) => {
                    let why = stop.into_error().with("; if it speaks only version 1, use --v1").to_string();
                    return self.try_again(item, Stop::again(why));
                }
                Err(stop) => return self.try_again(item, stop),
            }
        }
        item.start();
        match session.reply(&mut item, wanted, &mut self.tools) {
            Ok(outcome) => {
                self.session = Some(session);
                self.succeed(item, outcome)
            }
            Err(Failed::Reply(stop)) => {
                self.session = Some(session);
                self.try_later(item, stop)
            }
            Err(Failed::Stale(stop)) => {
                log::debug!(target: "main", "{}; connecting again", stop.into_error());
                self.ask_again();
                self.ready.push_front(item);
                Ok(())
            }
            Err(Failed::Connection(stop)) => {
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

    /// A server that has never spoken version 2 is asked in version 1, at once.
    fn probe_v1(&mut self, item: Item<'a>) -> Result<(), Stop> {
        match v1::ask(&item, &mut self.tools) {
            Ok(answered) => {
                self.speech = Speech::V1;
                log::info!(target: "main", "{} speaks version 1: no resume", self.tools.server);
                self.take_v1(item, answered)
            }
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn fetch_in_v1(&mut self, mut item: Item<'a>) -> Result<(), Stop> {
        item.start();
        self.log_attempt(&item);
        match v1::ask(&item, &mut self.tools) {
            Ok(answered) => self.take_v1(item, answered),
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn take_v1(&mut self, mut item: Item<'a>, answered: v1::Answered) -> Result<(), Stop> {
        match answered.finish(&mut item, &mut self.tools) {
            Ok(outcome) => self.succeed(item, outcome),
            Err(stop) => self.try_again(item, stop),
        }
    }

    fn succeed(&mut self, mut item: Item<'a>, outcome: Outcome) -> Result<(), Stop> {
        match outcome {
            Outcome::Differs => {
                self.ready.push_front(item);
                Ok(())
            }
            Outcome::There { line, size } => {
                item.target.clean();
                self.tools.progress.done(item.name, size, &line);
                Ok(())
            }
            Outcome::Received(received) => self.commit(item, &received),
        }
    }

    /// Lets a verified file have its name.
    fn commit(&mut self, mut item: Item<'a>, received: &Received) -> Result<(), Stop> {
        let config = self.tools.config;
        self.tools.progress.complete();
        let done = Done {
            name: item.name.to_vec(),
            shown: item.target.shown(),
            size: received.offer.about.size,
            line: self.closing_line(&item, received),
        };
        let folder = item.target.folder().filter(|_| config.sync);
        let folder = folder.map(|path| Arc::clone(self.folder.get_or_insert_with(|| Folder::new(&path))));
        let replaces = config.existing != Existing::Keep;
        match item.target.commit(received.offer.attributes, folder, replaces) {
            Some(job) => self.commits.start(done, job, &self.tools.waits),
            None => {
                self.committed(done, Ok(true));
                Ok(())
            }
        }
    }

    fn closing_line(&self, item: &Item<'_>, received: &Received) -> String {
        let (digest, size) = (&received.digest, received.offer.about.size);
        let seconds = item.seconds();
        let mut line = format!(
            "{} {}: {}, {} {digest}, verified, {seconds:.1} s, {}",
            if item.target.is_stream() { "written to" } else { "saved" },
            item.target.shown(),
            text::size(size),
            digest.algorithm(),
            text::speed(item.received, seconds)
        );
        if received.slowed_by_digest {
            line.push_str(" (held up by md5: --checksum blake3 is faster)");
        }
        line
    }

    /// Takes what the committing threads have done; waits for them if there is too much of it.
    fn collect(&mut self) -> Result<(), Stop> {
        while let Some((done, result)) = self.commits.ended()? {
            self.committed(done, result);
        }
        while self.commits.is_full() {
            let Some((done, result)) = self.commits.next(&mut self.tools.waits)? else { break };
            self.committed(done, result);
        }
        Ok(())
    }

    fn committed(&mut self, done: Done, result: Result<bool, String>) {
        match result {
            Ok(true) => self.tools.progress.done(&done.name, done.size, &done.line),
            Ok(false) => {
                let line = format!("kept {}: it has appeared meanwhile (--no-clobber)", done.shown);
                self.tools.progress.done(&done.name, 0, &line);
            }
            Err(message) => {
                let error = Stop::local(message).into_error();
                self.failures.add(&done.name, &error, &mut self.tools.progress);
            }
        }
    }

    /// Waits, and then tries a file again, if that is worth it.
    fn try_again(&mut self, mut item: Item<'a>, stop: Stop) -> Result<(), Stop> {
        match self.next_attempt(&mut item, stop) {
            Ok(due) => {
                let paused = self.tools.waits.pause(due);
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
        let Stop::Again { why, connected } = stop else { return Err(stop) };
        self.tools.progress.end();
        let Some(pause) = item.backoff.next_pause() else {
            let shown = text::quoted(item.name);
            let why = match item.backoff.attempt() {
                1 => format!("{shown} not fetched: {why}"),
                n => format!("{shown} not fetched after {n} attempts: {why}"),
            };
            return Err(Stop::Again { why, connected });
        };
        let line = format!("{why}; waiting {} s before {}", pause.as_secs_f64(), item.backoff.label());
        self.tools.progress.retry(item.name, pause, &line);
        Ok(Instant::now() + pause)
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
                self.tools.progress.error(Some(item.name), &line);
                Err(stop)
            }
            Stop::Final(ref error) if error.exit == ExitCode::ClosedPipe => Err(stop),
            stop => {
                let host_is_dead = stop.host_is_dead();
                self.failures.add(item.name, &stop.into_error().with(&left), &mut self.tools.progress);
                if host_is_dead {
                    self.leave();
                }
                Ok(())
            }
        }
    }

    /// The server is dead: the rest is not tried.
    fn leave(&mut self) {
        self.ask_again();
        let mut names = Vec::new();
        for mut item in self.ready.drain(..).chain(self.later.drain(..)) {
            item.abandon();
            names.push(item.name);
        }
        names.extend(self.names.by_ref().map(Vec::as_slice));
        self.failures.leave(&names, &mut self.tools.progress);
    }
}
