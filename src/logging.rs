//! Log lines to a file and to standard error, without ever waiting for either: the only file that knows fern.
//!
//! Lines gather in bounded buffers. [`Logs::flush`] writes out what the file and the console take; what does not fit
//! is dropped and counted. fern panics when its sink fails, so its sinks here never fail.

use std::cell::Cell;
use std::fmt::{Arguments, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::{LevelFilter, Record};
use rustix::fs::OFlags;

use crate::error::{Error, ExitCode, reason};
use crate::{console, file, text};

/// Bytes of lines that wait for a sink at most: some thousand lines, and no burden for any machine.
const BUFFER_MAX: usize = 256 * 1024;

/// Log files can name files and hosts: not for everyone on the machine.
const LOG_MODE: u32 = 0o640;

/// Where the log file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A folder that nobody named: if it cannot be written, one warning, and on.
    Default(PathBuf),
    /// A folder that was named: a new file in it, called after the time.
    Dir(PathBuf),
    /// This file, appended to.
    File(PathBuf),
    /// No log file.
    Off,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// What an operator wants to see.
    Normal,
    /// Debug messages too.
    Verbose,
}

/// Which log lines also go to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConsole {
    /// All that the verbosity lets through: a server's console is its log.
    All,
    /// Debug lines, if those are asked for; all else that a person sees is printed by other means.
    DebugOnly,
}

/// The two sinks. Clones share them.
#[derive(Clone)]
pub struct Logs {
    file: Arc<Mutex<Sink>>,
    console: Arc<Mutex<Sink>>,
}

/// Lines on their way to one place.
struct Sink {
    place: Place,
    waiting: Vec<u8>,
    /// Lines dropped since the last one that was taken.
    dropped: u64,
}

enum Place {
    Nowhere,
    File { file: File, path: PathBuf },
    Console,
}

impl Logs {
    /// Opens the log file and makes both sinks the process's logger. `role` is `server` or `client`.
    pub fn start(role: &str, target: &LogTarget, verbosity: Verbosity, console: OnConsole) -> Result<Logs, Error> {
        // Both are looked up now: a server that has restricted itself may not find them later.
        time_zone();
        console::with(|_| ());
        let (place, warning) = open(role, target)?;
        let logs = Logs { file: Sink::shared(place), console: Sink::shared(Place::Console) };
        let (file_level, console_level) = match (verbosity, console) {
            (Verbosity::Verbose, _) => (LevelFilter::Debug, LevelFilter::Debug),
            (_, OnConsole::DebugOnly) => (LevelFilter::Info, LevelFilter::Off),
            (Verbosity::Normal, OnConsole::All) => (LevelFilter::Info, LevelFilter::Info),
            (Verbosity::Quiet, OnConsole::All) => (LevelFilter::Info, LevelFilter::Warn),
        };
        let dispatch = fern::Dispatch::new()
            .level_for("mio", LevelFilter::Warn)
            .format(|out, message, record| with_line(message, record, |line| out.finish(format_args!("{line}"))))
            .chain(fern::Dispatch::new().level(file_level).chain(sink_output(&logs.file)))
            .chain(
                fern::Dispatch::new()
                    .level(console_level)
                    .filter(move |line| console == OnConsole::All || line.level() == log::Level::Debug)
                    .chain(sink_output(&logs.console)),
            );
        // Only a second call in one process could fail, and then the first logger goes on.
        let _ = dispatch.apply();
        if let Some(warning) = warning {
            log::warn!(target: "main", "{warning}");
            if console == OnConsole::DebugOnly {
                console::print_line(&format!("xfer: {warning}"));
            }
        }
        Ok(logs)
    }

