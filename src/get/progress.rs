//! What a person or a program sees of a transfer, on standard error: the only file that knows pbr.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use pbr::{ProgressBar, Units};
use serde_json::{Value, json};

use super::ProgressMode;
use super::clock;
use super::lines::Lines;
use crate::console;
use crate::error::ExitCode;
use crate::logging::Verbosity;
use crate::proto::base_name;
use crate::proto::digest::Digest;
use crate::text;

/// The version of the objects that `--progress json` prints (PROGRESS FOR PROGRAMS in xfer-get(1)).
const JSON_VERSION: u32 = 1;

/// How often a program hears of bytes at most.
const JSON_REFRESH: Duration = Duration::from_millis(500);

/// How often the bar is drawn at most.
const REFRESH: Duration = Duration::from_millis(100);

/// Columns that a name gets at most, and at least.
const NAME_COLUMNS: std::ops::Range<usize> = 8..32;

/// Columns of everything in a line but name and bar: `1023.99 MB / 1023.99 MB [] 100.00 % 1023.99 MB/s 59m`.
const NUMBERS_COLUMNS: usize = 56;

/// Columns below which the counter is left out, and below which the bar and the speed are.
const NARROW: usize = 72;
const VERY_NARROW: usize = 48;

/// Columns of the bar where there is no terminal to ask.
const DEFAULT_COLUMNS: u16 = 80;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Bytes come.
    Receiving,
    /// A file that is there already is digested.
    Comparing,
    /// What an earlier run has left is digested.
    Checking,
    /// The server digests its file.
    Waiting,
}

/// A bar while bytes come, and lines.
pub struct Progress {
    mode: Mode,
    is_quiet: bool,
    shown: Option<Shown>,
    lines: Lines,
}

enum Mode {
    /// Lines only.
    Lines,
    /// A bar, and lines.
    Bar,
    /// Objects only.
    Json,
}

/// Something that takes time, and how far it is.
struct Shown {
    activity: Activity,
    name: Vec<u8>,
    label: String,
    total: u64,
    /// Bytes that were there when it began.
    base: u64,
    done: u64,
    since: Instant,
    /// When a program heard of it last.
    said: Instant,
    /// When the bar was drawn last.
    drawn: Instant,
    bar: Option<ProgressBar<Stderr>>,
}

/// Standard error for pbr, which panics when a write fails.
struct Stderr;

