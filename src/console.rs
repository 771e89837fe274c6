//! Standard error, to which nobody ever waits for long to write.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// Bytes written after each time that poll said there is room: PIPE_BUF, which a pipe then takes whole.
const CHUNK: usize = 4096;

/// How long a line waits for a console that takes no bytes; after that, none waits until it takes some again.
const PATIENCE: Duration = Duration::from_millis(300);

/// Into how many rests the patience is divided where poll says that there is room and there is too little.
const IDLE_MAX: u32 = 30;

/// The process's standard error.
pub struct Console {
    /// `None` where nobody reads it any more.
    file: Option<File>,
    /// Whether it is a terminal that could not be opened anew, and is made non-blocking for the moment of each write.
    is_borrowed: bool,
    is_stuck: bool,
    /// Whether what it took last is a line without its end, whose rest is lost.
    is_torn: bool,
    /// What stands below all lines.
    bar: Bar,
}

/// A line without an end that is drawn over itself: whatever else is printed goes above it.
#[derive(Default)]
struct Bar {
    /// Empty without one.
    text: String,
    columns: usize,
    /// Columns that it takes on the screen now.
    drawn: usize,
}

/// How much of some bytes was written.
pub struct Written {
    /// The first so many were.
    pub bytes: usize,
    /// Whether the rest is lost; otherwise it can be tried again.
    pub is_rest_lost: bool,
}

