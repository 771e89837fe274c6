//! A file system in memory, one flat folder, that refuses what a test wants refused, or has files of untrue sizes: by FUSE,
//! spoken here in as few words as the kernel needs (linux/fuse.h, version 7.31). It asks for root and /dev/fuse.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::scratch::Scratch;

/// Bytes of a write at most, and of a request with it.
const WRITE_MAX: u32 = 128 * 1024;
const REQUEST_MAX: usize = 256 * 1024;

const ROOT: u64 = 1;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// Locks are asked of us (FUSE_FLOCK_LOCKS); otherwise the kernel has its own.
const FLOCK_LOCKS: u32 = 1 << 10;

/// What can be refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    SyncFile,
    SyncFolder,
    Lock,
    SetMode,
    SetTime,
    SetLen,
    Link,
    Rename,
    ExclusiveRename,
}

/// In what it differs from a file system that can do all.
#[derive(Clone)]
pub struct Quirks {
    pub refused: Vec<(Call, Errno)>,
    /// Bytes of a name at most; 0: it tells no number.
    pub name_max: u32,
    /// Blocks of 4096 bytes in all, as it tells; 0: it tells none.
    pub blocks: u64,
    /// Whether it has no room for another file, as it tells.
    pub has_no_inodes: bool,
    /// Whose all files are.
    pub owner: u32,
    /// Whether only the first sync of a file is refused.
    pub is_sync_refused_once: bool,
    /// Whether each look finds another inode number.
    pub makes_up_inodes: bool,
    /// Files that are there from the beginning: name, the size that each is said to have, and the bytes that it has.
    pub files: Vec<(&'static str, u64, u64)>,
    /// Seconds for which the kernel may remember what a file is.
    pub remembered: u64,
    /// Whether the kernel passes each read on, also behind the size (FOPEN_DIRECT_IO).
    pub is_direct: bool,
    /// How long each read takes, of 128 KiB at most.
    pub read_time: Duration,
}

impl Quirks {
    pub fn none() -> Quirks {
        let owner = rustix::process::geteuid().as_raw();
        Quirks {
            refused: Vec::new(),
            name_max: 255,
            blocks: 1 << 20,
            has_no_inodes: false,
            owner,
            is_sync_refused_once: false,
            makes_up_inodes: false,
            files: Vec::new(),
            remembered: 0,
            is_direct: true,
            read_time: Duration::ZERO,
        }
    }

    pub fn refusing(call: Call, errno: Errno) -> Quirks {
        Quirks { refused: vec![(call, errno)], ..Quirks::none() }
    }
}

/// A mounted one; unmounted on drop.
pub struct Fuse {
    folder: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts one as this folder; says so and does nothing where that cannot be.
    pub fn mount(scratch: &Scratch, name: &str, quirks: Quirks) -> Option<Fuse> {
        let folder = scratch.path(name);
        fs::create_dir_all(&folder).unwrap();
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => return skip(&error.to_string()),
        };
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let data = CString::new(data).unwrap();
        if let Err(error) = mount("xfer-test", &folder, "fuse", MountFlags::NOSUID | MountFlags::NODEV, &*data) {
            return skip(&error.to_string());
        }
        let server = std::thread::spawn(move || State::new(quirks).serve(device));
        Some(Fuse { folder, server: Some(server) })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn skip<T>(why: &str) -> Option<T> {
    println!("skipped: no file system can be mounted here with FUSE: {why}");
    None
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Also while something is open in it. The server then ends with the last of that, at the latest with the process.
        let is_unmounted = unmount(&self.folder, UnmountFlags::DETACH).is_ok();
        if let (true, false, Some(server)) = (is_unmounted, std::thread::panicking(), self.server.take()) {
            let _ = server.join();
        }
    }
}

#[derive(Default)]
struct Node {
    bytes: Vec<u8>,
    /// The size that it is said to have, if that is not true.
    said: Option<u64>,
    mode: u32,
    modified: (u64, u32),
}

struct State {
    quirks: Quirks,
    nodes: HashMap<u64, Node>,
    names: BTreeMap<Vec<u8>, u64>,
    /// Nodes and made-up inode numbers are counted by it.
    count: u64,
}

type Reply = Result<Vec<u8>, Errno>;

impl State {
    fn new(quirks: Quirks) -> State {
        let mut state = State { nodes: HashMap::new(), names: BTreeMap::new(), count: ROOT, quirks };
        for (name, said, held) in state.quirks.files.clone() {
            let node = state.next();
            // Of a time that is long past.
            let file = Node {
                bytes: vec![b'x'; held as usize],
                said: Some(said),
                mode: S_IFREG | 0o644,
                modified: (1_000_000_000, 0),
            };
            state.nodes.insert(node, file);
            state.names.insert(name.as_bytes().to_vec(), node);
        }
        state
    }

