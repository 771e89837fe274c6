//! The file system, as the client asks it: calls of std and rustix, which in a simulation a simulated disk answers.

use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::{Errno, ReadWriteFlags};

use super::unsupported::Feature;
use crate::proto::Mtime;
#[cfg(test)]
use crate::simulation::machine;
use crate::text;

/// linux/fs.h; Linux 6.14.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Without following a link, waiting for the other end of a FIFO, or getting a terminal.
const AS_IT_LIES: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Bytes of a file name at most, on every file system in use (NAME_MAX of Linux).
pub const NAME_MAX: usize = 255;

/// A time of a file, in seconds and nanoseconds.
pub type Time = (i64, i64);

/// What is known of a file beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device and inode.
    pub id: (u64, u64),
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes in it.
    pub len: u64,
    /// Bytes of the disk that it holds.
    pub allocated: u64,
    /// Its permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Whose it is.
    pub owner: u32,
    /// When it was written to last.
    pub modified: Time,
    /// When anything about it changed last; nobody can set it.
    pub changed: Time,
}

impl From<Metadata> for Stat {
    fn from(metadata: Metadata) -> Stat {
        Stat {
            id: (metadata.dev(), metadata.ino()),
            is_file: metadata.is_file(),
            is_dir: metadata.is_dir(),
            len: metadata.len(),
            // st_blocks counts in 512 bytes, whatever the file system does (stat(3type)).
            allocated: metadata.blocks().saturating_mul(512),
            mode: metadata.mode() & 0o777,
            links: metadata.nlink(),
            owner: metadata.uid(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// An open file.
#[derive(Debug)]
pub enum File {
    /// Of this machine.
    Real(std::fs::File),
    /// Of a simulated one.
    #[cfg(test)]
    Simulated(machine::Handle),
}

/// Hands a call to the simulated disk, if this thread has one.
macro_rules! simulated {
    ($call:expr) => {
        #[cfg(test)]
        if let Some(result) = machine::disk($call) {
            return result;
        }
    };
}

/// Does one thing with the real file, or with the simulated one.
macro_rules! with {
    ($file:expr, |$real:ident| $call:expr, |$disk:ident, $handle:ident| $simulated:expr) => {
        match $file {
            File::Real($real) => $call,
            #[cfg(test)]
            File::Simulated($handle) => machine::on_disk(|$disk| $simulated),
        }
    };
}

impl File {
    /// What is known of it.
    pub fn stat(&self) -> io::Result<Stat> {
        with!(self, |file| file.metadata().map(Stat::from), |disk, handle| disk.fstat(handle))
    }

    /// Reads what is there at a place, into some of the buffer.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        with!(self, |file| file.read_at(buffer, offset), |disk, handle| disk.read_at(handle, buffer, offset))
    }

    /// Writes all of this at a place.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        with!(self, |file| file.write_all_at(bytes, offset), |disk, handle| disk.write_at(handle, bytes, offset))
    }

    /// Writes some of this at a place, past the page cache (pwritev2(2), RWF_DONTCACHE).
    pub fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        with!(self, |file| rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, RWF_DONTCACHE), |disk, handle| {
            disk.write_past_cache(handle, bytes, offset)
        })
    }

