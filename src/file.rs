//! A file that is being served: what it was when it was opened, and reads that do not wait for the disk.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, AtFlags, Stat, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::proto::{Mtime, Version};

/// Bytes between two places that a probe touches. Read-ahead brings whole runs of at least this much, and a probe
/// of 256 KiB then costs 8 reads of one byte, about 1 µs, beside some 60 µs for sending it.
const PROBE_STRIDE: u64 = 32 * 1024;

/// The same where it matters that no page is missing: 64 reads of one byte are some 30 µs, a third of sending 256 KiB.
const CAREFUL_STRIDE: u64 = 4096;

/// Bytes asked for at a time from the disk, so that a wait of a millisecond brings more than one window.
const AHEAD: u64 = 1024 * 1024;

/// Bytes of a plain read on file systems that know no other (tmpfs, overlayfs on some kernels).
const PLAIN_LEN: u64 = 64 * 1024;

/// Bytes of the one plain read that decides between data and a read error.
const DECIDING_LEN: usize = 4096;

/// How long one window may stay unreadable before a plain read decides, which holds the thread for as long as the disk
/// takes. Most disks that have to spin up are there within 10 s, large ones within 20 s. And as long once more after a
/// plain read that found the bytes: if they are never found in memory, waiting does not help.
const PATIENCE: Duration = Duration::from_secs(20);

/// What counts at most as waiting of the time between two looks. More than that the thread was elsewhere, perhaps held by
/// another disk, and this one has not had a chance to show what it brought.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// Pauses between two looks at a window that is on its way from the disk; the last one repeats.
const PAUSES_MS: [u64; 4] = [1, 2, 4, 8];

/// What tells two contents under one name apart, as well as the file system can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The file system that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Bytes in the file.
    pub size: u64,
    /// When it was written to last.
    pub mtime: Mtime,
    /// When anything of it changed last.
    pub ctime: Mtime,
}

impl Stamp {
    /// What a stat says.
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            // The kernel reports no negative size for a regular file.
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Device and inode.
    pub fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether the file changed less than `age` before `now` (both in the time of the wall clock): then a second
    /// change may hide behind the same time stamp.
    pub fn is_younger_than(&self, age: Duration, now: std::time::SystemTime) -> bool {
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(u64::try_from(self.ctime.seconds).unwrap_or(0), self.ctime.nanos);
        now < changed.saturating_add(age)
    }
}

