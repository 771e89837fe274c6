//! The files of a simulated run: all contents that each name ever had, changes at every moment, and a disk that fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::file::{ServedFile, Source, Stamp};
use crate::proto::digest::{Algorithm, Digest, Hasher};
use crate::proto::{Mtime, Version};
use crate::root::{Directory, Found, Refusal};
use crate::simulation::Dice;

/// Sizes around which something in the server changes: a page, what is gathered, a stride, a chunk that is hashed, a
/// window, and some of them.
const BORDERS: [u64; 9] = [0, 4096, 16_384, 32_768, 65_536, 131_072, 262_144, 393_216, 1 << 20];

/// Bytes in a file at most.
const SIZE_MAX: u64 = (1 << 20) + 1;

/// How far contents are shifted against each other at most.
const SHIFTS: u64 = 60_000;

/// Random bytes, of which every content is a part: so a byte of another version, or from another place, does not fit.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..SIZE_MAX + SHIFTS).map(|_| rng.u8(..)).collect()
});

/// How long a file is kept open for the next request, as the real directory does.
const KEPT_TIME: Duration = Duration::from_secs(5);

/// One content of a file.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    shift: u64,
    /// Bytes in it.
    pub size: u64,
    mtime: Mtime,
    /// Bytes that can be read, where that is not the size: the file system makes that up, and there is no digest of it.
    pub holds: Option<u64>,
}

impl Content {
    /// What the wire calls it.
    pub fn version(&self) -> Version {
        Version::of(self.size, self.mtime)
    }

    /// Its bytes from an offset on, which is at most its size.
    pub fn bytes(&self, offset: u64) -> &'static [u8] {
        &BYTES[(self.shift + offset) as usize..(self.shift + self.size) as usize]
    }

    /// Where reading ends.
    fn end(&self) -> u64 {
        self.holds.unwrap_or(self.size)
    }

    /// The same as [`Content::bytes`], and what is behind its size.
    fn from(&self, offset: u64) -> &'static [u8] {
        &BYTES[(self.shift + offset) as usize..]
    }
}

/// What is wrong with a part of the disk for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    /// A plain read is an error.
    Fails,
    /// A plain read finds the bytes, and nothing is ever in memory.
    BringsNothing,
}

#[derive(Debug)]
struct Inode {
    name: usize,
    now: Content,
    /// Whether its file system cannot tell what is in memory.
    is_plain: bool,
    /// Whether it refuses sendfile.
    is_copied: bool,
    /// How many looks of ten find nothing in memory.
    cold: u32,
    /// Between which bytes the disk is dead.
    dead: Option<(Range<u64>, Dead)>,
}

/// What is remembered of a name.
#[derive(Debug, Default)]
pub struct Name {
    inode: Option<usize>,
    /// Every content that it ever had.
    pub contents: Vec<Content>,
    /// Whether a file that it led to was ever written to.
    pub was_changed: bool,
    /// Whether it was ever missing.
    pub was_missing: bool,
    /// Whether a read of it ever failed, or ended elsewhere than at its size.
    pub has_failed: bool,
    /// Whether a look-up of it was ever refused for lack of descriptors.
    pub was_busy: bool,
}

/// All files.
#[derive(Debug)]
pub struct Disk {
    chance: Dice,
    inodes: Vec<Inode>,
    names: Vec<Name>,
    /// Whether nothing ever fails or changes in this run.
    pub is_calm: bool,
    /// Whether what is read now is for a transport.
    pub is_sending: bool,
    mtimes: i64,
    digests: HashMap<(Version, bool), Digest>,
}

impl Disk {
    /// A handful of files.
    pub fn new(chance: &Dice) -> Disk {
        let (is_calm, count) = chance.with(|chance| (chance.happens(4, 1), chance.within(1..6)));
        let chance = chance.clone();
        let (inodes, names, digests) = (Vec::new(), Vec::new(), HashMap::new());
        let mut disk = Disk { chance, inodes, names, is_calm, is_sending: false, mtimes: 0, digests };
        for name in 0..count as usize {
            disk.names.push(Name::default());
            disk.create(name);
        }
        // A name that leads nowhere yet.
        disk.names.push(Name { was_missing: true, ..Name::default() });
        disk
    }

