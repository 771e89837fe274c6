//! Standard input and standard output, read and written to the last byte.
//!
//! Whoever shares them may have made them non-blocking (node and ssh do that to a terminal, and it stays): a full one then
//! answers EAGAIN, which is no failure but a wait.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ExitCode, no_room, reason};

/// Between two tries where poll says that there is room and there is too little: a terminal promises a byte and needs two
/// for the end of a line.
const PAUSE: Duration = Duration::from_millis(10);

/// How often a wait for standard output is looked after: a signal may come right before it.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Prints on standard output. What is lost is a failure that ends the run with `exit`; but a reader that has gone, as in
/// `xfer --help | head -1`, has what it wanted.
pub fn print(text: &str, exit: ExitCode) -> Result<(), Error> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match write(rustix::stdio::stdout(), rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                let why = no_room(&error).map_or_else(|| reason(&error), String::from);
                return Err(Error::new(exit, format!("cannot write to standard output: {why}")));
            }
        }
    }
    Ok(())
}

/// Waits until standard output takes a line, or `is_ended`, which is asked now and then; whether it was the former.
pub fn has_room_before(is_ended: impl Fn() -> bool) -> bool {
    let mut stdout = [PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT)];
    loop {
        match poll(&mut stdout, Some(&LOOK_EVERY)) {
            Ok(0) | Err(Errno::INTR) if is_ended() => return false,
            Ok(0) | Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// Writes some of this, and waits as long as nothing is taken. Never returns 0.
pub fn write(file: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let file = file.as_fd();
    let mut tries = 0;
    loop {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if tries > 0 {
                    std::thread::sleep(PAUSE);
                }
                tries += 1;
                wait(file, PollFlags::OUT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Standard input, under a descriptor of our own.
pub fn stdin() -> io::Result<File> {
    Ok(rustix::io::dup(rustix::stdio::stdin()).map(File::from)?)
}

/// A file that may be a non-blocking pipe or terminal, to read from.
pub struct Input(pub File);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(self.0.as_fd(), PollFlags::IN)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn wait(file: BorrowedFd<'_>, for_what: PollFlags) -> io::Result<()> {
    retry_on_intr(|| poll(&mut [PollFd::from_borrowed_fd(file, for_what)], None))?;
    Ok(())
}