    /// Cuts it, or fills it up with zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        with!(self, |file| file.set_len(len), |disk, handle| disk.set_len(handle, len))
    }

    /// Takes the blocks for its first bytes, so that these can be written however full the disk is by then.
    pub fn reserve(&self, len: u64) -> io::Result<()> {
        with!(
            self,
            |file| Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len)?),
            |_disk, _handle| Ok(())
        )
    }

    /// Waits until its bytes are on the disk, where its file system can do that.
    pub fn sync_data(&self) -> io::Result<()> {
        self.tolerate_sync(with!(self, |file| file.sync_data(), |disk, handle| disk.sync(handle)))
    }

    /// Waits until all of it is on the disk, where its file system can do that.
    pub fn sync_all(&self) -> io::Result<()> {
        self.tolerate_sync(with!(self, |file| file.sync_all(), |disk, handle| disk.sync(handle)))
    }

    /// A sync that fails also tells of writes that failed before it, with whatever error they had, and only once (fsync(2)).
    /// It is no loss only if a new and empty file beside it cannot be synced either.
    fn tolerate_sync(&self, result: io::Result<()>) -> io::Result<()> {
        let Err(error) = &result else { return Ok(()) };
        let is_same = |other: io::Error| Errno::from_io_error(&other) == Errno::from_io_error(error);
        match self.folder() {
            Some(folder) if Feature::SyncFile.is_missing_by(error) && sync_new_file(&folder).is_err_and(is_same) => {
                Feature::SyncFile.tolerate(result, || text::path(&folder)).map(drop)
            }
            _ => result,
        }
    }

    /// Its folder, as far as that can be told (proc(5), /proc/pid/fd).
    fn folder(&self) -> Option<PathBuf> {
        let path: Option<PathBuf> = with!(
            self,
            |file| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok(),
            |_disk, _handle| None
        );
        path?.parent().map(Path::to_path_buf)
    }

    /// Sets its permission bits.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        with!(self, |file| file.set_permissions(Permissions::from_mode(mode)), |disk, handle| disk
            .set_mode(handle, mode))
    }

    /// Sets when it was written to last.
    pub fn set_modified(&self, mtime: Mtime) -> Result<(), Errno> {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
        let times = Timestamps { last_access: omit, last_modification };
        with!(self, |file| rustix::fs::futimens(file, &times), |disk, handle| disk.set_modified(handle, mtime))
    }

    /// Locks it (flock(2)), unless somebody else has.
    pub fn lock(&self) -> Result<(), Errno> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        with!(self, |file| rustix::fs::flock(file, operation), |disk, handle| disk.lock(handle))
    }

    /// Bytes free on its disk, if that is known: some file systems fill in nothing (FUSE without statfs).
    pub fn free_space(&self) -> Option<u64> {
        with!(
            self,
            |file| {
                let stat = rustix::fs::fstatvfs(file).ok()?;
                (stat.f_blocks > 0 && stat.f_frsize > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
            },
            |disk, _handle| disk.free_space()
        )
    }

    /// Gives it a name that nothing has. Before Linux 6.10 only root may do that without /proc (open(2), O_TMPFILE).
    pub fn link_to(&self, path: &Path) -> Result<(), Errno> {
        with!(
            self,
            |file| match rustix::fs::linkat(file, "", CWD, path, AtFlags::EMPTY_PATH) {
                Err(Errno::NOENT) => {
                    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                    rustix::fs::linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW)
                }
                result => result,
            },
            |disk, handle| disk.link(handle, path)
        )
    }
}

/// Opens a file for reading and writing, for its owner only, or makes it if that is said and nothing has its name.
pub fn open_private(path: &Path, create_new: bool, mode: u32) -> io::Result<File> {
    simulated!(|disk| disk.open(path, true, create_new, mode));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(create_new).mode(mode).custom_flags(AS_IT_LIES.bits().cast_signed());
    options.open(path).map(File::Real)
}

/// Opens what was a regular file a moment ago, for reading.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    simulated!(|disk| disk.open(path, false, false, 0));
    OpenOptions::new().read(true).custom_flags(AS_IT_LIES.bits().cast_signed()).open(path).map(File::Real)
}

/// Makes a file without a name (open(2), O_TMPFILE).
pub fn open_unnamed(folder: &Path, mode: u32) -> Result<File, Errno> {
    simulated!(|disk| disk.open_unnamed(folder, mode));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::from_raw_mode(mode)).map(|file| File::Real(file.into()))
}

/// Whether files without a name can get one, as `look` finds out, which is asked once a run.
pub fn links_unnamed(look: impl FnOnce() -> bool) -> bool {
    #[cfg(test)]
    if machine::is_simulated() {
        return machine::links_unnamed().unwrap_or_else(|| machine::remember_links_unnamed(look()));
    }
    *LINKS_UNNAMED.get_or_init(look)
}

/// Whether files without a name may get one, as far as that is known.
pub fn may_link_unnamed() -> bool {
    #[cfg(test)]
    if machine::is_simulated() {
        return machine::links_unnamed() != Some(false);
    }
    LINKS_UNNAMED.get() != Some(&false)
}

static LINKS_UNNAMED: OnceLock<bool> = OnceLock::new();

/// How long after its last change a file may not be on the disk yet, if nobody has synced it: many times what Linux takes
/// (30 s, proc(5), dirty_expire_centisecs).
const UNSYNCED: Duration = Duration::from_secs(600);

