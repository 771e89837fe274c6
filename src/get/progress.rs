//! What a person or a program sees of a run on standard error: lines, and the state of what is under way.

mod bar;
mod idle;
mod json;
mod rate;
mod terminal;
mod totals;

use std::cell::{RefCell, RefMut};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::clock;
use super::lines::Lines;
use super::saved::Saved;
use super::{GetConfig, ProgressMode};
use crate::console;
use crate::error::ExitCode;
use crate::logging::Verbosity;
use crate::proto::base_name;
use crate::proto::digest::Digest;
use crate::text;
use bar::{Fields, Time, duration};
use idle::Idle;
use json::Object;
use rate::Rate;
use terminal::{Terminal, When};
use totals::Totals;

/// How often a program hears of bytes at most.
const JSON_REFRESH: Duration = Duration::from_millis(500);

/// How often the bar is drawn at most, and, while nothing happens, at least: `stalled 4 s` counts seconds.
const REFRESH: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(500);

/// How long nothing is said of a server that has to answer, or of a pause: most are shorter.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Before this, a comparison with a journal has no speed.
const CHECKED_AFTER: Duration = Duration::from_millis(300);

/// What takes time with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Bytes come.
    Receiving,
    /// The target that exists is hashed.
    Comparing,
    /// The partial file of an earlier run is hashed.
    Checking,
    /// The server hashes its file.
    Waiting,
    /// All is here and verified, and waits for the disk.
    Saving,
}

impl Activity {
    fn name(self) -> &'static str {
        match self {
            Activity::Receiving => "receiving",
            Activity::Comparing => "comparing",
            Activity::Checking => "checking",
            Activity::Waiting => "server hashing",
            Activity::Saving => "saving",
        }
    }
}

/// What a run does while it does nothing with a file.
enum Pause {
    /// A connection is made.
    Connecting,
    /// The server has been asked.
    Asking,
    /// An attempt is due at this time, if at one file: which attempt, at which.
    Until(Instant, Option<(String, Vec<u8>)>),
    /// Files that are here wait for the disk.
    Saving,
}

/// The view of a run. Clones share it.
#[derive(Clone)]
pub struct Progress(Rc<RefCell<View>>);

struct View {
    mode: Mode,
    is_quiet: bool,
    server: String,
    lines: Lines,
    task: Option<Task>,
    /// The file that was at hand last, or comes first.
    name: Vec<u8>,
    /// What there is without a task, and since when.
    pause: Pause,
    paused: Instant,
    /// Since when there is no task, if there is none.
    idle: Instant,
    totals: Totals,
    rate: Rate,
    /// When the bar was drawn last, if there is one.
    drawn: Option<Instant>,
    /// When a program heard of bytes last.
    told: Instant,
}

enum Mode {
    /// Lines only.
    Lines,
    /// A bar, and lines.
    Bar(Terminal),
    /// Objects only.
    Json,
}

/// Something that takes time, and how far it is.
struct Task {
    activity: Activity,
    name: Vec<u8>,
    total: u64,
    /// Bytes that were there when it began.
    base: u64,
    done: u64,
    since: Instant,
    /// The comparison of its first bytes with their journal, which goes on meanwhile.
    check: Option<Checking>,
}

/// How far such a comparison is.
#[derive(Clone, Copy)]
struct Checking {
    /// When it was looked at first, and bytes compared by then.
    since: Instant,
    base: u64,
    done: u64,
    len: u64,
}

/// A file that ended well.
pub struct Ended<'a> {
    /// Its name on the server.
    pub name: &'a [u8],
    /// What became of it.
    pub saved: Saved,
    /// Where it is, if it is a file.
    pub path: Option<&'a Path>,
    /// Bytes in it, if somebody has looked.
    pub size: Option<u64>,
    /// Its digest, if it is known.
    pub digest: Option<&'a Digest>,
    /// Seconds that it took, if it took any.
    pub seconds: Option<f64>,
}