/// A time of a stat, whose nanoseconds the kernel keeps below a second.
fn time(seconds: i64, nanos: u64) -> Mtime {
    Mtime { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// What a served file asks of the kernel.
pub trait Source: AsFd + fmt::Debug {
    /// What the file is now.
    fn stamp(&self) -> Result<Stamp, Errno>;
    /// Reads what is in memory: EAGAIN if nothing is, EOPNOTSUPP if the file system cannot tell; see [`is_refusal`].
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Reads, and waits for the disk.
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Tells the kernel to bring so many bytes into memory.
    fn ask_for(&self, offset: u64, len: u64);
    /// Lets the file system say anew what the file is, where the kernel remembers it.
    fn refresh_stamp(&self) {}
}

impl Source for File {
    fn stamp(&self) -> Result<Stamp, Errno> {
        rustix::fs::fstat(self).map(|stat| Stamp::of(&stat))
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        retry_on_intr(|| rustix::io::preadv2(self, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        retry_on_intr(|| rustix::io::pread(self, &mut *buffer, offset))
    }

    fn ask_for(&self, offset: u64, len: u64) {
        // An advice that is not taken changes nothing but speed.
        let _ = rustix::fs::fadvise(self, offset, NonZeroU64::new(len), Advice::WillNeed);
    }

    fn refresh_stamp(&self) {
        // If it cannot be had, what is remembered decides.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let _ = rustix::fs::statx(self, c"", flags, StatxFlags::BASIC_STATS);
    }
}

/// Whether a call says that it cannot be had for this file at all, and not that some bytes cannot be read: by its file
/// system (EINVAL, EOPNOTSUPP), by the kernel (ENOSYS), or by a seccomp filter (ENOSYS, EPERM).
fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM)
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct ServedFile {
    source: Box<dyn Source>,
    /// What it was when it was opened.
    pub stamp: Stamp,
    /// Its permission bits.
    pub mode: u32,
    /// Whether its file system has refused to say what is in memory.
    reads_plainly: Cell<bool>,
    /// Whether its file system has refused sendfile.
    is_copied: Cell<bool>,
    /// One share for each open file: whoever holds the first one counts them.
    _counted: Rc<()>,
}

/// What a look at a part of a file found.
#[derive(Debug)]
pub enum Ready {
    /// This many bytes can be had now.
    Bytes(usize),
    /// They are asked for, and on their way.
    NotYet,
    /// The file ends before them.
    End,
    /// They cannot be read.
    Failed(io::Error),
}

impl ServedFile {
    /// Takes an open file with what it is and its permission bits, and a share of what counts the open files.
    pub fn new(source: Box<dyn Source>, stamp: Stamp, mode: u32, counter: &Rc<()>) -> ServedFile {
        let (reads_plainly, is_copied) = (Cell::new(false), Cell::new(false));
        ServedFile { source, stamp, mode, reads_plainly, is_copied, _counted: Rc::clone(counter) }
    }

    /// What tells its content from another, for clients (xfer-protocol(5), VERSION 2, Versions).
    pub fn version(&self) -> Version {
        Version::of(self.stamp.size, self.stamp.mtime)
    }

    /// Bytes of it that may be sent in one turn, if `budget` is what others get: each may have to come from the disk
    /// while the thread waits, where the file system cannot say what is in memory.
    pub fn turn_budget(&self, budget: usize) -> usize {
        if self.reads_plainly.get() { budget.min(PLAIN_LEN as usize) } else { budget }
    }

    /// Whether it is sent by reading and writing, since its file system has refused sendfile.
    pub fn is_copied(&self) -> bool {
        self.is_copied.get()
    }

    /// Whether sendfile has failed with a refusal. Then it is not tried again with this open file.
    pub fn refuses_sendfile(&self, error: &io::Error) -> bool {
        let refuses = !self.is_copied() && Errno::from_io_error(error).is_some_and(is_refusal);
        if refuses {
            self.is_copied.set(true);
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                let why = crate::error::reason(error);
                log::info!(target: "main", "a shared file system does not support sendfile ({why}): copying instead");
            });
        }
        refuses
    }

    /// Whether the file is still what it was when it was opened.
    pub fn is_unchanged(&self) -> bool {
        // A new name, a new link and new permissions change ctime and not the content.
        let is_same = |now: Stamp| (now.size, now.mtime) == (self.stamp.size, self.stamp.mtime);
        self.source.stamp().is_ok_and(is_same) || {
            // A read that ends early makes FUSE take its end for the size, until the file system is asked again.
            self.source.refresh_stamp();
            self.source.stamp().is_ok_and(is_same)
        }
    }

    /// What has happened to it, if it is not what it was when it was opened; `otherwise` if it did not become shorter.
    pub fn change(&self, otherwise: &str) -> String {
        let size = self.stamp.size;
        match self.source.stamp() {
            Ok(now) if now.size < size => format!("it became shorter: {} bytes instead of {size}", now.size),
            _ => String::from(otherwise),
        }
    }

    /// Why it has not as many bytes as its size says, but `fewer` or `more`; `None` if that is because it changed.
    pub fn untrue_size(&self, how_many: &str) -> Option<String> {
        let size = self.stamp.size;
        self.is_unchanged().then(|| format!("it has {how_many} bytes than its size ({size} bytes)"))
    }

    /// Whether a byte is found behind the last one, as in a file of FUSE that does not know its size. What cannot be read
    /// there counts as the end.
    pub fn has_more(&self) -> bool {
        matches!(self.read_ready(&mut [0], self.stamp.size, &mut Patience::default()), Ready::Bytes(_))
    }

    /// How many of the `len` bytes from `offset` on can be sent without waiting for the disk, of which each page is looked
    /// at in the first `careful` ones. What is missing is asked for.
    pub fn probe(&self, offset: u64, len: u64, careful: u64, patience: &mut Patience) -> Ready {
        let mut byte = [0];
        let mut found = 0;
        while found < len {
            // The last byte of each stride: read-ahead fills from the front.
            let stride = if found < careful { CAREFUL_STRIDE } else { PROBE_STRIDE };
            let step = stride.min(len - found);
            match self.read_cached(&mut byte, offset + found + step - 1) {
                Ok(0) if found == 0 => return Ready::End,
                Ok(0) => break,
                Ok(_) => found += step,
                Err(Errno::AGAIN) if found > 0 => {
                    self.source.ask_for(offset + found, AHEAD);
                    break;
                }
                Err(Errno::AGAIN) => return self.not_yet(offset + step - 1, patience),
                Err(Errno::OPNOTSUPP) => {
                    self.source.ask_for(offset, AHEAD);
                    found = PLAIN_LEN.min(len);
                    break;
                }
                Err(error) => return Ready::Failed(error.into()),
            }
        }
        patience.end();
        // `found` is at most the window that the caller asked for, which was a usize.
        Ready::Bytes(usize::try_from(found).unwrap_or(usize::MAX))
    }

    /// Reads what can be had without waiting for the disk. What is missing is asked for.
    pub fn read_ready(&self, buffer: &mut [u8], offset: u64, patience: &mut Patience) -> Ready {
        let result = match self.read_cached(buffer, offset) {
            Err(Errno::OPNOTSUPP) => {
                self.source.ask_for(offset, AHEAD);
                let plain = buffer.len().min(PLAIN_LEN as usize);
                self.read(&mut buffer[..plain], offset)
            }
            result => result,
        };
        match result {
            Ok(0) => Ready::End,
            Ok(n) => {
                patience.end();
                Ready::Bytes(n)
            }
            Err(Errno::AGAIN) => self.not_yet(offset, patience),
            Err(error) => Ready::Failed(error.into()),
        }
    }

    /// Reads, and waits for the disk.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.source.read(buffer, offset)
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.reads_plainly.get() {
            return Err(Errno::OPNOTSUPP);
        }
        let result = self.source.read_cached(buffer, offset);
        if result.is_err_and(is_refusal) {
            self.reads_plainly.set(true);
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                log::info!(target: "main", "a shared file system does not support RWF_NOWAIT: \
                    reading at most {PLAIN_LEN} bytes at a time, which may wait for the disk");
            });
            // If these bytes cannot be read at all, the plain read says so.
            return Err(Errno::OPNOTSUPP);
        }
        result
    }

    /// The byte at `offset` is not there yet: ask for it, and once patience has run out let a plain read of the page
    /// that holds it decide.
    fn not_yet(&self, offset: u64, patience: &mut Patience) -> Ready {
        if !patience.has_run_out() {
            self.source.ask_for(offset, AHEAD);
            return Ready::NotYet;
        }
        if patience.was_read {
            return Ready::Failed(io::Error::other("the disk returns no data"));
        }
        let mut buffer = [0; DECIDING_LEN];
        match self.read(&mut buffer, offset - offset % DECIDING_LEN as u64) {
            Ok(0) => Ready::End,
            // Now in memory; the next look finds it.
            Ok(_) => {
                *patience = Patience { was_read: true, ..Patience::default() };
                Ready::NotYet
            }
            Err(error) => Ready::Failed(error.into()),
        }
    }
}

