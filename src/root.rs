//! The shared directory: a name to an open regular file beneath it, or nothing.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::file::{ServedFile, Stamp, real_path};
use crate::folder::folder_of;
use crate::pseudo_fs::PseudoFiles;
use crate::text;

/// How often a look-up is tried again that a rename elsewhere has disturbed (openat2(2), EAGAIN).
const DISTURBED_MAX: u32 = 16;

/// Versions remembered as open before those that are not any more are forgotten.
const SWEEP_MIN: usize = 64;

/// Files kept open for the next request, and how long after they were opened: whoever fetches many or asks for pieces then
/// needs no system call to open and close each, and what is deleted gives its space back soon.
const KEPT_MAX: usize = 1024;
const KEPT_TIME: Duration = Duration::from_secs(5);

/// Why a name leads to no file. A peer never learns which of the first two it was.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such file, or it is none that we serve; the log says why.
    NotFound(String),
    /// The disk or its file system failed; the peer learns no more than that there is no such file.
    Fault(io::Error),
    /// The file may well be there, but not now: descriptors, memory or a lease.
    Busy(io::Error),
}

/// What a name has led to.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name as it was asked for.
    pub name: Rc<[u8]>,
    /// The file, open.
    pub file: Rc<ServedFile>,
}

/// Where files are found by their names.
pub trait Directory {
    /// Opens the file of a name, or shares it with whoever has it open.
    fn file(&mut self, name: &[u8], now: Instant) -> Result<Found, Refusal>;
}

/// What is shared: a directory, or one file in it.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The directory.
    pub dir: PathBuf,
    /// The name of the file.
    pub only: Option<OsString>,
}

impl Shared {
    /// What a path leads to now, a directory or a file. From then on it is one or the other: a directory that is put in the
    /// place of a file would share far more than was meant.
    pub fn at(path: &Path) -> io::Result<Shared> {
        let directory = Shared { dir: path.to_path_buf(), only: None };
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(directory),
            Ok(metadata) if metadata.is_file() => match path.file_name() {
                Some(name) => Ok(Shared { dir: folder_of(path).to_path_buf(), only: Some(name.to_owned()) }),
                None => Ok(directory),
            },
            Ok(_) => Err(io::Error::other("neither a directory nor a regular file")),
            // Opening it says which directory on the way cannot be entered.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(directory),
            Err(error) => Err(error),
        }
    }

    /// The real path, if it can be told.
    pub fn real_path(&self) -> PathBuf {
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        match &self.only {
            Some(name) => dir.join(name),
            None => dir,
        }
    }

    /// In words, as what is shared, with this real path.
    pub fn described(&self, real: &Path) -> String {
        let what = if self.only.is_some() { "the file" } else { "the directory" };
        format!("{what} {}", text::path(real))
    }
}

/// A directory, and which of what lies beneath it is served.
pub struct Root {
    dir: OwnedFd,
    /// The one name in it that is served, if not all are.
    only: Option<Box<[u8]>>,
    hidden: bool,
    log: Option<LogFiles>,
    /// Device and inode of the open log file, whatever it is called by now.
    log_id: Option<(u64, u64)>,
    pseudo: PseudoFiles,
    open: HashMap<Stamp, Weak<ServedFile>>,
    sweep_at: usize,
    /// Files that were opened lately, by the names they were found under; at most [`KEPT_MAX`].
    kept: HashMap<Rc<[u8]>, KeptFile>,
    /// Those names, each once, by the time at which the file is closed, and a number that tells those of one moment apart.
    kept_until: BTreeMap<(Instant, u64), Rc<[u8]>>,
    /// Files kept so far.
    keeps: u64,
    counter: Rc<()>,
}

/// A file that is kept open.
struct KeptFile {
    found: Found,
    /// Its key in [`Root::kept_until`].
    until: (Instant, u64),
}

/// An open log file, which nobody may fetch.
#[derive(Clone, Debug)]
pub struct PrivateLog {
    /// Its real path.
    pub path: PathBuf,
    /// Its device and inode.
    pub id: (u64, u64),
    /// Whether its folder was named as the one for logs.
    pub has_folder: bool,
}