impl Progress {
    /// Decides once what is shown of this run.
    pub fn new(config: &GetConfig, server: &str, lines: Lines) -> Progress {
        let is_quiet = config.verbosity == Verbosity::Quiet;
        let bar = || if terminal::gets_file(&config.output) { Mode::Lines } else { Mode::Bar(Terminal::new()) };
        let mode = match config.progress {
            ProgressMode::Json => Mode::Json,
            ProgressMode::Always => bar(),
            ProgressMode::Auto if terminal::can_show_bar() && !is_quiet => bar(),
            ProgressMode::Auto | ProgressMode::Never => Mode::Lines,
        };
        let now = clock::now();
        Progress(Rc::new(RefCell::new(View {
            mode,
            is_quiet,
            server: server.to_string(),
            lines,
            task: None,
            name: config.files.first().cloned().unwrap_or_default(),
            pause: Pause::Asking,
            paused: now,
            idle: now,
            totals: Totals::new(config.files.len() as u64, now),
            rate: Rate::new(now),
            drawn: None,
            told: now,
        })))
    }

    /// Never held across a call of anything but the console.
    fn view(&self) -> RefMut<'_, View> {
        self.0.borrow_mut()
    }

    /// A connection is being made.
    pub fn connecting(&self) {
        self.view().pause(Pause::Connecting);
    }

    /// The server is asked.
    pub fn asking(&self) {
        self.view().pause(Pause::Asking);
    }

    /// Files that are here are waited for, until the disk has them.
    pub fn saving(&self) {
        self.view().pause(Pause::Saving);
    }

    /// Nothing is done until this time; then this attempt at this file is due, if it is one.
    pub fn waiting(&self, until: Instant, attempt: Option<(String, Vec<u8>)>) {
        self.view().pause(Pause::Until(until, attempt));
    }

    /// Begins to show something of `total` bytes, of which `done` are done; a server may claim more than there are.
    pub fn begin(&self, activity: Activity, name: &[u8], total: u64, done: u64) {
        let mut view = self.view();
        let now = clock::now();
        let done = done.min(total);
        view.end_task();
        if activity == Activity::Receiving {
            view.totals.take(name);
        }
        // Files that come one behind the other have one speed.
        if view.totals.files_known == 1 || activity != Activity::Receiving {
            view.rate = Rate::new(now);
        }
        view.rate.begin(now);
        view.task = Some(Task { activity, name: name.to_vec(), total, base: done, done, since: now, check: None });
        if let (Mode::Json, Activity::Receiving, 0) = (&view.mode, activity, done) {
            view.tell("start");
        }
        view.draw_again(now);
    }

    /// Whether this is what is shown.
    pub fn is_about(&self, activity: Activity) -> bool {
        self.view().task.as_ref().is_some_and(|task| task.activity == activity)
    }

    /// The size of a file is known before it is received.
    pub fn learn(&self, name: &[u8], total: u64) {
        self.view().totals.put(name, 0, total);
    }

    /// Meanwhile so many of so many bytes that were there before are compared with their journal, if any are to be.
    pub fn check(&self, check: Option<(u64, u64)>) {
        let mut view = self.view();
        let Some(task) = &mut view.task else { return };
        task.check = check.map(|(done, len)| match task.check {
            Some(begun) => Checking { done, ..begun },
            None => Checking { since: clock::now(), base: done, done, len },
        });
    }

    /// Moves to this many bytes.
    pub fn advance(&self, done: u64) {
        let mut view = self.view();
        let Some(task) = &mut view.task else { return };
        let done = done.min(task.total);
        let more = done.saturating_sub(task.done);
        task.done = done;
        let is_receiving = task.activity == Activity::Receiving;
        let now = clock::now();
        view.rate.add(more, now);
        if is_receiving {
            view.totals.received += more;
            let is_told = matches!(view.mode, Mode::Json) && !view.is_quiet;
            if is_told && now.saturating_duration_since(view.told) >= JSON_REFRESH {
                view.told = now;
                view.tell("progress");
            }
        }
        view.draw_again(now);
    }

    /// All bytes of the file are here and verified.
    pub fn complete(&self) {
        let mut guard = self.view();
        let view = &mut *guard;
        let Some(task) = &mut view.task else { return };
        task.activity = Activity::Saving;
        task.done = task.total;
        view.totals.put(&task.name, task.total, task.total);
        view.draw_again(clock::now());
    }

    /// Nothing is done with the file at hand any more.
    pub fn end(&self) {
        self.view().end();
    }

    /// A file goes on where an earlier attempt or an earlier run ended.
    pub fn resume(&self, name: &[u8], offset: u64, total: u64) {
        // The offset is at most the total; of nothing there is no resume.
        let percent = u128::from(offset) * 100 / u128::from(total.max(1));
        let (had, all) = (text::size(offset), text::size(total));
        let line = format!("resuming {} at {percent}% ({had} of {all})", text::quoted(name));
        let object = Object::new("resume").with("bytes", offset).with("total", total);
        self.view().say(log::Level::Info, Some(name), object, &line);
    }

    /// An attempt failed, and there is another.
    pub fn retry(&self, name: &[u8], pause: Duration, line: &str) {
        let object = Object::new("retry").with("pause", pause.as_secs_f64());
        self.view().say(log::Level::Warn, Some(name), object, line);
    }

    /// A file is where it should be.
    pub fn done(&self, file: &Ended<'_>, line: &str) {
        let mut view = self.view();
        view.totals.add(file.name, file.saved, file.size);
        let mut object = Object::new("done")
            .with_saved(file.saved, file.path)
            .with_some("bytes", file.size)
            .with_some("total", file.size)
            .with_some("seconds", file.seconds.map(rounded));
        if let Some(digest) = file.digest {
            object = object.with(&digest.algorithm().to_string(), digest.to_string());
        }
        view.say(log::Level::Info, Some(file.name), object, line);
    }

    /// A line that says what was done; to which file, if it was one.
    pub fn note(&self, name: Option<&[u8]>, line: &str) {
        self.view().say(log::Level::Info, name, Object::new("note"), line);
    }

    /// A file that is not tried, and why: a program hears of each, a person of all of them in one line.
    pub fn not_tried(&self, name: &[u8], why: &str) {
        let mut view = self.view();
        view.totals.not_tried += 1;
        let line = format!("not tried: {}", text::quoted(name));
        log::warn!(target: "main", "{line}");
        if let Mode::Json = view.mode {
            view.print(Object::new("error").with("reason", why), Some(name), Some(&line));
        }
    }

    /// A line about something that failed; of which file, if it was one, and with which exit code, if it decides one.
    pub fn error(&self, name: Option<&[u8]>, exit: Option<ExitCode>, line: &str) {
        let mut view = self.view();
        if let (Some(name), Some(_)) = (name, exit) {
            view.totals.fail(name);
        }
        let object = Object::new("error").with_some("code", exit.map(ExitCode::number));
        view.say(log::Level::Error, name, object, line);
    }

    /// The end of a run, and whether it came to an end by itself: then a person learns what became of several files.
    pub fn summary(&self, exit: ExitCode, is_whole: bool) {
        let mut view = self.view();
        view.end();
        view.remove_bar();
        let line = view.totals.summary();
        let level = if view.totals.failed > 0 { log::Level::Error } else { log::Level::Info };
        if is_whole && view.totals.files_known > 1 {
            log::log!(target: "main", level, "{line}");
            match (&view.mode, level) {
                (Mode::Json, _) => {}
                (_, log::Level::Error) => view.lines.print(&format!("xfer: {line}")),
                _ if view.is_quiet => {}
                _ => view.lines.print(&line),
            }
        }
        if matches!(view.mode, Mode::Json) && (exit != ExitCode::Done || !view.is_quiet) {
            let seconds = rounded(clock::since(view.totals.started).as_secs_f64());
            let object = Object::new("summary").with_totals(&view.totals, None).with_ends(&view.totals, exit);
            view.print(object.with("seconds", seconds), None, Some(&line));
        }
    }

    /// When the bar has to be drawn again although nothing happens.
    pub fn next_tick(&self) -> Option<Instant> {
        self.view().next_tick()
    }

    /// Draws the bar again if that is due.
    pub fn tick(&self) {
        let mut view = self.view();
        let now = clock::now();
        if view.next_tick().is_some_and(|due| now >= due) {
            view.draw(now, When::Now);
        }
    }

    /// Prints how far the run is, at once and in every mode: somebody has asked (SIGUSR1).
    pub fn report(&self) {
        let view = self.view();
        match view.mode {
            Mode::Json => view.tell("progress"),
            _ => view.lines.print(&view.status(clock::now())),
        }
        view.lines.flush();
    }
}