    /// A name's number, if it is one.
    pub fn number(name: &[u8]) -> Option<usize> {
        str::from_utf8(name).ok()?.strip_prefix("dir/file-")?.parse().ok()
    }

    /// How many names there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// What is remembered of a name.
    pub fn name(&self, number: usize) -> Option<&Name> {
        self.names.get(number)
    }

    /// The digest of a content.
    pub fn digest(&mut self, content: &Content, algorithm: Algorithm) -> Digest {
        let key = (content.version(), algorithm == Algorithm::Md5);
        *self.digests.entry(key).or_insert_with(|| {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(content.bytes(0));
            hasher.finish()
        })
    }

    fn any_size(&mut self) -> u64 {
        self.chance.with(|chance| match chance.within(0..20) {
            0..9 => chance.within(0..300),
            9..14 => chance.within(0..20_000),
            14..19 => (chance.pick(&BORDERS[..7]) + chance.within(0..3)).saturating_sub(1),
            _ => (chance.pick(&BORDERS) + chance.within(0..3)).saturating_sub(1),
        })
    }

    fn any_content(&mut self) -> Content {
        let size = self.any_size();
        let shift = self.chance.with(|chance| chance.within(0..SHIFTS));
        Content { shift, size, mtime: self.next_mtime(), holds: None }
    }

    /// Never the same twice. Some are so late that the file counts as just changed.
    fn next_mtime(&mut self) -> Mtime {
        self.mtimes += 1;
        let seconds = if self.chance.happens(4, 1) { 4_000_000_000 } else { 1_000_000_000 };
        Mtime { seconds: seconds + self.mtimes, nanos: 5 }
    }

    /// A new file under this name; who has the old one open keeps it.
    fn create(&mut self, name: usize) {
        let mut now = self.any_content();
        now.holds = self.untrue_end(now.size);
        let (is_plain, is_copied) = (self.chance.happens(6, 1), self.chance.happens(6, 1));
        let cold = if self.chance.happens(3, 1) { self.chance.with(|chance| chance.within(1..8)) as u32 } else { 0 };
        self.inodes.push(Inode { name, now, is_plain, is_copied, cold, dead: None });
        let entry = &mut self.names[name];
        entry.has_failed |= now.holds.is_some();
        entry.inode = Some(self.inodes.len() - 1);
        entry.contents.push(now);
    }

    /// Where a new file ends that has not the bytes of its size, as few have.
    fn untrue_end(&mut self, size: u64) -> Option<u64> {
        if self.is_calm || !self.chance.fault("file of another length than its size", 12, 1) {
            return None;
        }
        let most = (size + 5000).min(SIZE_MAX);
        let end = self.chance.with(|chance| match chance.within(0..3) {
            0 => chance.within(0..size.min(300) + 1),
            1 => chance.within(0..most),
            _ => chance.within(size..most + 1),
        });
        Some(end).filter(|end| *end != size)
    }

