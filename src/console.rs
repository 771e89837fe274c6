//! Standard error, to which nobody ever waits for long to write.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::retry_on_intr;

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
        Console { file: reopened.or_else(duplicate), is_borrowed, is_stuck: false }
    }

    /// Writes what the console takes now; returns how many bytes that was. Where nobody reads, all of them are gone.
    pub fn write_ready(&mut self, bytes: &[u8]) -> usize {
        let Some(file) = self.file.as_ref().filter(|_| !bytes.is_empty()) else { return bytes.len() };
        let flags = self.is_borrowed.then(|| rustix::fs::fcntl_getfl(file).ok()).flatten();
        // What somebody else has set, perhaps for a moment like this, is not ours to take away.
        let borrowed = flags.filter(|flags| !flags.contains(OFlags::NONBLOCK));
        if let Some(flags) = borrowed {
            let _ = rustix::fs::fcntl_setfl(file, flags | OFlags::NONBLOCK);
        }
        let result = write_while_ready(file, bytes);
        if let Some(flags) = borrowed {
            let _ = rustix::fs::fcntl_setfl(file, flags);
        }
        match result {
            Ok(written) => {
                self.is_stuck &= written == 0;
                written
            }
            Err(error) => {
                use io::ErrorKind::{BrokenPipe, ConnectionReset};
                if matches!(error.kind(), BrokenPipe | ConnectionReset) {
                    self.file = None;
                }
                // A disk that is full, or a terminal that hung up: these bytes are lost, later ones may not be.
                bytes.len()
            }
        }
    }

    /// Writes all of this, or gives up when nothing was taken for a moment.
    pub fn print(&mut self, bytes: &[u8]) {
        let mut written = self.write_ready(bytes);
        let mut idle = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let Some(file) = &self.file else { return };
            if self.is_stuck || !has_room(file, PATIENCE).unwrap_or(true) {
                self.is_stuck = true;
                return;
            }
            match self.write_ready(rest) {
                // Room for a byte, on a terminal that needs two for the end of a line.
                0 if idle < IDLE_MAX => {
                    idle += 1;
                    std::thread::sleep(PATIENCE / IDLE_MAX);
                }
                0 => self.is_stuck = true,
                n => written += n,
            }
        }
    }
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

fn write_while_ready(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
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
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn has_room(file: &File, wait: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
    // PATIENCE at most: both numbers fit.
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos().try_into().unwrap_or(0) };
    Ok(retry_on_intr(|| poll(&mut polled, Some(&wait)))? > 0)
}
