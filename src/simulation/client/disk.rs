//! A disk with one folder: what programs see of it, and what of that a power cut leaves.
//!
//! Writes and cuts of a file are on the disk for good once it was synced, names once the folder was. Until then each of
//! them may be there after a power cut or not, a write also in part, whatever came before or after it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::machine::Handle;
use crate::get::disk::{File, Stat};
use crate::proto::Mtime;
use crate::simulation::Dice;

/// Bytes of a write that are there after a power cut together, or not.
const SECTOR: usize = 64;

/// The simulated disk.
pub struct Disk {
    dice: Dice,
    folder: PathBuf,
    has_folder: bool,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that were not synced, the first one first; each is one step.
    renames: Vec<Vec<(PathBuf, Option<u64>)>>,
    open: HashMap<u64, u64>,
    /// Grows with everything that is made or changed.
    ticks: u64,
    boot: u64,
    /// Bytes that it holds at most.
    pub capacity: u64,
    /// What somebody else puts a file of his own in place of, and after how many writes.
    pub thief: Option<(PathBuf, u64)>,
    /// How many of a thousand calls fail.
    pub failing: u32,
    /// What its file system cannot do.
    pub lacks: Lacks,
    /// Calls after which the program is ended by force; `None` for never.
    pub ends_after: Option<u64>,
    /// Whether that has happened: nothing that the program does any more has an effect.
    pub has_ended: bool,
    /// Whether the program has asked the server for something.
    pub has_asked: bool,
    /// Whether it has read a part before it did.
    pub has_read_early: bool,
}

/// What a file system cannot do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lacks {
    /// Put names on the disk: they get there one day, in any order.
    pub folder_syncs: bool,
    /// Lock files.
    pub locks: bool,
    /// Set permission bits.
    pub modes: bool,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What was done to the bytes and not synced.
    changes: Vec<Change>,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
    locked_by: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    Nothing,
    Everything,
    Names,
    Bytes,
    Some,
}

impl Disk {
    /// An empty disk; its folder is not made yet.
    pub fn new(folder: &Path, dice: Dice) -> Disk {
        Disk {
            dice,
            folder: folder.to_path_buf(),
            has_folder: false,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renames: Vec::new(),
            open: HashMap::new(),
            ticks: 1,
            boot: 1,
            capacity: u64::MAX,
            thief: None,
            failing: 0,
            lacks: Lacks::default(),
            ends_after: None,
            has_ended: false,
            has_asked: false,
            has_read_early: false,
        }
    }

