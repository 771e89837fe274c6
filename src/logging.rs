//! Log lines to a file and to standard error, without ever waiting for either: the only file that knows fern.
//!
//! Lines gather in bounded buffers. [`Logs::flush`] writes out what the file and the console take; what does not fit
//! is dropped, and a line in its place says how many were. fern panics when its sink fails, so its sinks here never fail.

use std::cell::Cell;
use std::fmt::{Arguments, Write as _};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use log::{LevelFilter, Record};
use rustix::fs::OFlags;

use crate::console::{self, Written, write_after_torn};
use crate::error::{Error, ExitCode, reason};
use crate::{file, strangers, text};

/// Bytes of lines that wait for a sink at most: some thousand lines, and no burden for any machine.
const BUFFER_MAX: usize = 256 * 1024;

/// Log files can name files and hosts: not for everyone on the machine.
const LOG_MODE: u32 = 0o640;

/// Processes of one number that find a name for their logs in one folder within one second.
const SAME_NAME_MAX: u32 = 1000;

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

/// The target of a record that is for the log file only, since the same is printed without a time on a terminal.
const FILE_ONLY: &str = "file-only";

/// The two sinks. Clones share them.
#[derive(Clone)]
pub struct Logs {
    file: Arc<Mutex<Sink>>,
    console: Arc<Mutex<Sink>>,
    /// Whether lines of level INFO go to the console, and that is a terminal.
    informs_terminal: bool,
}

/// Lines on their way to one place.
struct Sink {
    place: Place,
    /// Whole lines, but for the first one where some of it is written already.
    waiting: Vec<u8>,
    /// Whether some of the first one is.
    is_mid_line: bool,
    /// Lines that the first of `waiting` says were dropped; 0 if it is another line.
    told: u64,
    /// Lines dropped behind all that waits. No other is taken before a line has told of them, and that can be lost, too.
    dropped: u64,
}

enum Place {
    Nowhere,
    File {
        file: File,
        path: PathBuf,
        /// Whether it ends in a line without its end, whose rest is lost.
        is_torn: bool,
    },
    Console,
}

impl Logs {
    /// Opens the log file and makes both sinks the process's logger. `role` is `server` or `client`.
    pub fn start(role: &str, target: &LogTarget, verbosity: Verbosity, console: OnConsole) -> Result<Logs, Error> {
        // Both are looked up now: a server that has restricted itself may not find them later.
        zone();
        console::with(|_| ());
        let (place, warning) = open(role, target)?;
        let informs_terminal = console == OnConsole::All && verbosity != Verbosity::Quiet && io::stderr().is_terminal();
        let logs = Logs { file: Sink::shared(place), console: Sink::shared(Place::Console), informs_terminal };
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
                    .filter(|line| line.target() != FILE_ONLY)
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
        if let Some(warning) = &zone().warning {
            log::warn!(target: "main", "{warning}");
        }
        Ok(logs)
    }

    /// Logs what a person may want to copy: `HEADING: COPIED`. On a terminal it has a line of its own, without a time before
    /// it, so that 80 columns do not break it.
    pub fn offer(&self, heading: &str, copied: &str) {
        if self.informs_terminal {
            log::info!(target: FILE_ONLY, "{heading}: {copied}");
            let mut console = lock(&self.console);
            console.push(&format_args!("{heading}:"));
            console.push(&format_args!("    {copied}"));
        } else {
            log::info!(target: "main", "{heading}: {copied}");
        }
    }

    /// The absolute path of the log file as it was opened, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        match &lock(&self.file).place {
            Place::File { path, .. } => Some(path.clone()),
            _ => None,
        }
    }

    /// Where the open log file lies now, whatever it or its folder has been renamed to since, and its device and inode.
    pub fn real_file(&self) -> Option<(PathBuf, (u64, u64))> {
        let Place::File { file, path, .. } = &lock(&self.file).place else { return None };
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
            let written = console::with(|console| console.print(&on_console.waiting));
            on_console.took(written);
        }
        on_console.lose();
    }

    /// Whether lines wait for a console, or for a log that is a FIFO, which takes none at the moment.
    pub fn is_waiting(&self) -> bool {
        !lock(&self.console).waiting.is_empty() || !lock(&self.file).waiting.is_empty()
    }

    /// Opens the log file again under its name, for log rotation. On failure the old file goes on.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut sink = lock(&self.file);
        sink.flush();
        let Place::File { path, is_torn, .. } = &sink.place else { return Ok(()) };
        let (path, was_torn) = (path.clone(), *is_torn || sink.is_mid_line);
        let file = append_to_own(&path).map_err(|error| {
            Error::new(
                ExitCode::Refused,
                format!("cannot reopen the log file {}: {}", text::path(&path), reason(&error)),
            )
        })?;
        // The rest of a line that an old FIFO has the beginning of belongs into no other file.
        if sink.is_mid_line && !sink.place.is(&file) {
            sink.lose();
        }
        let mut place = placed(file, &path);
        if let Place::File { file, is_torn, .. } = &mut place {
            // It may be the same file, which a sandbox does not let us read.
            *is_torn |= was_torn && file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        }
        sink.place = place;
        sink.is_mid_line = false;
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
        *stamp = local(now).strftime("%Y-%m-%d %H:%M:%S").to_string();
    }
    line.clear();
    // Into a String nothing fails.
    let _ = write!(line, "{stamp}.{:03} - {speaker} - {} - {message}", now.subsec_millisecond(), record.level());
    take(line);
    CLOCK.set(clock);
}