impl View {
    fn is_one(&self) -> bool {
        self.totals.files_known == 1
    }

    /// The bar of one file goes with it; that of several stays.
    fn end(&mut self) {
        self.end_task();
        if self.is_one() {
            self.remove_bar();
        }
    }

    fn pause(&mut self, pause: Pause) {
        (self.pause, self.paused) = (pause, clock::now());
    }

    fn end_task(&mut self) {
        let Some(task) = self.task.take() else { return };
        self.idle = clock::now();
        self.paused = self.idle;
        if task.activity == Activity::Receiving {
            self.totals.put(&task.name, task.done, task.total);
        }
        self.name = task.name;
    }

    fn remove_bar(&mut self) {
        if self.drawn.take().is_some() {
            console::with(console::Console::remove_bar);
        }
    }

    /// Bytes of the file that is being received: here, and in all.
    fn at_hand(&self) -> Option<(u64, u64)> {
        let task = self.task.as_ref().filter(|task| task.activity == Activity::Receiving)?;
        Some((task.done, task.total))
    }

    /// Says something about a file, which is not at hand any more then, or about the run.
    fn say(&mut self, level: log::Level, name: Option<&[u8]>, object: Object, line: &str) {
        log::log!(target: "main", level, "{line}");
        if self.task.as_ref().is_none_or(|task| name.is_none_or(|name| name == task.name)) {
            self.end();
        }
        let is_good = level == log::Level::Info;
        match self.mode {
            _ if is_good && self.is_quiet => {}
            Mode::Json => self.print(object, name, Some(line)),
            _ if is_good => self.lines.print(line),
            _ => self.lines.print(&format!("xfer: {line}")),
        }
        if self.drawn.is_some() {
            // Its numbers may have changed with the line.
            self.draw(clock::now(), When::WithLines);
        }
    }