    /// The log file's path as it was opened, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        match &lock(&self.file).place {
            Place::File { path, .. } => Some(path.clone()),
            _ => None,
        }
    }

    /// Where the open log file lies now, whatever it or its folder has been renamed to since, and its device and inode.
    pub fn real_file(&self) -> Option<(PathBuf, (u64, u64))> {
        let Place::File { file, path } = &lock(&self.file).place else { return None };
        let path = file::real_path(file).or_else(|| path.canonicalize().ok())?;
        let metadata = file.metadata().ok()?;
        Some((path, (metadata.dev(), metadata.ino())))
    }

    /// Whether so many lines wait that some may be dropped soon.
    pub fn are_filling(&self) -> bool {
        lock(&self.file).is_filling() || lock(&self.console).is_filling()
    }

    /// Writes out what the file and the console take now.
    pub fn flush(&self) {
        lock(&self.file).flush();
        lock(&self.console).flush();
    }

    /// Writes out the rest at the end of a run, as long as the console takes it within a moment.
    pub fn finish(&self, with_console: bool) {
        let mut file = lock(&self.file);
        file.flush();
        file.say_dropped();
        file.flush();
        let mut on_console = lock(&self.console);
        on_console.say_dropped();
        if with_console {
            console::with(|console| console.print(&on_console.waiting));
        }
        on_console.waiting.clear();
    }

    /// Whether lines wait for a console that takes none at the moment.
    pub fn is_waiting(&self) -> bool {
        !lock(&self.console).waiting.is_empty()
    }

    /// Opens the log file again under its name, for log rotation. On failure the old file goes on.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut sink = lock(&self.file);
        sink.flush();
        let Place::File { path, .. } = &sink.place else { return Ok(()) };
        let path = path.clone();
        let file = append(&path, false).map_err(|error| {
            Error::new(
                ExitCode::Refused,
                format!("cannot reopen the log file {}: {}", text::path(&path), reason(&error)),
            )
        })?;
        sink.place = Place::File { file, path };
        Ok(())
    }
}

/// A sink is plain data that is whole after every statement: a panic elsewhere leaves it usable.
fn lock(sink: &Mutex<Sink>) -> MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sink_output(sink: &Arc<Mutex<Sink>>) -> fern::Output {
    let sink = Arc::clone(sink);
    fern::Output::call(move |record| lock(&sink).push(record.args()))
}

/// Makes `2026-01-15 20:10:33.123 - conn-12 - INFO - message`, in local time; who speaks is the record's target.
fn with_line(message: &Arguments<'_>, record: &Record<'_>, take: impl FnOnce(&str)) {
    let speaker = if record.target().starts_with("conn-") { record.target() } else { "main" };
    // Taken out, so that a line within a line finds another one and not this one in use.
    let mut clock = CLOCK.take();
    let Clock { second, stamp, line } = &mut clock;
    let now = Timestamp::now();
    if *second != Some(now.as_second()) {
        *second = Some(now.as_second());
        *stamp = now.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    }
    line.clear();
    // Into a String nothing fails.
    let _ = write!(line, "{stamp}.{:03} - {speaker} - {} - {message}", now.subsec_millisecond(), record.level());
    take(line);
    CLOCK.set(clock);
}

/// The time zone of this machine with all its rules, read once. jiff itself would read it again every five minutes, and
/// say UTC where a sandbox keeps it from that.
fn time_zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system).clone()
}

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock { second: None, stamp: String::new(), line: String::new() }) };
}

/// What lines are made with. A second is put into words once: that takes longer than all the rest of a line.
#[derive(Default)]
struct Clock {
    /// Seconds since 1970 that the stamp is of.
    second: Option<i64>,
    stamp: String,
    /// The last line; its memory serves the next one.
    line: String,
}

impl Sink {
    fn shared(place: Place) -> Arc<Mutex<Sink>> {
        Arc::new(Mutex::new(Sink { place, waiting: Vec::new(), dropped: 0 }))
    }

    /// Takes a whole line or drops it.
    fn push(&mut self, line: &Arguments<'_>) {
        if matches!(self.place, Place::Nowhere) {
            return;
        }
        // A file takes bytes at any time; a console in its own.
        if self.is_filling() && matches!(self.place, Place::File { .. }) {
            self.flush();
        }
        let (before, dropped) = (self.waiting.len(), self.dropped);
        self.say_dropped();
        // Into a Vec nothing fails.
        let _ = writeln!(self.waiting, "{line}");
        if self.waiting.len() > BUFFER_MAX {
            self.waiting.truncate(before);
            self.dropped = dropped + 1;
        }
    }