impl AsFd for ServedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// The path of an open file as the kernel knows it (proc(5), /proc/pid/fd), whatever it was opened as.
pub fn real_path(file: &impl AsFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// How long one reader has waited for one window of its file.
#[derive(Debug, Default)]
pub struct Patience {
    /// When it looked last in vain, and how often.
    waiting: Option<(Instant, usize)>,
    /// For how long.
    waited: Duration,
    /// Whether a plain read has found the bytes.
    was_read: bool,
}

impl Patience {
    /// Says that a look found nothing at `now`; returns when to look again.
    pub fn look_again_at(&mut self, now: Instant) -> Instant {
        let (last, looks) = self.waiting.unwrap_or((now, 0));
        self.waiting = Some((now, looks + 1));
        self.waited += now.duration_since(last).min(LOOK_MAX);
        let [.., last] = PAUSES_MS;
        now + Duration::from_millis(PAUSES_MS.get(looks).copied().unwrap_or(last))
    }

    /// Whether the last look found nothing.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some() || self.was_read
    }

    /// Whether it has waited for at least so long, of all its patience.
    pub fn has_waited(&self, time: Duration) -> bool {
        self.was_read || self.waited >= time
    }

    fn has_run_out(&self) -> bool {
        self.waited >= PATIENCE
    }

    fn end(&mut self) {
        *self = Patience::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_patience_runs_out() {
        let mut patience = Patience::default();
        let mut now = Instant::now();
        for pause in [1, 2, 4, 8, 8, 8] {
            let next = patience.look_again_at(now);
            assert_eq!(next - now, Duration::from_millis(pause));
            assert!(!patience.has_run_out());
            now = next;
        }
        // That the thread was elsewhere is no sign of a dead disk.
        patience.look_again_at(now + PATIENCE);
        assert!(!patience.has_run_out());
        for n in 1..=PATIENCE.as_millis() / 10 {
            patience.look_again_at(now + PATIENCE + Duration::from_millis(10 * n as u64));
        }
        assert!(patience.has_run_out());
        patience.end();
        assert!(!patience.has_run_out());
    }
}
