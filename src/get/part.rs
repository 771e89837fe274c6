//! The part file: unverified bytes beside the target, locked, and in the end renamed over it whole; or verified ones, which
//! need no name until they get the target's.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::commits::Folder;
use super::disk::{self, File, Stat};
use super::obstacle::{kept_size, name_cannot_be_had, why};
use super::saved::Saved;
use super::unsupported::Feature;
use super::wait::Stop;
use crate::error::reason;
use crate::folder::folder_of;
use crate::proto::Mtime;
use crate::proto::digest::{Algorithm, Hasher};
use crate::text;

/// What the journal has behind the part file's name.
const JOURNAL_SUFFIX: &str = ".state";

/// The longest suffix that a name gets while the file is unfinished.
const LONGEST_SUFFIX: &str = ".xfer-part.state";

/// Nobody else reads bytes that are not verified.
const PART_MODE: u32 = 0o600;

/// Part names that are no longer fit into the names of every file system in use (Minix: 60).
const FITS_EVERYWHERE: usize = 60;

/// Parts of one target that cannot be locked at most, with those that killed runs have left: nobody can tell them apart. Their
/// numbers are no longer than `.state`, for which names have room.
const UNLOCKED_MAX: u32 = 99;

/// How often a part file is opened again that was renamed or removed in the moment between opening and locking.
const OPENS_MAX: u32 = 64;

/// A part file that is ours alone until it is dropped.
pub struct Part {
    file: Arc<File>,
    path: PathBuf,
    target: PathBuf,
    /// Whether we have made it.
    is_new: bool,
    /// Whether it has no name, and gets the target's at once.
    is_unnamed: bool,
    /// Whether other clients find it locked; otherwise it is new, and none looks for it.
    is_locked: bool,
}

/// The part file's path: `.NAME.xfer-part` beside the target; a name too long for that is shortened with its digest.
pub fn part_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let name_max = match 1 + name.len() + LONGEST_SUFFIX.len() {
        0..=FITS_EVERYWHERE => FITS_EVERYWHERE,
        _ => disk::name_max(folder_of(target)),
    };
    target.with_file_name(std::ffi::OsString::from_vec(part_name(name, name_max)))
}

/// The part file's name, where names have so many bytes at most.
fn part_name(name: &[u8], name_max: usize) -> Vec<u8> {
    let mut part = vec![b'.'];
    if 1 + name.len() + LONGEST_SUFFIX.len() <= name_max {
        part.extend_from_slice(name);
    } else {
        let mut hasher = Hasher::new(Algorithm::Md5);
        hasher.update(name);
        let digest = hasher.finish().to_string();
        let keep = name_max.saturating_sub(LONGEST_SUFFIX.len() + digest.len() + 2);
        // Not in the middle of a character: some file systems take only whole ones.
        let mut end = keep.min(name.len());
        while end > 0 && name.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end -= 1;
        }
        part.extend_from_slice(name.get(..end).unwrap_or_default());
        part.push(b'-');
        part.extend_from_slice(digest.as_bytes());
    }
    part.extend_from_slice(b".xfer-part");
    part
}

/// Where the journal of a part file lies.
pub fn journal_path(part: &Path) -> PathBuf {
    with_suffix(part, JOURNAL_SUFFIX)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// What of a file is not in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// When it was modified.
    pub mtime: Mtime,
    /// Its permission bits; nothing above them is taken from a server.
    pub mode: u32,
}

impl Part {
    /// Opens and locks the part file of a target, with whatever an earlier run has left in it; makes one if there is none.
    pub fn open(target: &Path) -> Result<Part, Stop> {
        let made = Part::try_open(target, true)?;
        made.ok_or_else(|| {
            Stop::local(format!("cannot create {}: another program keeps removing it", text::path(&part_path(target))))
        })
    }

    /// Opens and locks the part file of a target, if there is one.
    pub fn open_existing(target: &Path) -> Result<Option<Part>, Stop> {
        Part::try_open(target, false)
    }