    fn serve(mut self, mut device: File) {
        let mut request = vec![0; REQUEST_MAX];
        loop {
            let len = match device.read(&mut request) {
                Ok(len) => len,
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INTR | Errno::NOENT)) => continue,
                // Unmounted.
                Err(_) => return,
            };
            let (head, body) = request[..len].split_at(40);
            let (call, unique, node) = (u32_at(head, 4), u64_at(head, 8), u64_at(head, 16));
            // Forgotten nodes and interrupts want no reply.
            if matches!(call, 2 | 36 | 42) {
                continue;
            }
            let (error, reply) = match self.answer(call, node, body) {
                Ok(reply) => (0, reply),
                Err(errno) => (-errno.raw_os_error(), Vec::new()),
            };
            let mut out = (16 + reply.len() as u32).to_ne_bytes().to_vec();
            out.extend(error.to_ne_bytes());
            out.extend(unique.to_ne_bytes());
            out.extend(reply);
            // Whoever asked may be gone.
            let _ = device.write(&out);
        }
    }

    fn refuses(&self, call: Call) -> Result<(), Errno> {
        let refused = self.quirks.refused.iter().find(|(refused, _)| *refused == call);
        refused.map_or(Ok(()), |(_, errno)| Err(*errno))
    }

    fn answer(&mut self, call: u32, node: u64, body: &[u8]) -> Reply {
        match call {
            1 => self.look_up(name_in(body)),
            3 => self.attributes(node).map(|attr| self.with_validity(&attr)),
            4 => self.set_attributes(node, body),
            10 => self.names.remove(name_in(body)).map(|_| Vec::new()).ok_or(Errno::NOENT),
            12 => self.rename(&body[8..]),
            13 => self.link(u64_at(body, 0), name_in(&body[8..])),
            14 | 27 => Ok(self.opened()),
            15 => Ok(self.read(node, u64_at(body, 8), u32_at(body, 16))),
            16 => self.write(node, u64_at(body, 8), &body[40..]),
            17 => Ok(self.statfs()),
            18 | 25 | 29 => Ok(Vec::new()),
            20 => self.sync(),
            26 => Ok(self.init()),
            28 => Ok(self.list(u64_at(body, 8))),
            30 => self.refuses(Call::SyncFolder).map(|()| Vec::new()),
            32 | 33 => self.refuses(Call::Lock).map(|()| Vec::new()),
            35 => self.create(u32_at(body, 4), name_in(&body[16..])),
            45 => self.refuses(Call::ExclusiveRename).and_then(|()| self.exclusive_rename(&body[16..])),
            _ => Err(Errno::NOSYS),
        }
    }

    fn sync(&mut self) -> Reply {
        let refused = self.refuses(Call::SyncFile);
        if self.quirks.is_sync_refused_once {
            self.quirks.refused.retain(|(call, _)| *call != Call::SyncFile);
        }
        refused.map(|()| Vec::new())
    }

    fn init(&self) -> Vec<u8> {
        let flags = if self.refuses(Call::Lock).is_err() { FLOCK_LOCKS } else { 0 };
        let mut out = words(&[7, 31, 0, flags, 0, WRITE_MAX, 1]);
        out.resize(64, 0);
        out
    }

    fn statfs(&self) -> Vec<u8> {
        let blocks = self.quirks.blocks;
        let inodes = if self.quirks.has_no_inodes { 1000 } else { 0 };
        let mut out: Vec<u8> =
            [blocks, blocks, blocks, inodes, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        out.extend(words(&[4096, self.quirks.name_max, 4096]));
        out.resize(80, 0);
        out
    }

    fn check_name(&self, name: &[u8]) -> Result<(), Errno> {
        match self.quirks.name_max as usize {
            max @ 1.. if name.len() > max => Err(Errno::NAMETOOLONG),
            _ => Ok(()),
        }
    }

    fn look_up(&mut self, name: &[u8]) -> Reply {
        self.check_name(name)?;
        let node = *self.names.get(name).ok_or(Errno::NOENT)?;
        self.entry(node)
    }

    fn entry(&mut self, node: u64) -> Reply {
        let valid = self.quirks.remembered;
        let mut out: Vec<u8> = [node, 0, valid, valid, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        out.extend(self.attributes(node)?);
        Ok(out)
    }

    fn attributes(&mut self, node: u64) -> Reply {
        let inode = if self.quirks.makes_up_inodes && node != ROOT { self.next() + 1_000_000 } else { node };
        let folder = Node { mode: S_IFDIR | 0o777, ..Node::default() };
        let file = if node == ROOT { &folder } else { self.nodes.get(&node).ok_or(Errno::NOENT)? };
        let links = self.names.values().filter(|other| **other == node).count() as u32;
        let (size, (seconds, nanos)) = (file.said.unwrap_or(file.bytes.len() as u64), file.modified);
        let numbers = [inode, size, size.div_ceil(512), seconds, seconds, seconds];
        let mut out: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        out.extend(words(&[nanos, nanos, nanos, file.mode, links, self.quirks.owner, 0, 0, 4096, 0]));
        Ok(out)
    }

    fn set_attributes(&mut self, node: u64, body: &[u8]) -> Reply {
        let valid = u32_at(body, 0);
        let has = |bit: u32| valid & bit != 0;
        if has(1) {
            self.refuses(Call::SetMode)?;
        }
        if has(8) {
            self.refuses(Call::SetLen)?;
        }
        if has(32) {
            self.refuses(Call::SetTime)?;
        }
        if let Some(file) = self.nodes.get_mut(&node) {
            if has(1) {
                file.mode = u32_at(body, 68);
            }
            if has(8) {
                file.bytes.resize(u64_at(body, 16) as usize, 0);
            }
            if has(32) {
                file.modified = (u64_at(body, 40), u32_at(body, 60));
            }
        }
        self.attributes(node).map(|attr| self.with_validity(&attr))
    }

    /// Attributes, and how long the kernel may remember them.
    fn with_validity(&self, attributes: &[u8]) -> Vec<u8> {
        [&self.quirks.remembered.to_ne_bytes(), &[0; 8], attributes].concat()
    }

    /// A file or the folder, opened: without a handle.
    fn opened(&self) -> Vec<u8> {
        words(&[0, 0, u32::from(self.quirks.is_direct), 0])
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn create(&mut self, mode: u32, name: &[u8]) -> Reply {
        self.check_name(name)?;
        self.refuses(Call::Create)?;
        if self.names.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let node = self.next();
        self.nodes.insert(node, Node { mode: S_IFREG | mode & 0o7777, ..Node::default() });
        self.names.insert(name.to_vec(), node);
        Ok([self.entry(node)?, self.opened()].concat())
    }

    fn read(&self, node: u64, offset: u64, len: u32) -> Vec<u8> {
        std::thread::sleep(self.quirks.read_time);
        let bytes = self.nodes.get(&node).map_or(&[][..], |file| &file.bytes);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        rest[..rest.len().min(len as usize)].to_vec()
    }

    fn write(&mut self, node: u64, offset: u64, bytes: &[u8]) -> Reply {
        self.refuses(Call::Write)?;
        let file = self.nodes.get_mut(&node).ok_or(Errno::NOENT)?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[start..end].copy_from_slice(bytes);
        Ok(words(&[bytes.len() as u32, 0]))
    }

    fn rename(&mut self, names: &[u8]) -> Reply {
        self.refuses(Call::Rename)?;
        let (from, to) = two_names(names);
        self.check_name(to)?;
        let node = self.names.remove(from).ok_or(Errno::NOENT)?;
        self.names.insert(to.to_vec(), node);
        Ok(Vec::new())
    }

    fn exclusive_rename(&mut self, names: &[u8]) -> Reply {
        match self.names.contains_key(two_names(names).1) {
            true => Err(Errno::EXIST),
            false => self.rename(names),
        }
    }

    fn link(&mut self, node: u64, name: &[u8]) -> Reply {
        self.refuses(Call::Link)?;
        self.names.insert(name.to_vec(), node);
        self.entry(node)
    }

    /// All at once: tests have few files.
    fn list(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, (name, node)) in self.names.iter().enumerate().skip(offset as usize) {
            out.extend(node.to_ne_bytes());
            out.extend((at as u64 + 1).to_ne_bytes());
            out.extend(words(&[name.len() as u32, 8]));
            out.extend(name);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn name_in(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap()
}

fn two_names(bytes: &[u8]) -> (&[u8], &[u8]) {
    let from = name_in(bytes);
    (from, name_in(&bytes[from.len() + 1..]))
}