/// Log files that lie beneath the root, which are never served.
struct LogFiles {
    /// The folder that holds the open one, and often those of other runs.
    folder: OwnedFd,
    /// The name of the open one.
    open: Vec<u8>,
    /// Whether all in the folder is private: it was named as the one for logs, and is not the shared directory itself.
    is_for_logs: bool,
}

impl Root {
    /// Opens the directory, and tries whether names in it can be confined. It has to be one that may be entered (x), and
    /// need not be one that may be read (r): files are found by their names.
    ///
    /// Each file that it opens takes a share of `counter`, which so counts the files open.
    pub fn open(path: &Path, hidden: bool, log: Option<PrivateLog>, counter: &Rc<()>) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::ACCESS => io::Error::other(
                "permission denied: the user of the server has no x permission on a directory above it; share a directory that this user can enter",
            ),
            error => error.into(),
        })?;
        beneath(&dir, b".", OFlags::PATH).map_err(|error| match error {
            Errno::NOSYS => io::Error::other(
                "the system call openat2 is missing: the kernel is older than Linux 5.6, or a seccomp filter hides it",
            ),
            Errno::PERM => {
                io::Error::other("a seccomp filter of a container or a systemd unit forbids the system call openat2")
            }
            Errno::ACCESS => io::Error::other(
                "permission denied: the user of the server has no x permission on it; share a directory that this user can enter",
            ),
            error => error.into(),
        })?;
        let log_id = log.as_ref().map(|log| log.id);
        let log = log.and_then(|log| LogFiles::beneath(path, &log));
        Ok(Root {
            dir,
            only: None,
            hidden,
            log,
            log_id,
            pseudo: PseudoFiles::default(),
            open: HashMap::new(),
            sweep_at: SWEEP_MIN,
            kept: HashMap::new(),
            kept_until: BTreeMap::new(),
            keeps: 0,
            counter: Rc::clone(counter),
        })
    }

    /// Serves nothing but this file of the directory, if it can be served now. It is a name: another file that is put in its
    /// place is served from then on.
    pub fn with_only(mut self, name: &OsStr) -> io::Result<Root> {
        self.only = Some(name.as_bytes().into());
        match self.check(name.as_bytes()).and_then(|()| self.open_file(name.as_bytes(), Instant::now())) {
            Ok(_) => Ok(self),
            Err(Refusal::NotFound(why)) => Err(io::Error::other(why)),
            Err(Refusal::Fault(error) | Refusal::Busy(error)) => Err(error),
        }
    }

    /// When the next file has been kept open for long enough.
    pub fn next_at(&self) -> Option<Instant> {
        self.kept_until.first_key_value().map(|((until, _), _)| *until)
    }

    /// Closes what has been kept open for long enough.
    pub fn close_old(&mut self, now: Instant) {
        while self.next_at().is_some_and(|until| until <= now) {
            self.close_oldest();
        }
    }

    /// Closes whatever is open only for the next request, and says whether there was anything.
    pub fn close_kept(&mut self) -> bool {
        self.kept.clear();
        !std::mem::take(&mut self.kept_until).is_empty()
    }

    fn close_oldest(&mut self) {
        if let Some((_, name)) = self.kept_until.pop_first() {
            self.kept.remove(&name);
        }
    }

    /// Keeps a file open, in place of one that was found under the same name before.
    fn keep(&mut self, found: &Found, now: Instant) {
        self.keeps += 1;
        let until = (now + KEPT_TIME, self.keeps);
        if let Some(older) = self.kept.insert(Rc::clone(&found.name), KeptFile { found: found.clone(), until }) {
            self.kept_until.remove(&older.until);
        }
        self.kept_until.insert(until, Rc::clone(&found.name));
        if self.kept_until.len() > KEPT_MAX {
            self.close_oldest();
        }
    }

    /// The file that was found under this name lately, if it is still that one and the same.
    ///
    /// This look follows links that lead out, which those of [`Root::look_up`] do not. But it opens nothing, and all that
    /// comes of it is a file that was found beneath the root.
    fn kept(&self, name: &[u8]) -> Option<Found> {
        let found = &self.kept.get(name)?.found;
        let path = Path::new(OsStr::from_bytes(name));
        let stat = rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (Stamp::of(&stat) == found.file.stamp).then(|| found.clone())
    }

    fn open_file(&mut self, name: &[u8], now: Instant) -> Result<Rc<ServedFile>, Refusal> {
        for _ in 0..DISTURBED_MAX {
            let (path, stat) = self.find(name)?;
            let stamp = self.served_stamp(&path, &stat)?;
            if let Some(file) = self.open.get(&stamp).and_then(Weak::upgrade) {
                return Ok(file);
            }
            // Opening one of those may already do something.
            if let Some(kind) = self.pseudo.kind_of(&path, stamp.device, now) {
                return Err(Refusal::NotFound(format!("a file of {kind}, whose size is not that of its content")));
            }
            // Not through the O_PATH descriptor: that would need /proc. Whatever was put in its place meanwhile is not
            // waited for (O_NONBLOCK), does not become our terminal (O_NOCTTY), and is not what we send.
            let file = self.look_up(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            let stat = rustix::fs::fstat(&file)?;
            if self.served_stamp(&file, &stat)?.id() == stamp.id() {
                return Ok(self.remember(file, &stat));
            }
        }
        Err(Refusal::Busy(io::Error::other("the file is replaced again and again")))
    }

    fn remember(&mut self, file: OwnedFd, stat: &Stat) -> Rc<ServedFile> {
        let (source, mode) = (Box::new(File::from(file)), stat.st_mode & 0o777);
        let file = Rc::new(ServedFile::new(source, Stamp::of(stat), mode, &self.counter));
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, file| file.strong_count() > 0);
            self.sweep_at = SWEEP_MIN.max(2 * self.open.len());
        }
        self.open.insert(file.stamp, Rc::downgrade(&file));
        file
    }

    /// What the name alone forbids, before any system call.
    pub fn check(&self, name: &[u8]) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::NotFound(why.to_string()));
        match &self.only {
            Some(only) if **only != *name => return refuse("not the file that is shared"),
            // Whoever shares a hidden file by its name means it.
            Some(_) if !is_part(name) => return Ok(()),
            _ => {}
        }
        if name.first() == Some(&b'/') {
            return refuse("absolute path");
        }
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" => return refuse("empty path component"),
                b".." => return refuse("'..' in the path"),
                b"." => {}
                _ if is_part(component) => return refuse("partial file of a download"),
                [b'.', ..] if !self.hidden => return refuse("hidden name; see --hidden"),
                _ => {}
            }
        }
        Ok(())
    }

    /// What a name stands for, without opening it. A link at its end is followed, but not to a part file.
    fn find(&self, name: &[u8]) -> Result<(OwnedFd, Stat), Refusal> {
        let found = self.look_up(name, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok((found, stat));
        }
        let found = self.look_up(name, OFlags::PATH)?;
        // What cannot be told counts as one.
        match real_path(&found).is_none_or(|path| path.file_name().is_some_and(|name| is_part(name.as_bytes()))) {
            true => Err(Refusal::NotFound("a link to the partial file of a download".to_string())),
            false => {
                let stat = rustix::fs::fstat(&found)?;
                Ok((found, stat))
            }
        }
    }

    fn look_up(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Refusal> {
        for _ in 0..DISTURBED_MAX {
            match beneath(&self.dir, name, flags) {
                Ok(file) => return Ok(file),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The stamp of an open file with this stat, if it is one that we serve.
    fn served_stamp(&self, file: &OwnedFd, stat: &Stat) -> Result<Stamp, Refusal> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Refusal::NotFound("a directory".to_string())),
            _ => return Err(Refusal::NotFound("not a regular file".to_string())),
        }
        let stamp = Stamp::of(stat);
        if self.log_id == Some(stamp.id()) || self.log.as_ref().is_some_and(|log| log.contain(file)) {
            return Err(Refusal::NotFound("a log of xfer".to_string()));
        }
        Ok(stamp)
    }
}