    /// Makes one without a name (open(2), O_TMPFILE), for bytes that are verified already: nobody else can open it, and
    /// nothing of it stays that has no name yet, whatever ends us. It saves a third of what a part with a name costs.
    /// Without a folder, or where such files cannot be made or get no name later, there is none.
    pub fn unnamed(target: &Path) -> Option<Part> {
        if !disk::may_link_unnamed() {
            return None;
        }
        let make = || disk::open_unnamed(folder_of(target), PART_MODE);
        let file = match make() {
            Err(Errno::NOENT) => return None,
            file => file,
        };
        let path = part_path(target);
        // One that has had a name and lost it gets none again, so another one tries it.
        if !disk::links_unnamed(|| file.is_ok() && make().is_ok_and(|file| can_be_linked(&file, &path))) {
            return None;
        }
        let (file, target) = (file.ok()?, target.to_path_buf());
        Some(Part { file: Arc::new(file), path, target, is_new: true, is_unnamed: true, is_locked: false })
    }

    /// Between opening and locking, its owner may have renamed it over the target, and a lock on it would be a lock on
    /// the target: so once locked it must still be the file at its path.
    fn try_open(target: &Path, makes: bool) -> Result<Option<Part>, Stop> {
        let path = part_path(target);
        let shown = text::path(&path);
        for _ in 0..OPENS_MAX {
            // Most often there is none.
            let made = if makes { open_part(&path, true) } else { Err(io::ErrorKind::AlreadyExists.into()) };
            let (file, is_new) = match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (open_part(&path, false), false),
                made => (made, true),
            };
            let file = match file {
                Ok(file) => file,
                // Gone in between.
                Err(error) if !is_new && error.kind() == io::ErrorKind::NotFound && makes => continue,
                Err(error) if !is_new && error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(cannot_open(&path, target, &error)),
            };
            match lock(&file, &path) {
                Ok(true) => {}
                Ok(false) => {
                    // A client that can lock it would take it over.
                    if is_new {
                        let _ = disk::remove(&path);
                    }
                    return if makes { Part::make_unlocked(target).map(Some) } else { Ok(None) };
                }
                Err(Errno::WOULDBLOCK) => {
                    let target = text::path(target);
                    return Err(Stop::local(format!(
                        "another xfer is already fetching {target}; wait for it, or save elsewhere with -o or -d"
                    )));
                }
                Err(error) => return Err(Stop::local(format!("cannot lock {shown}: {}", why(&error.into(), target)))),
            }
            let cannot_use = |why: String| Stop::local(format!("cannot use {shown}: {why}; remove it"));
            let ours = file.stat().map_err(|error| cannot_use(reason(&error)))?;
            if !is_at(&file, &ours, &path, is_new).map_err(cannot_use)? {
                continue;
            }
            if ours.mode != PART_MODE {
                // It may have been about to get its name. Where modes cannot be set, they mean nothing.
                let _ = file.set_mode(PART_MODE);
            }
            let (file, target) = (Arc::new(file), target.to_path_buf());
            return Ok(Some(Part { file, path, target, is_new, is_unnamed: false, is_locked: true }));
        }
        Err(Stop::local(format!("cannot lock {shown}: another program keeps replacing it")))
    }

    /// Makes one where files cannot be locked, under a name at which no other client looks: that of a locked part and a
    /// number. Elsewhere the same files may well be locked (NFS, with a lock daemon on some of its clients).
    fn make_unlocked(target: &Path) -> Result<Part, Stop> {
        let shared = part_path(target);
        for number in 1..=UNLOCKED_MAX {
            let path = with_suffix(&shared, &format!(".{number}"));
            match open_part(&path, true) {
                Ok(file) => {
                    let (file, target) = (Arc::new(file), target.to_path_buf());
                    return Ok(Part { file, path, target, is_new: true, is_unnamed: false, is_locked: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_open(&path, target, &error)),
            }
        }
        let shown = text::path(&shared);
        Err(Stop::local(format!(
            "cannot save {}: {shown}.1 to .{UNLOCKED_MAX} already exist; remove them",
            text::path(target)
        )))
    }

    /// Whether something lies where the part file of this target would.
    pub fn exists(target: &Path) -> bool {
        may_be_there(&part_path(target))
    }

    /// Whether an earlier run has left a part file of this target, or, cut off in its last moment, only the journal.
    pub fn left(target: &Path) -> bool {
        Part::exists(target) || Part::left_journal(target)
    }

    /// Whether there is a journal of a part of this target, be there a part or not.
    pub fn left_journal(target: &Path) -> bool {
        may_be_there(&journal_path(&part_path(target)))
    }

    /// The file to write to.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Whether nothing of an earlier run is in it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether a later run can tell that this one still uses it.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its journal lies, if it has one.
    pub fn journal_path(&self) -> PathBuf {
        journal_path(&self.path)
    }

    /// Bytes in it.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.stat()?.len)
    }

    /// Forgets what was written behind so many bytes. Some files cannot be cut, and most need not be.
    pub fn truncate(&self, len: u64) -> io::Result<()> {
        if self.len().is_ok_and(|now| now == len) {
            return Ok(());
        }
        self.file.set_len(len)
    }

    /// Bytes of the disk that it holds.
    pub fn allocated(&self) -> u64 {
        self.file.stat().map_or(0, |part| part.allocated)
    }

    /// Bytes free for it on its disk.
    pub fn free_space(&self) -> Option<u64> {
        self.file.free_space()
    }

    /// Makes the part the target: permissions, time, sync, rename, sync of the folder. Its whole content is verified.
    /// Waits for the disk.
    ///
    /// Without attributes, a new file gets the permissions that any program would give it, and one that replaces another
    /// keeps that one's. Nothing is replaced unless `replaces`.
    pub fn commit(
        &self,
        attributes: Option<Attributes>,
        sync: Option<&Folder>,
        replaces: bool,
    ) -> Result<Saved, CommitFailure> {
        let failed = |what: &str, error: &io::Error| CommitFailure {
            message: name_cannot_be_had(&self.target, error)
                .unwrap_or_else(|| format!("cannot {what} {}: {}", text::path(&self.target), why(error, &self.target))),
            is_in_doubt: what == SYNC,
        };
        let saved = match self.rename(attributes, sync.is_some(), replaces) {
            Ok(saved) => saved,
            // Only the rename can say so.
            Err((_, error)) if !replaces && error.kind() == io::ErrorKind::AlreadyExists => {
                kept_size(&self.target).map_err(|message| CommitFailure { message, is_in_doubt: false })?;
                self.discard();
                return Ok(Saved::Kept);
            }
            Err((what, error)) => return Err(failed(what, &error)),
        };
        if let Some(folder) = sync {
            let sync = || match folder.sync() {
                // ext4, XFS and Btrfs write a new name together with what else is new of its file.
                Ok(false) => self.file.sync_all(),
                result => result.map(drop),
            };
            sync().map_err(|error| failed("sync the directory of", &error))?;
        }
        Ok(saved)
    }

    fn rename(
        &self,
        attributes: Option<Attributes>,
        sync: bool,
        replaces: bool,
    ) -> Result<Saved, (&'static str, io::Error)> {
        let mode = match attributes {
            Some(attributes) => attributes.mode & 0o777 & !umask(),
            None => match disk::stat(&self.target) {
                Ok(old) if old.is_file => old.mode,
                _ => 0o666 & !umask(),
            },
        };
        let set_mode = |mode| {
            let result = Feature::SetMode.tolerate(self.file.set_mode(mode), || text::path(&self.target));
            result.map(drop).map_err(|error| ("set the permissions of", error))
        };
        // As a part it must stay ours to open, should we be ended before it has its name.
        set_mode(mode | PART_MODE)?;
        if let Some(Attributes { mtime, .. }) = attributes {
            self.set_mtime(mtime);
        }
        if sync {
            self.file.sync_all().map_err(|error| (SYNC, error))?;
        }
        let saved = match self.is_unnamed {
            true => self.link(replaces)?,
            false => self.move_to_target(replaces)?,
        };
        if mode | PART_MODE != mode {
            set_mode(mode)?;
        }
        Ok(saved)
    }

    fn move_to_target(&self, replaces: bool) -> Result<Saved, (&'static str, io::Error)> {
        // A lock keeps other clients away, and nobody else.
        if !lies_at(&self.file, &self.path).map_err(|error| ("save", error))? {
            let why = io::Error::other(format!(
                "another program has replaced {}; run the command again",
                text::path(&self.path)
            ));
            return Err(("save", why));
        }
        if !replaces {
            return match disk::rename_to_nothing(&self.path, &self.target) {
                Ok(()) => Ok(Saved::New),
                Err(error) => Err(("save", error)),
            };
        }
        let saved = if disk::stat(&self.target).is_ok() { Saved::Replaced } else { Saved::New };
        match disk::rename(&self.path, &self.target) {
            Ok(()) => Ok(saved),
            Err(error) if saved == Saved::New => Err(("save", error)),
            Err(error) => Err(("replace", error)),
        }
    }

    /// Gives the target's name to one that has none; where something has it, by way of the part's name, since only a
    /// rename replaces in one step.
    fn link(&self, replaces: bool) -> Result<Saved, (&'static str, io::Error)> {
        match self.file.link_to(&self.target) {
            Ok(()) => return Ok(Saved::New),
            Err(Errno::EXIST) if replaces => {}
            Err(error) => return Err(("save", error.into())),
        }
        link_locked(&self.file, &self.path).map_err(|error| match error {
            Errno::EXIST => (
                "save",
                io::Error::other("another xfer is already fetching it; wait for it, or save elsewhere with -o or -d"),
            ),
            error => ("save", error.into()),
        })?;
        disk::rename(&self.path, &self.target).map_err(|error| ("replace", error))?;
        Ok(Saved::Replaced)
    }

    /// A time that this file system cannot hold is no reason to lose the file.
    fn set_mtime(&self, mtime: Mtime) {
        let set = self.file.set_modified(mtime).map_err(io::Error::from);
        if let Err(error) = Feature::SetTime.tolerate(set, || text::path(&self.target)) {
            log::warn!(target: "main", "cannot set the time of {}: {}", text::path(&self.target), reason(&error));
        }
    }

    /// Whether what lies at its path is still this file.
    pub fn is_at_its_path(&self) -> bool {
        lies_at(&self.file, &self.path).unwrap_or(false)
    }

    /// Whether something else lies at its path, or nothing. Where that cannot be told, what is there is not given up.
    pub fn is_replaced(&self) -> bool {
        matches!(lies_at(&self.file, &self.path), Ok(false))
    }

    /// Removes it and its journal, if nobody has put something else there.
    pub fn discard(&self) {
        if self.is_at_its_path() {
            // What cannot be removed is emptied by the next run. The journal first: it must not outlive its part.
            let _ = disk::remove(&self.journal_path());
            let _ = disk::remove(&self.path);
        }
    }
}

