//! Where received bytes are written: a file, or something that takes each byte once.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::disk::File;
use super::obstacle;
use super::wait::Stop;
use crate::error::{Error, ExitCode, no_room, reason};
use crate::{stdio, text};

/// Where blocks are written.
#[derive(Clone)]
pub enum Sink {
    /// A file, each byte at its place.
    File {
        /// The file.
        file: Arc<File>,
        /// Whether its bytes need not stay in the page cache; turned off by a file system that knows no such writes.
        passes_cache: Arc<AtomicBool>,
        /// The target that it becomes.
        path: PathBuf,
    },
    /// Something that takes each byte once.
    Stream {
        /// It.
        file: Arc<std::fs::File>,
        /// Bytes it has taken.
        written: Arc<AtomicU64>,
        /// What error lines call it.
        shown: String,
    },
}

impl Sink {
    /// Writes all of this, which belongs there.
    pub fn write(&self, mut bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Sink::File { file, passes_cache, .. } => write_at(file, passes_cache, bytes, offset),
            Sink::Stream { file, written, .. } => {
                let skip = written.load(Ordering::Acquire).saturating_sub(offset);
                bytes = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
                while !bytes.is_empty() {
                    // Waits if need be: this thread has nothing else to do.
                    let n = stdio::write(&**file, bytes)?;
                    written.fetch_add(n as u64, Ordering::AcqRel);
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Ok(())
            }
        }
    }

    /// What error lines call it.
    fn shown(&self) -> String {
        match self {
            Sink::File { path, .. } => text::path(path),
            Sink::Stream { shown, .. } => shown.clone(),
        }
    }

    /// What it means that bytes of an earlier attempt cannot be read again.
    pub fn unreadable(&self, error: &io::Error) -> Stop {
        let shown = self.shown();
        Stop::local(format!(
            "cannot read the partial file of {shown}: {}; try again, or use --no-resume",
            reason(error)
        ))
    }

    /// What a failed write means for the user.
    pub fn failure(&self, error: &io::Error) -> Stop {
        let shown = self.shown();
        match self {
            Sink::Stream { .. } if Errno::from_io_error(error) == Some(Errno::PIPE) => {
                Stop::Final(Error::new(ExitCode::ClosedPipe, format!("{shown} was closed")))
            }
            Sink::Stream { .. } => {
                let why = no_room(error).map_or_else(|| reason(error), String::from);
                Stop::local(format!("cannot write to {shown}: {why}"))
            }
            Sink::File { path, .. } => Stop::local(format!("cannot write {shown}: {}", obstacle::why(error, path))),
        }
    }
}

/// Writes all of this, if possible past the page cache (pwritev2(2), RWF_DONTCACHE): the disk begins at once, so that
/// the last sync finds nothing to do, and the pages are used again, so that a download takes nobody's cache. A GiB to
/// ext4 then took 0.4 s of CPU every time, in place of 0.3 to 3.4 s.
fn write_at(file: &File, passes_cache: &AtomicBool, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while passes_cache.load(Ordering::Relaxed) && !bytes.is_empty() {
        match file.write_past_cache(bytes, offset) {
            // Not again with the same outcome: the plain write below says what is wrong.
            Ok(0) => break,
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            // Before Linux 6.14, and on many file systems.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => passes_cache.store(false, Ordering::Relaxed),
            Err(error) => return Err(error.into()),
        }
    }
    file.write_all_at(bytes, offset)
}