impl Directory for Root {
    fn file(&mut self, name: &[u8], now: Instant) -> Result<Found, Refusal> {
        self.check(name)?;
        if let Some(found) = self.kept(name) {
            return Ok(found);
        }
        let file = match self.open_file(name, now) {
            // Out of descriptors, perhaps.
            Err(Refusal::Busy(_)) if self.close_kept() => self.open_file(name, now),
            outcome => outcome,
        }?;
        let found = Found { name: name.into(), file };
        self.keep(&found, now);
        Ok(found)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Refusal {
        match error {
            // EAGAIN: disturbed too often, or a lease (fcntl(2)) that is being broken.
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => Refusal::Busy(error.into()),
            // Of a disk, a damaged file system, a network file system whose server has lost the file, and a dead FUSE.
            Errno::IO | Errno::UCLEAN | Errno::STALE | Errno::NOTCONN => Refusal::Fault(error.into()),
            Errno::XDEV => Refusal::NotFound("leads out of the shared directory".to_string()),
            Errno::LOOP => Refusal::NotFound("too many symbolic links, or a magic link".to_string()),
            error => Refusal::NotFound(crate::error::reason(&error.into())),
        }
    }
}

/// `.NAME.xfer-part` and what lies beside it: not whole, or not a file of the user's.
fn is_part(component: &[u8]) -> bool {
    component.first() == Some(&b'.') && component.windows(10).any(|window| window == b".xfer-part")
}

/// Opens a name so that no link, `..` or magic link leads out of the directory (openat2(2)).
fn beneath(dir: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, Path::new(OsStr::from_bytes(name)), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

impl LogFiles {
    /// The log files, if they lie beneath the root.
    fn beneath(root: &Path, log: &PrivateLog) -> Option<LogFiles> {
        let root = root.canonicalize().ok()?;
        let folder = log.path.parent()?;
        if !folder.starts_with(&root) {
            return None;
        }
        let open = log.path.file_name()?.as_bytes().to_vec();
        let is_for_logs = log.has_folder && folder != root;
        let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(LogFiles { folder, open, is_for_logs })
    }

    /// Whether an open file is one of them, by whichever links it was reached. What cannot be told counts as one.
    fn contain(&self, file: &OwnedFd) -> bool {
        match (real_path(file), real_path(&self.folder)) {
            (Some(file), Some(folder)) => file.strip_prefix(&folder).is_ok_and(|rest| self.are_at(rest)),
            _ => true,
        }
    }

    /// Whether a path beneath the folder is that of one of them. A folder that nobody has named as ours may be that of a
    /// program that is shared, with logs of its own.
    fn are_at(&self, path: &Path) -> bool {
        // `server.log.1`, `server.log-20260115.gz`, but not `server.logo`.
        let is_rotated = match path.as_os_str().as_bytes().strip_prefix(self.open.as_slice()) {
            Some(behind) => !behind.contains(&b'/') && matches!(behind, [] | [b'.' | b'-' | b'_' | b'~', ..]),
            None => false,
        };
        // Those of other runs may have been put into a folder beside it.
        self.is_for_logs || is_rotated || path.file_name().is_some_and(|name| is_log_of_a_run(name.as_bytes()))
    }
}

/// Whether a name begins with `server_YYYYMMDD_HHMMSS` or `client_YYYYMMDD_HHMMSS`, as a run names its log: what rotation
/// and other programs make of it keeps that. In any case of letters, since some file systems know no other.
fn is_log_of_a_run(name: &[u8]) -> bool {
    const SHAPES: [&[u8]; 2] = [b"server_00000000_000000", b"client_00000000_000000"];
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        letter => byte.eq_ignore_ascii_case(letter),
    };
    SHAPES.iter().any(|shape| name.len() >= shape.len() && name.iter().zip(*shape).all(fits))
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
