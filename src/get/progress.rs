//! What a person sees of a transfer, on standard error: the only file that knows pbr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use pbr::{ProgressBar, Units};

use super::ProgressMode;
use crate::console::{self, print_line};
use crate::logging::Verbosity;

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

/// A bar while bytes come, and lines.
pub struct Progress {
    draws: bool,
    is_quiet: bool,
    bar: Option<ProgressBar<Stderr>>,
    /// Bytes that the bar shows.
    done: u64,
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
    /// Decides once whether there is a bar.
    pub fn new(mode: ProgressMode, verbosity: Verbosity) -> Progress {
        let is_quiet = verbosity == Verbosity::Quiet;
        let draws = match mode {
            ProgressMode::Always => true,
            ProgressMode::Never => false,
            ProgressMode::Auto => io::stderr().is_terminal() && !is_quiet,
        };
        Progress { draws, is_quiet, bar: None, done: 0 }
    }

    /// Shows a bar of `total` bytes; there is none for an empty file.
    pub fn begin(&mut self, label: &str, total: u64) {
        self.end();
        if !self.draws || total == 0 {
            return;
        }
        let mut bar = ProgressBar::on(Stderr, total);
        bar.set_units(Units::Bytes);
        bar.set_max_refresh_rate(Some(REFRESH));
        let columns = columns();
        let name_columns = columns.saturating_sub(NUMBERS_COLUMNS).clamp(NAME_COLUMNS.start, NAME_COLUMNS.end);
        bar.message(&format!("{} ", shortened(label, name_columns)));
        bar.show_counter = columns >= NARROW;
        bar.show_bar = columns >= VERY_NARROW;
        bar.show_speed = columns >= VERY_NARROW;
        bar.set_width(Some(columns));
        bar.set(0);
        self.bar = Some(bar);
        self.done = 0;
    }

    /// Moves the bar to this many bytes.
    pub fn advance(&mut self, done: u64) {
        if let Some(bar) = &mut self.bar {
            // The window may have another size by now.
            bar.set_width(Some(columns()));
            bar.set(done.min(bar.total));
            self.done = done;
        }
    }

    /// Leaves the bar on the screen, full: all bytes came and are verified.
    pub fn complete(&mut self) {
        if let Some(mut bar) = self.bar.take() {
            if self.done < bar.total {
                bar.set(bar.total);
            }
            let _ = Stderr.write(b"\n");
        }
    }

    /// Takes the bar off the screen.
    pub fn end(&mut self) {
        if self.bar.take().is_some() {
            // To the beginning of the line, and erase it (ECMA-48, EL).
            let _ = Stderr.write(if io::stderr().is_terminal() { b"\r\x1b[K" } else { b"\n" });
        }
    }

    /// A line that says what was done.
    pub fn note(&mut self, line: &str) {
        log::info!(target: "main", "{line}");
        self.end();
        if !self.is_quiet {
            print_line(line);
        }
    }

    /// A line about something that went wrong and may yet go right.
    pub fn warn(&mut self, line: &str) {
        log::warn!(target: "main", "{line}");
        self.end();
        print_line(&format!("xfer: {line}"));
    }

    /// A line about something that failed.
    pub fn error(&mut self, line: &str) {
        log::error!(target: "main", "{line}");
        self.end();
        print_line(&format!("xfer: {line}"));
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