    fn is_filling(&self) -> bool {
        self.waiting.len() >= BUFFER_MAX / 4
    }

    /// Puts in a line about those that were dropped.
    fn say_dropped(&mut self) {
        if self.dropped > 0 {
            let _ =
                writeln!(self.waiting, "({} dropped: not written in time)", text::count(self.dropped, "line", "lines"));
            self.dropped = 0;
        }
    }

    /// Writes what the place takes now. A disk that is full or broken costs lines and nothing else.
    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        match &mut self.place {
            Place::Nowhere => {}
            Place::File { file, .. } => {
                if file.write_all(&self.waiting).is_err() {
                    self.dropped += lines_in(&self.waiting);
                }
                self.waiting.clear();
            }
            Place::Console => {
                let written = console::with(|console| console.write_ready(&self.waiting));
                self.waiting.drain(..written);
            }
        }
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Opens what the log goes to; with it comes a warning, if nobody named the folder and it cannot be written.
fn open(role: &str, target: &LogTarget) -> Result<(Place, Option<String>), Error> {
    let (folder, named) = match target {
        LogTarget::Off => return Ok((Place::Nowhere, None)),
        LogTarget::File(path) => {
            let file =
                append(path, false).map_err(|error| failed(&format!("the log file {}", text::path(path)), &error))?;
            return Ok((placed(file, path), None));
        }
        LogTarget::Default(folder) => (folder, false),
        LogTarget::Dir(folder) => (folder, true),
    };
    match open_in(folder, role) {
        Ok(place) => Ok((place, None)),
        Err(error) if named => Err(failed(&format!("a log file in {}", text::path(folder)), &error)),
        Err(error) => {
            let why = reason(&error);
            let warning =
                format!("no log file: cannot write in {}: {why}; name a folder with --log-dir", text::path(folder));
            Ok((Place::Nowhere, Some(warning)))
        }
    }
}

fn failed(what: &str, error: &io::Error) -> Error {
    let message = format!("cannot write {what}: {}; name another, or use --no-log", reason(error));
    Error::new(ExitCode::Local, message)
}

/// Creates `ROLE_YYYYMMDD_HHMMSS.log`, or with `_PID` behind it where that name is taken. Never opens what is there:
/// in a folder that others can write to, a link could lead anywhere.
fn open_in(folder: &Path, role: &str) -> io::Result<Place> {
    std::fs::create_dir_all(folder)?;
    let stamp = Timestamp::now().to_zoned(time_zone()).strftime("%Y%m%d_%H%M%S").to_string();
    let path = folder.join(format!("{role}_{stamp}.log"));
    match append(&path, true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let path = folder.join(format!("{role}_{stamp}_{}.log", std::process::id()));
            append(&path, true).map(|file| placed(file, &path))
        }
        file => file.map(|file| placed(file, &path)),
    }
}

fn placed(file: File, path: &Path) -> Place {
    Place::File { file, path: path.to_path_buf() }
}

/// Opens for appending, and never waits: a FIFO without a reader is an error.
fn append(path: &Path, create_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .create_new(create_new)
        .mode(LOG_MODE)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_sink_drops_whole_lines_and_says_how_many() {
        let mut sink = Sink { place: Place::Console, waiting: Vec::new(), dropped: 0 };
        let long = "x".repeat(1000);
        for _ in 0..300 {
            sink.push(&format_args!("{long}"));
        }
        assert!(sink.waiting.len() <= BUFFER_MAX);
        assert_eq!(sink.dropped + lines_in(&sink.waiting), 300);
        let dropped = sink.dropped;
        sink.waiting.clear();
        sink.push(&format_args!("again"));
        assert_eq!(sink.waiting, format!("({dropped} lines dropped: not written in time)\nagain\n").as_bytes());
    }

    #[test]
    fn a_disk_that_is_full_costs_lines_only() {
        let path = Path::new("/dev/full");
        let file = append(path, false).expect("/dev/full can be opened");
        let mut sink = Sink { place: placed(file, path), waiting: Vec::new(), dropped: 0 };
        sink.push(&format_args!("lost"));
        sink.flush();
        assert_eq!((sink.waiting.len(), sink.dropped), (0, 1));
    }
}
