//! The terminal of standard error: whether it can show a bar, and how wide that is.

use std::io::{self, IsTerminal};

use rustix::fs::{Stat, fstat, makedev, stat};

use crate::console;
use crate::get::Output;
use crate::text::columns::columns;

/// Columns where there is no terminal to ask.
const DEFAULT_COLUMNS: u16 = 80;

/// `/dev/tty`, the terminal of whoever opens it (devices.txt of the kernel).
const DEV_TTY: (u32, u32) = (5, 0);

/// When a line is drawn.
pub enum When {
    /// At once.
    Now,
    /// Below the lines that are printed next: a write of its own would cost as much as a small file.
    WithLines,
}

/// Where the bar is drawn.
pub struct Terminal {
    /// Whether bytes above U+007F are letters there.
    is_utf8: bool,
    /// Whether it knows escape sequences.
    is_smart: bool,
    /// Columns of the window when the bar was drawn last.
    width: usize,
}

impl Terminal {
    /// That of standard error, or what stands there for one.
    pub fn new() -> Terminal {
        Terminal { is_utf8: is_utf8(), is_smart: io::stderr().is_terminal() && is_smart(), width: 0 }
    }

    /// A name as the bar shows it: in a locale without UTF-8, a question mark for each letter that ASCII lacks, as ls(1)
    /// has it.
    pub fn name(&self, name: String) -> String {
        if self.is_utf8 { name } else { name.replace(|c: char| !c.is_ascii(), "?") }
    }

    /// Draws the line that is made for this many columns: one less than the terminal has, since some begin a new line when
    /// the last one is filled.
    pub fn draw(&mut self, when: When, line: impl FnOnce(usize) -> String) {
        let width = window_columns();
        let mut text = line(width - 1);
        let drawn = columns(&text);
        if self.is_smart && width < self.width {
            // Where the window became narrower, a terminal may have wrapped the last line; nothing else is below it
            // (ECMA-48, ED).
            text.push_str("\x1b[J");
        }
        self.width = width;
        console::with(|console| match when {
            When::Now => console.draw_bar(text, drawn, width - 1),
            When::WithLines => console.set_bar(text, drawn, width - 1),
        });
    }
}

/// Whether a bar makes sense on standard error: a terminal that is not known to be a typewriter.
pub fn can_show_bar() -> bool {
    io::stderr().is_terminal() && is_smart()
}

/// Whether the file itself goes to the terminal of standard error.
pub fn gets_file(output: &Output) -> bool {
    let target = match output {
        Output::Dir(_) => return false,
        Output::Path(path) => stat(path),
        Output::Stdout => fstat(rustix::stdio::stdout()),
    };
    // Not opened to be asked: opening a device may do something.
    let device = |stat: Stat| stat.st_rdev;
    let (Ok(target), Ok(stderr)) = (target.map(device), fstat(rustix::stdio::stderr()).map(device)) else {
        return false;
    };
    io::stderr().is_terminal() && (target == stderr || target == makedev(DEV_TTY.0, DEV_TTY.1))
}

fn window_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    let columns = size.map_or(DEFAULT_COLUMNS, |size| size.ws_col);
    usize::from(if columns == 0 { DEFAULT_COLUMNS } else { columns })
}

fn is_smart() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether the locale has UTF-8, by the first of these variables that is set (POSIX, 8.2).
fn is_utf8() -> bool {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