    /// Something happens to a file.
    pub fn change(&mut self) {
        if self.is_calm {
            return;
        }
        let name = self.chance.with(|chance| chance.within(0..self.names.len() as u64)) as usize;
        match (self.names[name].inode, self.chance.with(|chance| chance.within(0..8))) {
            (None, _) => self.create(name),
            (Some(_), 0) => {
                self.chance.count("file vanished");
                self.names[name].inode = None;
                self.names[name].was_missing = true;
            }
            (Some(_), 1) => {
                self.chance.count("file replaced");
                self.create(name);
            }
            (Some(inode), 2) => {
                let how = if self.chance.happens(2, 1) { Dead::Fails } else { Dead::BringsNothing };
                let size = self.inodes[inode].now.size;
                let from = if self.chance.happens(2, 1) { 0 } else { self.chance.with(|c| c.within(0..size + 1)) };
                self.chance.count(if how == Dead::Fails { "disk dead" } else { "disk that brings nothing" });
                let until = if self.chance.happens(2, 1) { from.saturating_add(4096) } else { u64::MAX };
                self.inodes[inode].dead = Some((from..until, how));
                self.names[name].has_failed = true;
            }
            (Some(inode), 3) => {
                self.inodes[inode].dead = None;
                self.inodes[inode].cold = 0;
            }
            (Some(inode), _) => self.write_to(inode),
        }
    }

    fn write_to(&mut self, inode: usize) {
        let before = Content { holds: None, ..self.inodes[inode].now };
        let now = match self.chance.with(|chance| chance.within(0..3)) {
            0 => {
                self.chance.count("file shrunk");
                let size = self.chance.with(|chance| chance.within(0..before.size + 1));
                Content { size, mtime: self.next_mtime(), ..before }
            }
            1 => {
                self.chance.count("file grown");
                let size = (before.size + self.chance.with(|chance| chance.within(1..5000))).min(SIZE_MAX);
                Content { size, mtime: self.next_mtime(), ..before }
            }
            _ => {
                self.chance.count("file rewritten");
                let other = self.any_content();
                let size = if self.chance.happens(2, 1) { before.size } else { other.size };
                Content { size, ..other }
            }
        };
        self.inodes[inode].now = now;
        let name = &mut self.names[self.inodes[inode].name];
        name.was_changed = true;
        // Of a file that was replaced nobody can ask any more.
        name.contents.push(now);
    }

    /// Now and then something happens in the middle of a turn.
    fn may_change(&mut self, inode: usize) {
        if !self.is_calm && self.chance.happens(150, 1) {
            self.write_to(inode);
        }
    }

    /// Whether a read fails once. Behind the size none does: there it is only looked for bytes that should not be there.
    fn fails(&mut self, inode: usize, kind: &'static str, offset: u64) -> bool {
        let fails = !self.is_calm && offset < self.inodes[inode].now.size && self.chance.fault(kind, 300, 1);
        self.names[self.inodes[inode].name].has_failed |= fails;
        fails
    }

    fn copy(&mut self, inode: usize, buffer: &mut [u8], offset: u64, end: u64) -> usize {
        let content = self.inodes[inode].now;
        let left = end.min(content.end()).saturating_sub(offset);
        let mut len = buffer.len().min(left as usize);
        if len > 1 && self.chance.happens(6, 1) {
            len = 1 + self.chance.with(|chance| chance.len(len - 1));
        }
        if len > 0 {
            buffer[..len].copy_from_slice(&content.from(offset)[..len]);
        }
        len
    }

    fn read_cached(&mut self, inode: usize, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.may_change(inode);
        let file = &self.inodes[inode];
        let (cold, dead) = (file.cold, file.dead.as_ref().map(|(range, _)| range.clone()));
        if file.is_plain {
            self.chance.count("file system that cannot tell what is in memory");
            return Err(Errno::OPNOTSUPP);
        }
        let kind = if buffer.len() == 1 { "read error in a probe" } else { "read error in memory" };
        if self.fails(inode, kind, offset) {
            return Err(Errno::IO);
        }
        if offset >= self.inodes[inode].now.size.min(self.inodes[inode].now.end()) {
            return Ok(self.copy(inode, buffer, offset, u64::MAX));
        }
        if dead.as_ref().is_some_and(|dead| dead.contains(&offset)) {
            self.chance.count("look at a dead disk");
            return Err(Errno::AGAIN);
        }
        if self.chance.fault("page not in memory", 10, cold) {
            return Err(Errno::AGAIN);
        }
        let end = dead.map(|dead| dead.start).filter(|start| *start > offset);
        let len = self.copy(inode, buffer, offset, end.unwrap_or(u64::MAX));
        self.may_change(inode);
        Ok(len)
    }