    /// Puts a file there, as another program would that syncs what it writes.
    pub fn put(&mut self, path: &Path, bytes: &[u8]) {
        self.has_folder = true;
        let inode = self.make(0o644);
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.bytes = bytes.to_vec();
            file.durable = bytes.to_vec();
        }
        self.durable_names.insert(path.to_path_buf(), inode);
        self.change_names(vec![(path.to_path_buf(), Some(inode))]);
    }

    /// What a path holds.
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        Some(&self.inodes.get(self.names.get(path)?)?.bytes)
    }

    /// What of the file at a path was synced.
    pub fn synced_content(&self, path: &Path) -> Option<&[u8]> {
        Some(&self.inodes.get(self.names.get(path)?)?.durable)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// Removes a name, as another program would.
    pub fn steal(&mut self, path: &Path) -> bool {
        let is_there = self.names.contains_key(path);
        if is_there {
            self.change_names(vec![(path.to_path_buf(), None)]);
        }
        is_there
    }

    /// Changes some bytes of a file, as another program would.
    pub fn scribble(&mut self, path: &Path) -> bool {
        let Some(inode) = self.names.get(path).copied() else { return false };
        let changed = self.tick();
        let Some(file) = self.inodes.get_mut(&inode).filter(|file| !file.bytes.is_empty()) else { return false };
        let at = self.dice.within(0..file.bytes.len() as u64) as usize;
        file.bytes[at] ^= 1;
        file.changes.push(Change::Write(at, vec![file.bytes[at]]));
        file.changed = changed;
        true
    }

    /// The program is gone: what it has open is closed, and its locks with it.
    pub fn end_program(&mut self) {
        self.open.clear();
        self.inodes.values_mut().for_each(|file| file.locked_by = None);
        self.has_ended = false;
        self.ends_after = None;
        self.has_asked = false;
        self.sweep();
    }

    /// The machine is gone, and has booted again.
    pub fn cut_power(&mut self, survives: Survives) {
        let names = self.names_after_power_cut(survives);
        for inode in names.values() {
            let bytes = self.bytes_after_power_cut(*inode, survives);
            if let Some(file) = self.inodes.get_mut(inode) {
                file.durable = bytes.clone();
                file.bytes = bytes;
                file.changes.clear();
            }
        }
        self.names = names.clone();
        self.durable_names = names;
        self.renames.clear();
        self.boot += 1;
        self.end_program();
    }

    /// What a path would hold after a power cut now.
    pub fn content_after_power_cut(&self, path: &Path, survives: Survives) -> Option<Vec<u8>> {
        let inode = *self.names_after_power_cut(survives).get(path)?;
        Some(self.bytes_after_power_cut(inode, survives))
    }

    fn names_after_power_cut(&self, survives: Survives) -> BTreeMap<PathBuf, u64> {
        let mut names = self.durable_names.clone();
        for step in &self.renames {
            let stays = match survives {
                Survives::Nothing | Survives::Bytes => false,
                Survives::Everything | Survives::Names => true,
                Survives::Some => self.dice.happens(2, 1),
            };
            if stays {
                apply(&mut names, step);
            }
        }
        names
    }

    fn bytes_after_power_cut(&self, inode: u64, survives: Survives) -> Vec<u8> {
        let Some(file) = self.inodes.get(&inode) else { return Vec::new() };
        let mut bytes = file.durable.clone();
        for change in &file.changes {
            match (survives, change) {
                (Survives::Nothing | Survives::Names, _) => {}
                (Survives::Everything | Survives::Bytes, change) => change.apply(&mut bytes),
                (Survives::Some, Change::Cut(len)) => {
                    if self.dice.happens(2, 1) {
                        Change::Cut(*len).apply(&mut bytes);
                    }
                }
                (Survives::Some, Change::Write(at, written)) => {
                    for (number, sector) in written.chunks(SECTOR).enumerate() {
                        if self.dice.happens(2, 1) {
                            Change::Write(at + number * SECTOR, sector.to_vec()).apply(&mut bytes);
                        }
                    }
                }
            }
        }
        bytes
    }

    fn tick(&mut self) -> (i64, i64) {
        self.ticks += 1;
        (self.ticks as i64, 0)
    }

    fn make(&mut self, mode: u32) -> u64 {
        let changed = self.tick();
        let inode = self.ticks;
        self.inodes.insert(inode, Inode { mode, modified: changed, changed, ..Inode::default() });
        inode
    }

    fn change_names(&mut self, step: Vec<(PathBuf, Option<u64>)>) {
        apply(&mut self.names, &step);
        self.renames.push(step);
        self.sweep();
    }

    /// Forgets files that have neither a name, nor could have one again, nor are open.
    fn sweep(&mut self) {
        let (names, durable, renames, open) = (&self.names, &self.durable_names, &self.renames, &self.open);
        self.inodes.retain(|inode, _| {
            names.values().any(|other| other == inode)
                || durable.values().any(|other| other == inode)
                || open.values().any(|other| other == inode)
                || renames.iter().flatten().any(|(_, other)| *other == Some(*inode))
        });
    }

    /// Every call begins here: the program may be ended by force, or the call may fail.
    fn call(&mut self, what: &str, failures: &[Errno]) -> Result<(), Errno> {
        if self.has_ended {
            return Err(Errno::IO);
        }
        self.dice.step(|| what.to_string());
        if let Some(left) = &mut self.ends_after {
            if *left == 0 {
                self.has_ended = true;
                return Err(Errno::IO);
            }
            *left -= 1;
        }
        if !failures.is_empty() && self.dice.happens(1000, self.failing) {
            let errno = *self.dice.pick(failures);
            self.dice.count("a call of the file system failed");
            self.dice.step(|| format!("{what} fails: {errno}"));
            return Err(errno);
        }
        Ok(())
    }

    /// What it says of something that it cannot do.
    fn lack(&self, what: &'static str, errors: &[Errno]) -> Errno {
        self.dice.count(what);
        *self.dice.pick(errors)
    }

    fn handle(&mut self, inode: u64) -> File {
        self.ticks += 1;
        self.open.insert(self.ticks, inode);
        File::Simulated(Handle(self.ticks))
    }

    fn file(&mut self, handle: &Handle) -> Result<&mut Inode, Errno> {
        let inode = self.open.get(&handle.0).ok_or(Errno::BADF)?;
        self.inodes.get_mut(inode).ok_or(Errno::BADF)
    }

    /// Closes what is open under a number.
    pub fn close(&mut self, handle: u64) {
        if let Some(inode) = self.open.remove(&handle)
            && let Some(file) = self.inodes.get_mut(&inode)
            && file.locked_by == Some(handle)
        {
            file.locked_by = None;
        }
        self.sweep();
    }

    pub fn open(&mut self, path: &Path, writes: bool, create_new: bool, mode: u32) -> io::Result<File> {
        let rare = [Errno::MFILE, Errno::IO, Errno::NOMEM, Errno::ACCESS, Errno::NOSPC];
        self.call(&format!("open {} (writes: {writes}, new: {create_new})", path.display()), &rare)?;
        let inode = match self.names.get(path).copied() {
            Some(_) if create_new => return Err(Errno::EXIST.into()),
            Some(inode) => inode,
            None if create_new && self.has_folder => {
                let inode = self.make(mode);
                self.change_names(vec![(path.to_path_buf(), Some(inode))]);
                inode
            }
            None => return Err(Errno::NOENT.into()),
        };
        Ok(self.handle(inode))
    }

    pub fn open_unnamed(&mut self, _: &Path, mode: u32) -> Result<File, Errno> {
        self.call("open without a name", &[Errno::OPNOTSUPP, Errno::MFILE, Errno::ACCESS])?;
        if !self.has_folder {
            return Err(Errno::NOENT);
        }
        let inode = self.make(mode);
        Ok(self.handle(inode))
    }

    pub fn stat(&mut self, path: &Path) -> io::Result<Stat> {
        self.call(&format!("stat {}", path.display()), &[Errno::IO])?;
        let inode = *self.names.get(path).ok_or(Errno::NOENT)?;
        Ok(self.stat_of(inode)?)
    }

    pub fn fstat(&mut self, handle: &Handle) -> io::Result<Stat> {
        self.call("fstat", &[Errno::IO])?;
        let inode = *self.open.get(&handle.0).ok_or(Errno::BADF)?;
        Ok(self.stat_of(inode)?)
    }

    fn stat_of(&self, inode: u64) -> Result<Stat, Errno> {
        let file = self.inodes.get(&inode).ok_or(Errno::NOENT)?;
        Ok(Stat {
            id: (1, inode),
            is_file: true,
            is_dir: false,
            len: file.bytes.len() as u64,
            allocated: file.bytes.len() as u64,
            mode: file.mode,
            links: self.names.values().filter(|other| **other == inode).count() as u64,
            owner: rustix::process::geteuid().as_raw(),
            modified: file.modified,
            changed: file.changed,
        })
    }

    pub fn read_at(&mut self, handle: &Handle, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call("read", &[Errno::IO, Errno::INTR])?;
        let inode = self.open.get(&handle.0);
        let is_part = |(path, other): (&PathBuf, &u64)| {
            Some(other) == inode && path.extension().is_some_and(|suffix| suffix == "xfer-part")
        };
        self.has_read_early |= !self.has_asked && self.names.iter().any(is_part);
        let dice = self.dice.clone();
        let file = self.file(handle)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| file.bytes.get(offset..)).unwrap_or_default();
        let mut n = rest.len().min(buffer.len());
        if n > 1 && dice.happens(8, 1) {
            n = dice.within(1..n as u64) as usize;
        }
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    pub fn write_at(&mut self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failure = self.call("write", &[Errno::IO, Errno::NOSPC, Errno::DQUOT]).err();
        // What could not be written whole is there in part, maybe.
        let most = if failure.is_some() { self.dice.within(0..bytes.len() as u64 + 1) as usize } else { bytes.len() };
        match (self.write(handle, &bytes[..most], offset), failure) {
            (Ok(n), None) if n == bytes.len() => Ok(()),
            (Ok(_), None) => Err(Errno::NOSPC.into()),
            (_, Some(errno)) | (Err(errno), None) => Err(errno.into()),
        }
    }

    pub fn write_past_cache(&mut self, handle: &Handle, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.call("write past the cache", &[Errno::IO, Errno::NOSPC, Errno::INTR, Errno::OPNOTSUPP])?;
        let short = if bytes.len() > 1 && self.dice.happens(8, 1) {
            self.dice.within(1..bytes.len() as u64) as usize
        } else {
            bytes.len()
        };
        match self.write(handle, &bytes[..short], offset)? {
            0 => Err(Errno::NOSPC),
            n => Ok(n),
        }
    }

    /// Somebody else may put another file in place of one of ours, or remove it.
    fn let_thief_in(&mut self) {
        match self.thief.take() {
            Some((path, 0)) if self.names.contains_key(&path) => {
                self.dice.count("somebody else took a name of ours");
                self.steal(&path);
                if self.dice.happens(2, 1) {
                    self.put(&path, b"another program's");
                }
            }
            Some((path, writes)) => self.thief = Some((path, writes.saturating_sub(1))),
            None => {}
        }
    }

    /// Writes as much of this as there is room for.
    fn write(&mut self, handle: &Handle, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        if self.has_ended {
            return Err(Errno::IO);
        }
        self.let_thief_in();
        let changed = self.tick();
        let free = self.free();
        let file = self.file(handle)?;
        let at = offset as usize;
        let room = usize::try_from(free).unwrap_or(usize::MAX).saturating_add(file.bytes.len().saturating_sub(at));
        let bytes = &bytes[..bytes.len().min(room)];
        if !bytes.is_empty() {
            let change = Change::Write(at, bytes.to_vec());
            change.apply(&mut file.bytes);
            file.changes.push(change);
            (file.modified, file.changed) = (changed, changed);
        }
        Ok(bytes.len())
    }

    pub fn set_len(&mut self, handle: &Handle, len: u64) -> io::Result<()> {
        self.call("cut", &[Errno::IO])?;
        let changed = self.tick();
        let file = self.file(handle)?;
        let change = Change::Cut(len as usize);
        change.apply(&mut file.bytes);
        file.changes.push(change);
        (file.modified, file.changed) = (changed, changed);
        Ok(())
    }

    /// A failure is told once: what was not written by then counts as written (fsync(2)), and is gone after a power cut.
    pub fn sync(&mut self, handle: &Handle) -> io::Result<()> {
        let failure = self.call("sync", &[Errno::IO, Errno::NOSPC]).err();
        let has_ended = self.has_ended;
        let file = self.file(handle)?;
        match failure {
            None => {
                for change in std::mem::take(&mut file.changes) {
                    change.apply(&mut file.durable);
                }
                Ok(())
            }
            Some(errno) => {
                if !has_ended {
                    file.changes.clear();
                }
                Err(errno.into())
            }
        }
    }

    pub fn set_mode(&mut self, handle: &Handle, mode: u32) -> io::Result<()> {
        self.call("set the mode", &[Errno::PERM, Errno::IO])?;
        if self.lacks.modes {
            return Err(self.lack("no permission bits", &[Errno::PERM, Errno::OPNOTSUPP]).into());
        }
        let changed = self.tick();
        let file = self.file(handle)?;
        (file.mode, file.changed) = (mode, changed);
        Ok(())
    }

    pub fn set_modified(&mut self, handle: &Handle, mtime: Mtime) -> Result<(), Errno> {
        self.call("set the time", &[Errno::PERM])?;
        let changed = self.tick();
        let file = self.file(handle)?;
        (file.modified, file.changed) = ((mtime.seconds, i64::from(mtime.nanos)), changed);
        Ok(())
    }

    pub fn lock(&mut self, handle: &Handle) -> Result<(), Errno> {
        self.call("lock", &[Errno::WOULDBLOCK, Errno::NOLCK])?;
        if self.lacks.locks {
            return Err(self.lack("no locks", &[Errno::NOLCK, Errno::NOSYS]));
        }
        let file = self.file(handle)?;
        if file.locked_by.is_some_and(|other| other != handle.0) {
            return Err(Errno::WOULDBLOCK);
        }
        file.locked_by = Some(handle.0);
        Ok(())
    }

    pub fn link(&mut self, handle: &Handle, path: &Path) -> Result<(), Errno> {
        self.call(&format!("link {}", path.display()), &[Errno::PERM, Errno::IO, Errno::NOSPC])?;
        if self.names.contains_key(path) {
            return Err(Errno::EXIST);
        }
        let inode = *self.open.get(&handle.0).ok_or(Errno::BADF)?;
        self.change_names(vec![(path.to_path_buf(), Some(inode))]);
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path, replaces: bool) -> Result<(), Errno> {
        self.call(
            &format!("rename {} to {}", from.display(), to.display()),
            &[Errno::IO, Errno::ACCESS, Errno::NOSPC],
        )?;
        if !replaces && self.names.contains_key(to) {
            return Err(Errno::EXIST);
        }
        let inode = *self.names.get(from).ok_or(Errno::NOENT)?;
        self.change_names(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(inode))]);
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.call(&format!("remove {}", path.display()), &[Errno::IO, Errno::ACCESS])?;
        if !self.steal(path) {
            return Err(Errno::NOENT.into());
        }
        Ok(())
    }

    pub fn make_folder(&mut self, _: &Path) -> io::Result<()> {
        self.call("make the directory", &[Errno::ACCESS, Errno::NOSPC])?;
        self.has_folder = true;
        Ok(())
    }

    pub fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.call("sync the directory", &[Errno::IO])?;
        if self.lacks.folder_syncs {
            return Err(self.lack("no syncs of directories", &[Errno::INVAL, Errno::ACCESS, Errno::OPNOTSUPP]).into());
        }
        if !self.has_folder || folder != self.folder {
            return Err(Errno::NOENT.into());
        }
        self.durable_names = self.names.clone();
        self.renames.clear();
        self.sweep();
        Ok(())
    }

    pub fn boot_id(&mut self) -> Vec<u8> {
        self.boot()
    }

    /// What the present boot of the machine is called.
    pub fn boot(&self) -> Vec<u8> {
        format!("boot {}", self.boot).into_bytes()
    }

    pub fn free_space(&mut self) -> Option<u64> {
        Some(self.free())
    }

    fn free(&self) -> u64 {
        let used: u64 = self.inodes.values().map(|file| file.bytes.len() as u64).sum();
        self.capacity.saturating_sub(used)
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, step: &[(PathBuf, Option<u64>)]) {
    for (path, inode) in step {
        match inode {
            Some(inode) => drop(names.insert(path.clone(), *inode)),
            None => drop(names.remove(path)),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Cut(len) => bytes.resize(*len, 0),
            Change::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
        }
    }
}