/// Does something with the console, which the whole process shares.
pub fn with<T>(action: impl FnOnce(&mut Console) -> T) -> T {
    static CONSOLE: OnceLock<Mutex<Console>> = OnceLock::new();
    let console = CONSOLE.get_or_init(|| Mutex::new(Console::open()));
    // Whole after every statement: a panic elsewhere leaves it usable.
    action(&mut console.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Prints a line, and does not mind when nobody can read it.
pub fn print_line(line: &str) {
    with(|console| console.print(format!("{line}\n").as_bytes()));
}

impl Console {
    /// Opened anew where that gives a descriptor of our own that never blocks: setting O_NONBLOCK on the inherited one
    /// would change it for every process that shares it.
    fn open() -> Console {
        let stderr = rustix::stdio::stderr();
        let kind = rustix::fs::fstat(stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_terminal = io::stderr().is_terminal();
        let reopened = match kind {
            Ok(FileType::CharacterDevice) if is_terminal => reopen("/proc/self/fd/2"),
            Ok(FileType::Fifo) => reopen("/proc/self/fd/2"),
            // A file opened anew would be written from its beginning; a socket cannot be opened at all.
            _ => None,
        };
        // A terminal that does not open is that of another user, after su(1).
        let is_borrowed = is_terminal && reopened.is_none();
        Console { file: reopened.or_else(duplicate), is_borrowed, is_stuck: false, is_torn: false, bar: Bar::default() }
    }

    /// Writes what the console takes now, above the bar, which is not drawn again. Where nobody reads any more, that is
    /// everything.
    pub fn write_ready(&mut self, bytes: &[u8]) -> Written {
        if !bytes.is_empty() {
            self.erase_bar();
        }
        self.write_some(bytes)
    }

    /// In the foreground, draws a line of so many columns below all others, in place of the one that is there; more than `limit` columns are
    /// never written. The cursor stays at its beginning: there the terminal shows `^C` and `^Z`. It is erased by spaces,
    /// which every terminal has. What does not fit into the console is not waited for: the next drawing comes soon.
    pub fn draw_bar(&mut self, text: String, columns: usize, limit: usize) {
        self.set_bar(text, columns, limit);
        self.draw_bar_again();
    }

    /// Has this line drawn in place of the one that is there, together with the next lines that are printed.
    pub fn set_bar(&mut self, text: String, columns: usize, limit: usize) {
        self.bar = Bar { text, columns, drawn: self.bar.drawn.min(limit) };
    }

    /// The same line once more, if others were printed in its place.
    pub fn show_bar(&mut self) {
        if self.bar.drawn == 0 && !self.bar.text.is_empty() {
            self.draw_bar_again();
        }
    }

    /// Takes the bar off the screen.
    pub fn remove_bar(&mut self) {
        self.erase_bar();
        self.forget_bar();
    }

    /// Leaves the bar where it is, as something that was printed long ago.
    fn forget_bar(&mut self) {
        self.bar = Bar::default();
    }

    fn draw_bar_again(&mut self) {
        if !is_in_foreground() {
            return self.forget_bar();
        }
        let Bar { text, columns, drawn } = &self.bar;
        let line = format!("\r{text}{}\r", " ".repeat(drawn.saturating_sub(*columns)));
        self.bar.drawn = *columns;
        self.write_some(line.as_bytes());
    }

    fn erase_bar(&mut self) {
        if self.bar.drawn > 0 && !is_in_foreground() {
            // The shell has the screen, and has written where the bar was.
            return self.forget_bar();
        }
        let drawn = std::mem::take(&mut self.bar.drawn);
        if drawn > 0 {
            self.write_some(format!("\r{}\r", " ".repeat(drawn)).as_bytes());
        }
    }

    fn write_some(&mut self, bytes: &[u8]) -> Written {
        let Some(file) = self.file.as_ref().filter(|_| !bytes.is_empty()) else {
            return Written { bytes: bytes.len(), is_rest_lost: false };
        };
        let flags = self.is_borrowed.then(|| rustix::fs::fcntl_getfl(file).ok()).flatten();
        // What somebody else has set, perhaps for a moment like this, is not ours to take away.
        let borrowed = flags.filter(|flags| !flags.contains(OFlags::NONBLOCK));
        if let Some(flags) = borrowed {
            let _ = rustix::fs::fcntl_setfl(file, flags | OFlags::NONBLOCK);
        }
        let (written, result) = write_after_torn(&mut self.is_torn, bytes, |bytes| write_while_ready(file, bytes));
        if let Some(flags) = borrowed {
            let _ = rustix::fs::fcntl_setfl(file, flags);
        }
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if result.as_ref().is_err_and(|error| matches!(error.kind(), BrokenPipe | ConnectionReset)) {
            self.file = None;
        }
        self.is_stuck &= written == 0;
        // A disk that is full, or a terminal that hung up: these bytes are lost, later ones may not be.
        Written { bytes: written, is_rest_lost: result.is_err() }
    }

    /// Writes all of this, or gives up when nothing was taken for a moment; returns how many bytes were written.
    pub fn print(&mut self, bytes: &[u8]) -> usize {
        let written = self.print_some(bytes);
        // The next line must not be glued to half of this one.
        self.is_torn |= written < bytes.len() && bytes[..written].last().is_some_and(|last| *last != b'\n');
        written
    }

    /// Whether nobody reads it any more.
    pub fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// Says that the rest of the line that was begun will not come.
    pub fn tear(&mut self) {
        self.is_torn = true;
    }

    fn print_some(&mut self, bytes: &[u8]) -> usize {
        let (mut written, mut idle) = (0, 0);
        loop {
            let Written { bytes: n, is_rest_lost } = self.write_ready(&bytes[written..]);
            written += n;
            let Some(file) = self.file.as_ref().filter(|_| written < bytes.len() && !is_rest_lost) else {
                return written;
            };
            // Room for a byte, on a terminal that needs two for the end of a line.
            if n == 0 && idle > 0 {
                std::thread::sleep(PATIENCE / IDLE_MAX);
            }
            idle = if n == 0 { idle + 1 } else { 0 };
            if self.is_stuck || idle > IDLE_MAX || !has_room(file, PATIENCE).unwrap_or(true) {
                self.is_stuck = true;
                return written;
            }
        }
    }
}

/// Writes bytes by a function that says how many of them it wrote, behind the end of a line that was torn.
pub fn write_after_torn(
    is_torn: &mut bool,
    bytes: &[u8],
    mut write: impl FnMut(&[u8]) -> (usize, io::Result<()>),
) -> (usize, io::Result<()>) {
    if *is_torn {
        let (written, result) = write(b"\n");
        *is_torn = written == 0;
        if *is_torn || result.is_err() {
            return (0, result);
        }
    }
    write(bytes)
}

fn reopen(path: &str) -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path).ok()
}

/// The inherited descriptor. When poll says so, a pipe takes PIPE_BUF whole, a socket half its buffer, a file all; a
/// terminal promises one byte of room and not a line.
fn duplicate() -> Option<File> {
    rustix::io::dup(rustix::stdio::stderr()).ok().map(File::from)
}

/// How many bytes were written, and whether more can be tried.
fn write_while_ready(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        // Where poll itself fails (there is no memory for it), nothing is lost: whoever writes tries again.
        if !has_room(file, Duration::ZERO).unwrap_or(false) {
            break;
        }
        match file.write(&rest[..rest.len().min(CHUNK)]) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Whether the process is in the foreground of the terminal. One that is not that of our session asks nobody.
fn is_in_foreground() -> bool {
    tcgetpgrp(rustix::stdio::stderr()).map_or(true, |foreground| foreground == getpgrp())
}

/// Whether there is room before this time is over. Signals do not make it longer: whoever sends SIGUSR1 again and again, to
/// see how far a transfer is, would stop it at a console that is full.
fn has_room(file: &File, wait: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // PATIENCE at most: both numbers fit.
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Err(Errno::INTR) if !left.is_zero() => {}
            Err(Errno::INTR) => return Ok(false),
            result => return Ok(result? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A console that took half of a line and gave up: what is printed next begins a line, whoever prints it.
    #[test]
    fn nothing_is_glued_to_half_of_a_line() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let is_full = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).expect("its flags can be set");
        let mut console =
            Console { file: Some(writer), is_borrowed: false, is_stuck: false, is_torn: false, bar: Bar::default() };
        let long = [b"x".repeat(1 << 20), b"\n".to_vec()].concat();
        let taken = console.print(&long);
        assert!((1..long.len()).contains(&taken), "{taken} bytes into a pipe that nobody reads");
        assert_eq!(console.print(b"lost\n"), 0);
        std::io::Read::read_exact(&mut reader, &mut vec![0; taken]).expect("all that was taken");
        assert_eq!(console.print(b"next\n"), 5);
        assert_eq!(console.print(b"last\n"), 5);
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).expect("its flags can be set");
        let mut rest = [0; 100];
        let read = std::io::Read::read(&mut reader, &mut rest).expect("what was printed");
        assert_eq!(&rest[..read], b"\nnext\nlast\n");
        assert!(std::io::Read::read(&mut reader, &mut rest).is_err_and(is_full));
    }
}