impl Write for Stderr {
    /// Takes a whole line at a time, as pbr writes it; more of it than fits would begin a new one on the screen.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let shown: String = line.chars().take(columns() + '\r'.len_utf8()).collect();
        // What does not fit into the console is not waited for: the next drawing comes soon.
        console::with(|console| console.write_ready(shown.as_bytes()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Progress {
    /// Decides once what is shown.
    pub fn new(mode: ProgressMode, verbosity: Verbosity, lines: Lines) -> Progress {
        let is_quiet = verbosity == Verbosity::Quiet;
        let mode = match mode {
            ProgressMode::Json => Mode::Json,
            ProgressMode::Always => Mode::Bar,
            ProgressMode::Auto if io::stderr().is_terminal() && !is_quiet => Mode::Bar,
            ProgressMode::Auto | ProgressMode::Never => Mode::Lines,
        };
        Progress { mode, is_quiet, shown: None, lines }
    }

    /// Begins to show something of `total` bytes, of which `done` are done. There is no bar for an empty file.
    pub fn begin(&mut self, activity: Activity, name: &[u8], total: u64, done: u64) {
        self.end();
        let base = text::escaped(base_name(name));
        let label = match activity {
            Activity::Receiving => base,
            Activity::Comparing => format!("comparing {base}"),
            Activity::Checking => format!("checking {base}"),
            Activity::Waiting => format!("server hashing {base}"),
        };
        let now = clock::now();
        let mut shown = Shown {
            activity,
            name: name.to_vec(),
            label,
            total,
            base: done,
            done,
            since: now,
            said: now,
            drawn: now,
            bar: None,
        };
        match self.mode {
            Mode::Lines => {}
            Mode::Bar if total == 0 => {}
            Mode::Bar => shown.begin_bar(),
            Mode::Json if activity == Activity::Receiving && done == 0 => self.say_about(&shown, "start", None),
            Mode::Json => {}
        }
        self.shown = Some(shown);
    }

    /// Whether this is what is shown.
    pub fn is_about(&self, activity: Activity) -> bool {
        self.shown.as_ref().is_some_and(|shown| shown.activity == activity)
    }

    /// Moves to this many bytes.
    pub fn advance(&mut self, done: u64) {
        let Some(mut shown) = self.shown.take() else { return };
        shown.done = done.min(shown.total);
        if let Mode::Json = self.mode
            && shown.activity == Activity::Receiving
            && clock::since(shown.said) >= JSON_REFRESH
        {
            shown.said = clock::now();
            self.say_about(&shown, "progress", None);
        }
        shown.draw_again();
        self.shown = Some(shown);
    }

    /// Leaves the bar on the screen, full: all bytes came and are verified.
    pub fn complete(&mut self) {
        let Some(mut shown) = self.shown.take() else { return };
        if shown.activity != Activity::Receiving {
            self.shown = Some(shown);
            return self.end();
        }
        // Once more in any case: a line about another file may have taken its place.
        shown.done = shown.total;
        shown.draw();
        if shown.bar.is_some() {
            let _ = Stderr.write(b"\n");
        }
    }

    /// Takes the bar off the screen.
    pub fn end(&mut self) {
        if let Some(shown) = self.shown.take() {
            shown.erase();
        }
    }

    /// A file goes on where an earlier attempt or an earlier run ended.
    pub fn resume(&mut self, name: &[u8], offset: u64, total: u64) {
        // The offset is at most the total; of nothing there is no resume.
        let percent = u128::from(offset) * 100 / u128::from(total.max(1));
        let (had, all) = (text::size(offset), text::size(total));
        let line = format!("resuming {} at {percent}% ({had} of {all})", text::quoted(name));
        let fields = || json!({ "bytes": offset, "total": total });
        self.say(log::Level::Info, "resume", Some(name), fields, &line);
    }

    /// An attempt failed, and there is another.
    pub fn retry(&mut self, name: &[u8], pause: Duration, line: &str) {
        let fields = || json!({ "pause": pause.as_secs_f64() });
        self.say(log::Level::Warn, "retry", Some(name), fields, line);
    }

    /// A file is where it should be.
    pub fn done(&mut self, name: &[u8], size: u64, digest: Option<&Digest>, line: &str) {
        let fields = || {
            let mut fields = json!({ "bytes": size, "total": size });
            if let Some(digest) = digest {
                fields[digest.algorithm().to_string()] = json!(digest.to_string());
            }
            fields
        };
        self.say(log::Level::Info, "done", Some(name), fields, line);
    }

    /// A line that says what was done; to which file, if it was one.
    pub fn note(&mut self, name: Option<&[u8]>, line: &str) {
        self.say(log::Level::Info, "note", name, || json!({}), line);
    }

    /// A file that is not tried: a program hears of each, a person of all of them in one line.
    pub fn not_tried(&mut self, name: &[u8]) {
        let line = format!("not tried: {}", text::quoted(name));
        log::warn!(target: "main", "{line}");
        if let Mode::Json = self.mode {
            self.print_object("error", Some(name), json!({}), Some(&line));
        }
    }

    /// A line about something that failed; of which file, if it was one, and with which exit code, if it decides one.
    pub fn error(&mut self, name: Option<&[u8]>, exit: Option<ExitCode>, line: &str) {
        let fields = || exit.map_or(json!({}), |exit| json!({ "code": exit.number() }));
        self.say(log::Level::Error, "error", name, fields, line);
    }

    fn say(&mut self, level: log::Level, event: &str, name: Option<&[u8]>, fields: impl FnOnce() -> Value, line: &str) {
        log::log!(target: "main", level, "{line}");
        // A bar of another file goes on below the line.
        let interrupted = self.shown.take_if(|shown| name.is_some_and(|name| name != shown.name));
        interrupted.iter().for_each(Shown::erase);
        self.end();
        let is_good = level == log::Level::Info;
        match self.mode {
            _ if is_good && self.is_quiet => {}
            Mode::Json => self.print_object(event, name, fields(), Some(line)),
            _ if is_good => self.lines.print(line),
            _ => self.lines.print(&format!("xfer: {line}")),
        }
        // A bar is drawn past these lines.
        if let Mode::Bar = self.mode {
            self.lines.flush();
        }
        self.shown = interrupted;
    }

    fn say_about(&self, shown: &Shown, event: &str, line: Option<&str>) {
        if self.is_quiet {
            return;
        }
        let (rate, left) = shown.rate();
        let fields = json!({
            "bytes": shown.done,
            "total": shown.total,
            "rate": rate.round(),
            "eta": left.map(f64::round),
        });
        self.print_object(event, Some(&shown.name), fields, line);
    }

    /// One object a line. A name that is not UTF-8 has replacement characters in it, as JSON has only Unicode.
    fn print_object(&self, event: &str, name: Option<&[u8]>, mut fields: Value, line: Option<&str>) {
        fields["v"] = json!(JSON_VERSION);
        fields["event"] = json!(event);
        if let Some(name) = name {
            fields["file"] = json!(String::from_utf8_lossy(name));
        }
        if let Some(line) = line {
            fields["message"] = json!(line);
        }
        self.lines.print(&fields.to_string());
    }
}

impl Shown {
    /// Bytes a second since it began, and seconds left.
    fn rate(&self) -> (f64, Option<f64>) {
        let seconds = clock::since(self.since).as_secs_f64();
        let rate = (self.done.saturating_sub(self.base)) as f64 / seconds.max(0.001);
        let left = (self.total.saturating_sub(self.done)) as f64;
        (rate, (rate > 0.0).then(|| left / rate))
    }

    fn erase(&self) {
        if self.bar.is_some() {
            // To the beginning of the line, and erase it (ECMA-48, EL).
            let _ = Stderr.write(if io::stderr().is_terminal() { b"\r\x1b[K" } else { b"\n" });
        }
    }

    fn begin_bar(&mut self) {
        let mut bar = ProgressBar::on(Stderr, self.total);
        bar.set_units(Units::Bytes);
        self.bar = Some(bar);
        self.draw();
    }

    /// Draws, unless that was a moment ago: pbr would look at the clock only behind the work.
    fn draw_again(&mut self) {
        if clock::since(self.drawn) >= REFRESH || self.done == self.total {
            self.draw();
        }
    }

    fn draw(&mut self) {
        self.drawn = clock::now();
        let (rate, left) = self.rate();
        let Some(bar) = &mut self.bar else { return };
        // The window may have another size by now.
        let columns = columns();
        let name_columns = columns.saturating_sub(NUMBERS_COLUMNS).clamp(NAME_COLUMNS.start, NAME_COLUMNS.end);
        let mut message = format!("{} ", shortened(&self.label, name_columns));
        // pbr counts what was there before as if it had come now.
        let is_resumed = self.base > 0;
        if let (true, true, Some(left)) = (is_resumed, columns >= VERY_NARROW, left) {
            message.push_str(&format!("{}/s {left:.0}s ", text::size(rate as u64)));
        }
        bar.message(&message);
        bar.show_counter = columns >= NARROW;
        bar.show_bar = columns >= VERY_NARROW;
        bar.show_speed = columns >= VERY_NARROW && !is_resumed;
        bar.show_time_left = !is_resumed;
        bar.set_width(Some(columns));
        bar.set(self.done);
    }
}

/// Columns for a bar: one less than the terminal has, since some begin a new line when the last one is filled.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    let columns = size.map_or(DEFAULT_COLUMNS, |size| size.ws_col);
    usize::from(if columns == 0 { DEFAULT_COLUMNS } else { columns }) - 1
}

/// The end of a label, which tells files apart more often than the beginning.
fn shortened(label: &str, columns: usize) -> String {
    let length = label.chars().count();
    if length <= columns {
        return label.to_string();
    }
    let end: String = label.chars().skip(length - (columns - 3)).collect();
    format!("...{end}")
}