/// The time zone of this process with all its rules.
struct Zone {
    rules: TimeZone,
    /// If it is not the one that was asked for.
    warning: Option<String>,
}

/// The time zone that `TZ` names, or that of this machine, read once. jiff itself would read it again every five minutes,
/// and say UTC where a sandbox keeps it from that.
fn zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| match std::env::var_os("TZ").map(|named| (TimeZone::try_system(), named)) {
        // A machine that has no time zone has UTC (tzset(3)).
        None => Zone { rules: machine_rules().unwrap_or(TimeZone::UTC), warning: None },
        Some((Ok(rules), _)) => Zone { rules, warning: None },
        Some((Err(_), named)) => {
            let named = text::quoted(named.as_bytes());
            let warning = format!(
                "unknown time zone {named} in TZ: the log is in UTC; check the name, or install the package tzdata"
            );
            Zone { rules: TimeZone::UTC, warning: Some(warning) }
        }
    })
}

/// The rules of this machine's time zone, without its name. jiff lists the folders of all time zones to find that: 100
/// system calls, 0.4 ms of the 1.6 ms that a start takes.
fn machine_rules() -> Option<TimeZone> {
    TimeZone::tzif("", &std::fs::read("/etc/localtime").ok()?).ok()
}

/// A moment in the local time of this process.
fn local(moment: Timestamp) -> Zoned {
    moment.to_zoned(zone().rules.clone())
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
    fn new(place: Place) -> Sink {
        Sink { place, waiting: Vec::new(), is_mid_line: false, told: 0, dropped: 0 }
    }

    fn shared(place: Place) -> Arc<Mutex<Sink>> {
        Arc::new(Mutex::new(Sink::new(place)))
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
        // Where lines were dropped, all that came before them goes out before the line that tells of them: so it stands
        // in their place, and there is one for each gap.
        if self.dropped > 0 && !self.waiting.is_empty() {
            self.dropped += 1;
            return;
        }
        self.say_dropped();
        let before = self.waiting.len();
        // Into a Vec nothing fails.
        let _ = writeln!(self.waiting, "{line}");
        if self.waiting.len() > BUFFER_MAX {
            self.waiting.truncate(before);
            self.dropped += 1;
        }
    }

    fn is_filling(&self) -> bool {
        self.waiting.len() >= BUFFER_MAX / 4
    }

    /// Puts in a line about those that were dropped.
    fn say_dropped(&mut self) {
        if self.dropped == 0 {
            return;
        }
        if self.waiting.is_empty() {
            self.told = self.dropped;
        }
        let dropped = text::count(self.dropped, "line", "lines");
        let _ = writeln!(self.waiting, "({dropped} dropped: not written in time)");
        self.dropped = 0;
    }

    /// Writes what the place takes now. A disk that is full or broken costs lines and nothing else.
    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Written { bytes, is_rest_lost } = self.place.write(&self.waiting);
        self.took(bytes);
        if is_rest_lost {
            self.lose();
        }
    }

    /// The place has taken so many bytes.
    fn took(&mut self, bytes: usize) {
        let mut taken = self.waiting.drain(..bytes);
        let Some(last) = taken.next_back() else { return };
        self.is_mid_line = last != b'\n';
        if !self.is_mid_line || taken.any(|byte| byte == b'\n') {
            self.told = 0;
        }
    }

    /// What waits is lost, and counted with those lines that it was to tell of.
    fn lose(&mut self) {
        // A line of which nothing but its end is missing gets that with the next one.
        if self.is_mid_line && self.waiting.first() == Some(&b'\n') {
            self.waiting.remove(0);
            self.told = 0;
        }
        let told = std::mem::take(&mut self.told);
        self.dropped += lines_in(&self.waiting) + told - u64::from(told > 0);
        self.waiting.clear();
        if std::mem::take(&mut self.is_mid_line) {
            self.place.tear();
        }
    }
}