    fn print(&self, object: Object, name: Option<&[u8]>, line: Option<&str>) {
        let object = match name {
            Some(name) => object.with_bytes("file", name),
            None => object,
        };
        self.lines.print(&object.with_some("message", line).line());
    }

    /// Tells a program how far the run is.
    fn tell(&self, event: &str) {
        if self.is_quiet && event == "start" {
            return;
        }
        let object = Object::new(event).with("state", self.state()).with_totals(&self.totals, self.at_hand());
        let Some(task) = &self.task else { return self.print(object, None, None) };
        let (rate, left) = task.mean_rate(clock::now());
        let object = object
            .with("bytes", task.done)
            .with("total", task.total)
            .with("rate", rate.round())
            .with("eta", left.map(f64::round));
        self.print(object, Some(&task.name), None);
    }

    fn state(&self) -> &'static str {
        match (&self.task, &self.pause) {
            (Some(task), _) => task.activity.name(),
            (None, Pause::Connecting) => "connecting",
            (None, Pause::Asking) => "asking",
            (None, Pause::Until(..)) => "waiting",
            (None, Pause::Saving) => Activity::Saving.name(),
        }
    }

    /// When the bar has to be drawn next, although nothing happens.
    fn next_tick(&self) -> Option<Instant> {
        if !matches!(self.mode, Mode::Bar(_)) {
            return None;
        }
        match (self.drawn, &self.task) {
            (Some(drawn), _) => Some(drawn + TICK),
            (None, None) => Some(self.idle_from()),
            (None, Some(_)) => None,
        }
    }

    /// From when on there is something to say of what the run waits for: of a pause that is not short at once.
    fn idle_from(&self) -> Instant {
        match self.pause {
            Pause::Until(until, _) if until >= self.paused + IDLE_AFTER => self.paused,
            _ => self.idle + IDLE_AFTER,
        }
    }

    /// Draws, unless that was a moment ago.
    fn draw_again(&mut self, now: Instant) {
        if self.drawn.is_none_or(|drawn| now.saturating_duration_since(drawn) >= REFRESH) {
            self.draw(now, When::Now);
        }
    }

    fn draw(&mut self, now: Instant, when: When) {
        let is_idle = self.task.is_none() && now >= self.idle_from();
        // One empty file needs no bar.
        let is_empty = self.is_one() && self.task.as_ref().is_none_or(|task| task.total == 0);
        if !matches!(self.mode, Mode::Bar(_)) || is_empty && !is_idle {
            return;
        }
        if matches!(when, When::Now) {
            self.drawn = Some(now);
        }
        let idle = is_idle.then(|| self.idle(now));
        let fields = self.fields(now);
        let Mode::Bar(terminal) = &mut self.mode else { return };
        terminal.draw(when, |limit| match idle {
            Some(idle) => idle.line(limit),
            None => fields.line(limit),
        });
    }

    /// The last component of a name, as the bar shows it.
    fn bar_name(&self, name: &[u8]) -> String {
        let name = text::escaped(base_name(name));
        if let Mode::Bar(terminal) = &self.mode { terminal.name(name) } else { name }
    }

    /// ` 3 of 300`, if there are several files.
    fn count(&self) -> Option<String> {
        let (ended, known) = (self.totals.files_ended(), self.totals.files_known);
        let digits = known.to_string().len();
        (!self.is_one()).then(|| format!("{ended:>digits$} of {known}"))
    }

    fn idle(&self, now: Instant) -> Idle {
        let seconds = now.saturating_duration_since(self.paused).as_secs();
        let time = if seconds > 0 { format!(", {seconds} s") } else { String::new() };
        let of_one = self.is_one().then_some(&self.name);
        let (name, what) = match &self.pause {
            Pause::Connecting => (None, [format!("connecting to {}{time}", self.server), format!("connecting{time}")]),
            Pause::Asking => {
                (of_one, [format!("waiting for {} to answer{time}", self.server), format!("waiting{time}")])
            }
            Pause::Saving => (of_one, [format!("saving{time}"), format!("saving{time}")]),
            Pause::Until(until, attempt) => {
                let left = seconds_until(*until, now);
                let label = attempt.as_ref().map_or("next attempt", |(label, _)| label);
                let name = attempt.as_ref().map(|(_, name)| name);
                (name, [format!("{label} in {left}"), format!("retry in {left}")])
            }
        };
        Idle { count: self.count(), name: name.map(|name| self.bar_name(name)), what }
    }

    fn fields(&self, now: Instant) -> Fields {
        let name = self.bar_name(self.task.as_ref().map_or(&self.name, |task| &task.name));
        let activity = self.activity(now);
        let pace = activity.is_none().then(|| self.pace(now));
        let (done, total) = self.task.as_ref().map_or((0, 0), |task| (task.done, task.total));
        if self.is_one() {
            let time = self.time_left(now).map_or(Time::Unknown, Time::Left);
            let activity = activity.map(String::from);
            return Fields { count: None, name, activity, done: (done, total), bytes: (done, Some(total)), pace, time };
        }
        // The other numbers are those of the run.
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let activity = activity.map(|activity| format!("{activity} {percent:>3}%"));
        let (done, total) = self.totals.bytes(self.at_hand());
        let is_final = self.totals.bytes_final(self.at_hand().is_some());
        let elapsed = Time::Elapsed(now.saturating_duration_since(self.totals.started));
        Fields {
            count: self.count(),
            name,
            activity,
            done: (self.totals.files_ended(), self.totals.files_known),
            bytes: (done, is_final.then_some(total)),
            pace,
            time: self.time_left(now).filter(|_| is_final).map_or(elapsed, Time::Left),
        }
    }

    /// What is done with the file at hand, if it is not received.
    fn activity(&self, now: Instant) -> Option<&'static str> {
        let task = self.task.as_ref()?;
        if task.activity != Activity::Receiving {
            return Some(task.activity.name());
        }
        // Small files are verified most of the time, and have a speed all the same.
        let is_whole = task.done == task.total && (self.is_one() || self.rate.stalled(now).is_some());
        is_whole.then_some("verifying")
    }

    /// The speed, or for how long nothing has come.
    fn pace(&self, now: Instant) -> String {
        match (self.rate.stalled(now).filter(|_| self.task.is_some()), self.rate.speed(now)) {
            (Some(time), _) => format!("stalled {}", duration(time)),
            (None, Some(speed)) => text::speed(speed as u64, 1.0),
            (None, None) => String::new(),
        }
    }

    /// Until all bytes that are known of have come, at the speed of the last seconds, and those that were there before are
    /// compared.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        let task = self.task.as_ref()?;
        let (done, total) = match self.at_hand() {
            Some(at_hand) if !self.is_one() => self.totals.bytes(Some(at_hand)),
            _ => (task.done, task.total),
        };
        let speed = self.rate.speed(now).filter(|speed| *speed > 0.0 && self.rate.stalled(now).is_none())?;
        let seconds = total.saturating_sub(done) as f64 / speed;
        let seconds = seconds.max(task.check_left(now)?).ceil();
        // Longer than any age of the world is no time.
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// `receiving 'a': 44% (42.2 MiB of 95.4 MiB), 11.2 MiB/s, 5 s left`
    fn status(&self, now: Instant) -> String {
        let mut line = String::new();
        if !self.is_one() {
            let (done, known) = (self.totals.files_ended(), self.totals.files_known);
            let (bytes, _) = self.totals.bytes(self.at_hand());
            line.push_str(&format!("{done} of {known} files, {}: ", text::size(bytes)));
        }
        let Some(task) = &self.task else {
            line.push_str(&match &self.pause {
                Pause::Connecting => format!("connecting to {}", self.server),
                Pause::Asking => format!("waiting for {} to answer", self.server),
                Pause::Until(until, None) => format!("waiting {}", seconds_until(*until, now)),
                Pause::Until(until, Some((attempt, name))) => {
                    format!("retrying in {} ({attempt}): {}", seconds_until(*until, now), text::quoted(name))
                }
                Pause::Saving => String::from("saving"),
            });
            return line;
        };
        let percent = u128::from(task.done) * 100 / u128::from(task.total.max(1));
        let (done, total) = (text::size(task.done), text::size(task.total));
        let name = text::quoted(&task.name);
        line.push_str(&format!("{} {name}: {percent}% ({done} of {total})", task.activity.name()));
        if task.activity == Activity::Receiving && task.done < task.total {
            let time = self.time_left(now).map(|left| Time::Left(left).for_line());
            for part in [Some(self.pace(now)), time.flatten()].into_iter().flatten().filter(|part| !part.is_empty()) {
                line.push_str(&format!(", {part}"));
            }
        }
        line
    }
}

impl Task {
    /// Bytes a second since it began, and seconds left.
    fn mean_rate(&self, now: Instant) -> (f64, Option<f64>) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        let rate = (self.done.saturating_sub(self.base)) as f64 / seconds.max(0.001);
        let left = (self.total.saturating_sub(self.done)) as f64;
        let check_left = self.check_left(now).filter(|_| rate > 0.0);
        (rate, check_left.map(|check_left| check_left.max(left / rate)))
    }

    /// Seconds until its first bytes are compared with their journal: 0 if none are to be. None if nobody can say.
    fn check_left(&self, now: Instant) -> Option<f64> {
        let Some(check) = self.check.filter(|check| check.done < check.len) else { return Some(0.0) };
        let time = now.saturating_duration_since(check.since);
        let done = check.done.saturating_sub(check.base);
        let left = check.len - check.done;
        (time >= CHECKED_AFTER && done > 0).then(|| left as f64 * time.as_secs_f64() / done as f64)
    }
}

/// Whole seconds, of which the last has not passed.
fn seconds_until(until: Instant, now: Instant) -> String {
    let left = until.saturating_duration_since(now);
    duration(Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0)))
}

/// Seconds to the millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