/// Whether a file may not be on the disk yet.
pub fn may_be_unsynced(stat: &Stat) -> bool {
    simulated!(|_| true);
    let changed = Duration::from_secs(u64::try_from(stat.changed.0).unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now < changed.saturating_add(UNSYNCED)
}

/// What is known of the file at a path, which may be a link.
pub fn stat(path: &Path) -> io::Result<Stat> {
    simulated!(|disk| disk.stat(path));
    std::fs::symlink_metadata(path).map(Stat::from)
}

/// What is known of the file that a path leads to.
pub fn stat_behind_links(path: &Path) -> io::Result<Stat> {
    simulated!(|disk| disk.stat(path));
    std::fs::metadata(path).map(Stat::from)
}

/// Whether something is mounted at a path, as far as the kernel tells (statx(2), Linux 5.8).
pub fn is_mount_point(path: &Path) -> bool {
    simulated!(|_| false);
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(CWD, path, flags, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Bytes of a name in a folder at most. File systems with longer ones also tell a number that counts something else (FAT:
/// 1530), and some tell none.
pub fn name_max(folder: &Path) -> usize {
    simulated!(|_| NAME_MAX);
    let reported = rustix::fs::statvfs(folder).ok().and_then(|stat| usize::try_from(stat.f_namemax).ok());
    reported.filter(|max| (1..NAME_MAX).contains(max)).unwrap_or(NAME_MAX)
}

/// Whether a full disk is full of files, and not of bytes: `df` without `-i` does not show that. Some file systems count no
/// inodes (Btrfs).
pub fn has_no_inodes(folder: &Path) -> bool {
    simulated!(|_| false);
    rustix::fs::statvfs(folder).is_ok_and(|stat| stat.f_files > 0 && stat.f_favail == 0)
}

/// Renames, in place of whatever has the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    simulated!(|disk| disk.rename(from, to, true).map_err(io::Error::from));
    std::fs::rename(from, to)
}

/// Renames to a name that nothing has; otherwise `AlreadyExists`.
pub fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    simulated!(|disk| disk.rename(from, to, false).map_err(io::Error::from));
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(errno) if Feature::ExclusiveRename.is_missing(errno) => {}
        result => return Ok(result?),
    }
    if Feature::HardLink.tolerate(std::fs::hard_link(from, to), || text::path(to))? {
        return std::fs::remove_file(from);
    }
    match std::fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Removes a name.
pub fn remove(path: &Path) -> io::Result<()> {
    simulated!(|disk| disk.remove(path));
    std::fs::remove_file(path)
}

/// Makes a file of our own in a folder, asks something of it, and removes it.
pub fn with_new_file<T>(folder: &Path, ask: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".{}-{number}.xfer-part-probe", std::process::id()));
    // Another process of this number may have been ended here.
    let _ = remove(&path);
    let file = open_private(&path, true, 0o600)?;
    let answer = ask(&file);
    let _ = remove(&path);
    answer
}

/// Syncs a new and empty file in a folder.
fn sync_new_file(folder: &Path) -> io::Result<()> {
    with_new_file(folder, |file| with!(file, |file| file.sync_all(), |disk, handle| disk.sync(handle)))
}

/// Makes a folder, and those that hold it.
pub fn make_folder(path: &Path) -> io::Result<()> {
    simulated!(|disk| disk.make_folder(path));
    std::fs::create_dir_all(path)
}

/// Waits until the names in a folder are on the disk; whether its file system can do that.
pub fn sync_folder(path: &Path) -> io::Result<bool> {
    Feature::SyncFolder.tolerate(sync_folder_or_fail(path), || text::path(path))
}

fn sync_folder_or_fail(path: &Path) -> io::Result<()> {
    simulated!(|disk| disk.sync_folder(path));
    std::fs::File::open(path)?.sync_all()
}

/// What this boot of the machine is called; nothing, where that cannot be told. Read once: every file of a MiB or more has
/// a journal that says it.
pub fn boot_id() -> Vec<u8> {
    simulated!(|disk| disk.boot_id());
    static BOOT_ID: OnceLock<Vec<u8>> = OnceLock::new();
    BOOT_ID.get_or_init(|| std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()).clone()
}