impl Place {
    /// Whether it is this file, by whichever name it was opened.
    fn is(&self, other: &File) -> bool {
        let id = |file: &File| file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        matches!(self, Place::File { file, .. } if id(file).is_some() && id(file) == id(other))
    }

    /// Writes what it takes now.
    fn write(&mut self, bytes: &[u8]) -> Written {
        match self {
            Place::Nowhere => Written { bytes: bytes.len(), is_rest_lost: false },
            Place::File { file, is_torn, .. } => {
                let (written, result) = write_after_torn(is_torn, bytes, |bytes| write_all(file, bytes));
                // A FIFO that is full at the moment.
                let is_lost = result.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
                Written { bytes: written, is_rest_lost: is_lost }
            }
            Place::Console => console::with(|console| console.write_ready(bytes)),
        }
    }

    /// The rest of the line that was written last will not come.
    fn tear(&mut self) {
        match self {
            Place::Nowhere => {}
            Place::File { is_torn, .. } => *is_torn = true,
            Place::Console => console::with(console::Console::tear),
        }
    }
}

/// How many bytes were written, and why not all.
fn write_all(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
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
                append_to_own(path).map_err(|error| failed(&format!("the log file {}", text::path(path)), &error))?;
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
            let warning = format!(
                "cannot write a log file in {}: {why}; continuing without one (--log-dir chooses a directory)",
                text::path(folder)
            );
            Ok((Place::Nowhere, Some(warning)))
        }
    }
}

fn failed(what: &str, error: &io::Error) -> Error {
    let message = format!("cannot write {what}: {}; choose another, or use --no-log", reason(error));
    Error::new(ExitCode::Local, message)
}

/// Creates `ROLE_YYYYMMDD_HHMMSS.log`; where that name is taken `..._PID.log`, and then `..._PID_2.log` and so on: in
/// containers that share a folder, many processes have one number. Never opens what is there: in a folder that others can
/// write to, a link could lead anywhere.
fn open_in(folder: &Path, role: &str) -> io::Result<Place> {
    std::fs::create_dir_all(folder)?;
    let (stamp, pid) = (local(Timestamp::now()).strftime("%Y%m%d_%H%M%S"), std::process::id());
    let endings = [String::new(), format!("_{pid}")].into_iter();
    let endings = endings.chain((2..=SAME_NAME_MAX).map(|number| format!("_{pid}_{number}")));
    let mut taken = io::ErrorKind::AlreadyExists.into();
    for ending in endings {
        let path = folder.join(format!("{role}_{stamp}{ending}.log"));
        match append(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            file => return file.map(|file| placed(file, &path)),
        }
    }
    Err(taken)
}

fn placed(file: File, path: &Path) -> Place {
    let is_torn = ends_mid_line(path, &file);
    // Whoever reads it may be elsewhere. Without a working directory, a path that is relative stays so.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    Place::File { file, path, is_torn }
}

/// Whether a file that is appended to ends in the middle of a line, as one does whose writer had no more room for it.
/// What cannot be read counts as whole.
fn ends_mid_line(path: &Path, file: &File) -> bool {
    let is_file = |metadata: &Metadata| metadata.is_file() && metadata.len() > 0;
    let Some(metadata) = file.metadata().ok().filter(is_file) else { return false };
    let mut last = [0];
    let opened = OpenOptions::new().read(true).custom_flags(never_waiting()).open(path);
    let read = opened.and_then(|file| file.read_exact_at(&mut last, metadata.len() - 1));
    read.is_ok() && last != *b"\n"
}

/// Opens for appending, and never waits: a FIFO without a reader is an error.
fn append(path: &Path, create_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .create_new(create_new)
        .mode(LOG_MODE)
        .custom_flags(never_waiting())
        .open(path)
}

/// Opens a log file that was named for appending, unless a stranger may have left it in a folder like `/tmp`.
fn append_to_own(path: &Path) -> io::Result<File> {
    let folder = strangers::follow(path)?;
    let file = append(path, false)?;
    // Somebody may have put it there meanwhile.
    if let Some(folder) = folder {
        folder.check(&file.metadata()?)?;
    }
    Ok(file)
}