/// Why a part has not become the target, or only for the moment.
#[derive(Debug)]
pub struct CommitFailure {
    /// The sentence for the user.
    pub message: String,
    /// Whether the part may hold something else than what was written.
    pub is_in_doubt: bool,
}

/// The step of a commit whose failure says that bytes may be lost (fsync(2)).
const SYNC: &str = "sync";

/// Whether something lies at a path, or that cannot be told: what may be there is looked for, and not begun over.
fn may_be_there(path: &Path) -> bool {
    let is_missing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    !disk::stat(path).is_err_and(|error| is_missing(&error))
}

/// Whether what lies at a path is this file, by whichever name it was opened.
pub fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    match disk::stat(path) {
        Ok(there) => Ok(is_same(file, &file.stat()?, &there)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether two looks are at one file, the first of them at `file`: by device and inode; by all else where the file system
/// makes up another inode number for each look (some with FUSE).
fn is_same(file: &File, ours: &Stat, there: &Stat) -> bool {
    let all_else = |stat: &Stat| (stat.is_file, stat.len, stat.mode, stat.links, stat.owner, stat.modified);
    let is_made_up = || file.stat().is_ok_and(|again| again.id != ours.id);
    ours.id == there.id || (all_else(ours) == all_else(there) && is_made_up())
}

/// Whether a file without a name can get one: it cannot without /proc on Linux before 6.10, or where a security module or
/// the file system forbids links. It has none afterwards.
fn can_be_linked(file: &File, path: &Path) -> bool {
    match link_locked(file, path) {
        Ok(()) => {
            if lies_at(file, path).unwrap_or(false) {
                // Empty and locked: a client that finds it in this moment is told that another one is at it.
                let _ = disk::remove(path);
            }
            true
        }
        Err(error) => error == Errno::EXIST,
    }
}

/// Gives a part's name to a file without one, so that whoever opens it finds it locked.
fn link_locked(file: &File, path: &Path) -> Result<(), Errno> {
    file.lock()?;
    file.link_to(path)
}

/// Locks a part, unless its file system has no locks; whether it has.
fn lock(file: &File, path: &Path) -> Result<bool, Errno> {
    let result = Feature::Lock.tolerate(file.lock().map_err(io::Error::from), || text::path(path));
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Opens a part file or its journal, without following a link and without waiting for the other end of a FIFO.
pub fn open_part(path: &Path, create_new: bool) -> io::Result<File> {
    disk::open_private(path, create_new, PART_MODE)
}

fn cannot_open(part: &Path, target: &Path, error: &io::Error) -> Stop {
    let shown = text::path(target);
    Stop::local(match Errno::from_io_error(error) {
        Some(Errno::LOOP) => format!("cannot save {shown}: {} is a symbolic link; remove it", text::path(part)),
        // A file system that makes its files up, such as /proc.
        Some(Errno::NOENT) if disk::stat_behind_links(folder_of(target)).is_ok_and(|stat| stat.is_dir) => {
            format!(
                "cannot save {shown}: the directory {} takes no new files; save elsewhere with -d",
                text::path(folder_of(target))
            )
        }
        Some(Errno::NOENT) => {
            format!(
                "cannot save {shown}: the directory {} does not exist; create it first (mkdir -p)",
                text::path(folder_of(target))
            )
        }
        Some(Errno::ACCESS) if disk::stat(part).is_ok() => {
            format!("cannot save {shown}: permission denied for {}; remove it", text::path(part))
        }
        _ => format!("cannot save {shown}: {}", why(error, target)),
    })
}

/// Whether an open file is still the one at its path; an error if it is none that we may write to.
///
/// The owner of one that we have just made is whoever the file system says (exFAT and others have but one).
fn is_at(file: &File, ours: &Stat, path: &Path, is_new: bool) -> Result<bool, String> {
    let there = match disk::stat(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(reason(&error)),
    };
    if !is_same(file, ours, &there) {
        return Ok(false);
    }
    if !ours.is_file {
        return Err("it is not a regular file".to_string());
    }
    if ours.links != 1 {
        return Err("it has more than one hard link".to_string());
    }
    if !is_new && !is_ours(ours.owner, path) {
        return Err("it belongs to another user".to_string());
    }
    Ok(true)
}

/// Whether a file of this owner at this path may be one that we have made: on some mounts all files have one owner (exFAT,
/// SMB), or what root makes is another's (NFS, root_squash), and only a new file tells whose ours are.
pub fn is_ours(owner: u32, path: &Path) -> bool {
    owner == rustix::process::geteuid().as_raw() || {
        let of_new_files = disk::with_new_file(folder_of(path), |file| Ok(file.stat()?.owner));
        of_new_files.is_ok_and(|ours| ours == owner)
    }
}

/// The process's umask (proc(5), Umask). Without /proc it can only be read by setting it; a file that another thread
/// makes meanwhile is the more private.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or_else(|| {
            let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
            rustix::process::umask(mask);
            mask.as_raw_mode()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of one target, and how often each of them saves it: with fewer the moment is not met.
    const CLIENTS: u8 = 6;
    const COMMITS: usize = 200;

    /// Bytes of the file.
    const WHOLE: usize = 5000;

    /// A folder for one test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("xfer-part-{test}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("the temporary directory can be made");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Receives a file of these bytes, unless another has the part; whether it has become the target.
    fn receive(target: &Path, content: u8) -> bool {
        let Ok(part) = Part::open(target) else { return false };
        let ours = part.file.stat().expect("an open file can be looked at");
        if let Ok(there) = disk::stat(target) {
            assert_ne!(ours.id, there.id, "the part that was locked is the target");
        }
        part.truncate(0).expect("the part can be emptied");
        part.file.write_all_at(&[content; WHOLE], 0).expect("the part can be written");
        part.commit(None, None, true).expect("the part can become the target") != Saved::Kept
    }

    /// Each client opens in the moments in which the others commit, and what it locks is never the target: that is whole
    /// whenever somebody looks.
    #[test]
    fn the_target_never_changes_under_the_lock() {
        let scratch = Scratch::new("race");
        let target = scratch.0.join("a");
        let client = |content: u8| {
            let mut committed = 0;
            while committed < COMMITS {
                // Whoever is told that another is at it comes again, and so is there when that one ends.
                committed += usize::from(receive(&target, content));
                let there = std::fs::read(&target).unwrap_or_default();
                let is_whole = there.len() == WHOLE && there.iter().all(|byte| *byte == there[0]);
                assert!(there.is_empty() || is_whole, "{} bytes, not all of one file", there.len());
            }
        };
        std::thread::scope(|scope| (0..CLIENTS).for_each(|content| drop(scope.spawn(move || client(content)))));
        let names = std::fs::read_dir(&scratch.0).expect("the directory is there").count();
        assert_eq!(names, 1, "nothing is left but the target");
    }

    /// One that has no name leaves none behind, replaces only what it may, and stays out of another client's way.
    #[test]
    fn a_part_without_a_name() {
        let scratch = Scratch::new("unnamed");
        let target = scratch.0.join("a");
        let names = || std::fs::read_dir(&scratch.0).expect("the directory is there").count();
        let make = |content: u8| {
            let part = Part::unnamed(&target)?;
            part.file.write_all_at(&[content; WHOLE], 0).expect("the part can be written");
            Some(part)
        };
        // Not on every file system.
        let Some(part) = make(0) else { return };
        assert_eq!(names(), 0);
        drop(part);
        for (content, replaces) in [(1, false), (2, true)] {
            let part = make(content).expect("once more");
            let saved = part.commit(None, None, replaces).expect("the part can become the target");
            assert_eq!(saved, if replaces { Saved::Replaced } else { Saved::New });
            assert_eq!(std::fs::read(&target).expect("the target"), [content; WHOLE]);
            assert_eq!(names(), 1);
        }
        let part = make(3).expect("once more");
        assert_eq!(part.commit(None, None, false).expect("the target is kept"), Saved::Kept);
        let other = Part::open(&target).expect("another client's part");
        let failure = part.commit(None, None, true).expect_err("another client is at it");
        assert!(failure.message.contains("another xfer"), "{}", failure.message);
        part.discard();
        assert!(other.is_at_its_path());
        assert_eq!(std::fs::read(&target).expect("the target"), [2; WHOLE]);
        assert!(Part::unnamed(&scratch.0.join("none").join("a")).is_none(), "no directory");
        assert!(make(4).is_some(), "which is no reason to give up");
    }

    #[test]
    fn part_names_fit_and_stay_apart() {
        assert_eq!(part_path(Path::new("d/a.bin")), Path::new("d/.a.bin.xfer-part"));
        for name in ["x".repeat(238), "x".repeat(239), "x".repeat(255), "✓".repeat(85)] {
            // What most file systems have, eCryptfs, Minix, and fewer than the suffixes take.
            for name_max in [disk::NAME_MAX, 143, 60, 14] {
                let part = String::from_utf8(part_name(name.as_bytes(), name_max)).expect("whole characters only");
                assert!(part.len() + ".state".len() <= name_max.max(60), "{} bytes of {name_max}", part.len());
                assert!(part.starts_with('.') && part.ends_with(".xfer-part"));
            }
        }
        // As version 0.2.0 has it, whose parts are to be found.
        let old = format!(".{}-a545922cbc30e89414165164b1302608.xfer-part", "x".repeat(205));
        assert_eq!(part_name(("x".repeat(250) + "a").as_bytes(), disk::NAME_MAX), old.as_bytes());
        let [a, b] = ["a", "b"].map(|end| part_path(Path::new(&("x".repeat(250) + end))));
        assert_ne!(a, b);
    }
}