    fn read(&mut self, inode: usize, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.may_change(inode);
        if self.is_sending && self.inodes[inode].is_copied {
            self.chance.count("file system that refuses sendfile");
            return Err(Errno::INVAL);
        }
        let kind = if self.is_sending { "read error in sendfile" } else { "read error in a plain read" };
        let dead = match &self.inodes[inode].dead {
            Some((range, Dead::Fails)) => Some(range.clone()),
            _ => None,
        };
        let is_dead = dead.as_ref().is_some_and(|dead| dead.contains(&offset)) && offset < self.inodes[inode].now.size;
        if is_dead || self.fails(inode, kind, offset) {
            return Err(Errno::IO);
        }
        let end = dead.map(|dead| dead.start).filter(|start| *start > offset);
        let len = self.copy(inode, buffer, offset, end.unwrap_or(u64::MAX));
        self.may_change(inode);
        Ok(len)
    }

    fn stamp(&mut self, inode: usize) -> Stamp {
        self.may_change(inode);
        let Content { size, mtime, .. } = self.inodes[inode].now;
        Stamp { device: 1, inode: inode as u64, size, mtime, ctime: mtime }
    }
}

/// An open file.
#[derive(Debug)]
struct Open {
    disk: Rc<RefCell<Disk>>,
    inode: usize,
}

impl AsFd for Open {
    /// Nothing that is simulated looks at it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}

impl Source for Open {
    fn stamp(&self) -> Result<Stamp, Errno> {
        Ok(self.disk.borrow_mut().stamp(self.inode))
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.disk.borrow_mut().read_cached(self.inode, buffer, offset)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.disk.borrow_mut().read(self.inode, buffer, offset)
    }

    fn ask_for(&self, _: u64, _: u64) {}
}

/// The directory that they are in: one open file for each content, shared by all who ask for it, and kept for a while.
pub struct Folder {
    disk: Rc<RefCell<Disk>>,
    open: HashMap<Stamp, Weak<ServedFile>>,
    kept: Vec<(Instant, Rc<ServedFile>)>,
    counter: Rc<()>,
}

impl Folder {
    /// That of a disk.
    pub fn new(disk: &Rc<RefCell<Disk>>) -> Folder {
        Folder { disk: Rc::clone(disk), open: HashMap::new(), kept: Vec::new(), counter: Rc::new(()) }
    }

    /// Closes what was kept for long enough.
    pub fn close_old(&mut self, now: Instant) {
        self.kept.retain(|(until, _)| *until > now);
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        Rc::strong_count(&self.counter) - 1
    }
}

impl Directory for Folder {
    fn file(&mut self, name: &[u8], now: Instant) -> Result<Found, Refusal> {
        let mut disk = self.disk.borrow_mut();
        let missing = || Refusal::NotFound(String::from("no such file"));
        let number = Disk::number(name).filter(|number| *number < disk.count()).ok_or_else(missing)?;
        if !disk.is_calm && disk.chance.fault("look-up without a descriptor", 20, 1) {
            disk.names[number].was_busy = true;
            return Err(Refusal::Busy(io::Error::from(Errno::MFILE)));
        }
        let inode = disk.names[number].inode.ok_or_else(missing)?;
        let stamp = disk.stamp(inode);
        drop(disk);
        let known = self.open.get(&stamp).and_then(Weak::upgrade);
        let file = known.unwrap_or_else(|| {
            let source = Box::new(Open { disk: Rc::clone(&self.disk), inode });
            Rc::new(ServedFile::new(source, stamp, 0o644, &self.counter))
        });
        self.open.insert(stamp, Rc::downgrade(&file));
        self.kept.push((now + KEPT_TIME, Rc::clone(&file)));
        Ok(Found { name: name.into(), file })
    }
}