fn never_waiting() -> i32 {
    (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_sink_drops_whole_lines_and_says_how_many() {
        let mut sink = Sink::new(Place::Console);
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

    /// However often the line that tells of lost lines is lost itself.
    #[test]
    fn a_disk_that_is_full_costs_lines_only_and_all_are_counted() {
        let path = Path::new("/dev/full");
        let file = append(path, false).expect("/dev/full can be opened");
        let mut sink = Sink::new(placed(file, path));
        for lost in 1..=50 {
            sink.push(&format_args!("lost"));
            sink.flush();
            assert_eq!((sink.waiting.len(), sink.dropped, sink.told), (0, lost, 0));
        }
        sink.place = Place::Console;
        sink.push(&format_args!("again"));
        assert_eq!(sink.waiting, b"(50 lines dropped: not written in time)\nagain\n");
    }

    /// Whatever part of the waiting bytes is taken before the rest is lost: what was taken and what is told of make up
    /// for all lines, and the next one begins a line.
    #[test]
    fn wherever_the_room_ends_lines_are_counted_and_none_is_glued_to_half_of_another() {
        let path = std::env::temp_dir().join(format!("xfer-log-{}", std::process::id()));
        let said = |sink: &mut Sink| {
            sink.dropped = 7;
            (0..3).for_each(|n| sink.push(&format_args!("line {n}")));
            sink.waiting.len()
        };
        let whole = said(&mut Sink::new(Place::Console));
        for (room, more) in (0..=whole).flat_map(|room| (0..=whole - room).map(move |more| (room, more))) {
            let _ = std::fs::remove_file(&path);
            let mut sink = Sink::new(placed(append(&path, true).expect("a new file"), &path));
            said(&mut sink);
            // Two writes that take some, and then the end of the room.
            for part in [room, more] {
                let Place::File { file, .. } = &mut sink.place else { unreachable!("it is a file") };
                file.write_all(&sink.waiting[..part]).expect("there is room");
                sink.took(part);
            }
            sink.lose();
            sink.push(&format_args!("next"));
            sink.flush();
            let log = std::fs::read_to_string(&path).expect("the log");
            let lines: Vec<&str> = log.lines().collect();
            let told: u64 = lines
                .iter()
                .filter_map(|line| line.strip_suffix(" dropped: not written in time)"))
                .map(|line| {
                    let number = line.strip_prefix('(').and_then(|line| line.split(' ').next());
                    number.and_then(|number| number.parse::<u64>().ok()).expect("a number of lines")
                })
                .sum();
            let written = lines.iter().filter(|line| line.len() == 6 && line.starts_with("line ")).count() as u64;
            assert_eq!(told + written, 10, "{room} and {more} bytes taken:\n{log}");
            assert_eq!(lines.last(), Some(&"next"), "{room} and {more} bytes taken:\n{log}");
        }
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_file_that_ends_in_the_middle_of_a_line_is_gone_on_with_on_a_new_one() {
        let path = std::env::temp_dir().join(format!("xfer-log-torn-{}", std::process::id()));
        for (before, after) in [("", "next\n"), ("whole\n", "whole\nnext\n"), ("ha", "ha\nnext\n")] {
            std::fs::write(&path, before).expect("a file");
            let mut sink = Sink::new(placed(append(&path, false).expect("it can be opened"), &path));
            sink.push(&format_args!("next"));
            sink.flush();
            assert_eq!(std::fs::read_to_string(&path).expect("the log"), after);
        }
        let _ = std::fs::remove_file(&path);
    }

    /// After SIGHUP, with a file in place of a FIFO that has taken half of a line.
    #[test]
    fn the_rest_of_a_line_goes_into_no_other_file() {
        let path = std::env::temp_dir().join(format!("xfer-logging-fifo-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).expect("a FIFO");
        let reader = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&path);
        let file = append(&path, false).expect("it has a reader");
        let (file, console) = (Sink::shared(placed(file, &path)), Sink::shared(Place::Nowhere));
        let logs = Logs { file, console, informs_terminal: false };
        let long = "x".repeat(999);
        (0..100).for_each(|_| lock(&logs.file).push(&format_args!("{long}")));
        logs.flush();
        assert!(lock(&logs.file).is_mid_line, "64 KiB are no whole lines");
        std::fs::remove_file(&path).expect("the FIFO can be removed");
        logs.reopen().expect("a new file");
        lock(&logs.file).push(&format_args!("after"));
        logs.flush();
        let content = std::fs::read_to_string(&path).expect("the new file");
        let _ = std::fs::remove_file(&path);
        drop(reader);
        assert_eq!(content, "(35 lines dropped: not written in time)\nafter\n");
    }
}
