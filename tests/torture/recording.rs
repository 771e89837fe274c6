//! What a client did to a folder, from strace's record of it: every write, sync, name and length, in order.

use std::collections::BTreeMap;
use std::path::Path;

/// The calls that are recorded.
pub const OPTIONS: &str = "-xx -s 1200 -e trace=openat,open,creat,pwrite64,pwritev,pwritev2,ftruncate,fallocate,\
                           fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,\
                           copy_file_range,close";

/// Of which file, by the order in which they were first opened; not by name, since names change.
pub type Inode = usize;

/// What can lie on the disk or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes of a file. Those of a long write are not in the record: they are the bytes of the body at the same place.
    Write { inode: Inode, offset: u64, len: u64, bytes: Option<Vec<u8>> },
    /// Its length.
    Cut { inode: Inode, len: u64 },
    /// A name gets a file, and another may lose it in the same step.
    Name { name: String, inode: Inode, from: Option<String> },
    /// A name goes.
    Unname { name: String },
}

/// Something that the client did, from the event in which it began to the one in which it ended.
#[derive(Clone, Debug)]
pub struct Step {
    pub began: usize,
    pub ended: usize,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Change(Change),
    /// What was changed of this file before it began is on the disk once it has ended.
    SyncFile(Inode),
    /// The same of the names.
    SyncFolder,
}

/// Reads a record of a client that fetched into `folder`, in which these names lay before.
pub fn read(record: &str, folder: &Path, before: &[String]) -> Vec<Step> {
    let mut reader = Reader {
        folder: folder.to_str().expect("a path in UTF-8").to_owned(),
        names: before.iter().enumerate().map(|(inode, name)| (name.clone(), inode)).collect(),
        inodes: before.len(),
        opened: BTreeMap::new(),
        steps: Vec::new(),
    };
    let mut unfinished: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (at, line) in record.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, (at, begun));
        } else if rest.starts_with("<... ") {
            let Some((began, begun)) = unfinished.remove(pid) else { continue };
            let Some((_, end)) = rest.split_once(" resumed>") else { continue };
            reader.take(began, at, &format!("{begun}{end}"));
        } else {
            reader.take(at, at, rest);
        }
    }
    // One that never ended may have happened.
    for (_, (began, begun)) in unfinished {
        reader.take(began, usize::MAX, &format!("{begun} = 0"));
    }
    reader.steps.sort_by_key(|step| step.ended);
    reader.steps
}

/// What a descriptor is of.
#[derive(Clone, Copy)]
enum Open {
    File(Inode),
    Folder,
}

struct Reader {
    folder: String,
    names: BTreeMap<String, Inode>,
    inodes: usize,
    opened: BTreeMap<String, Open>,
    steps: Vec<Step>,
}

impl Reader {
    /// A whole call: `name(arguments) = result`.
    fn take(&mut self, began: usize, ended: usize, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        let Some((arguments, _)) = arguments.rsplit_once(')') else { return };
        if result.starts_with('-') {
            return;
        }
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let paths: Vec<String> = arguments
            .iter()
            .filter_map(|argument| decoded(argument))
            .filter_map(|bytes| String::from_utf8(bytes).ok())
            .collect();
        let mut push = |what| self.steps.push(Step { began, ended, what });
        match name {
            "openat" | "open" | "creat" => self.open(began, ended, &arguments, &paths, result),
            "close" => _ = self.opened.remove(arguments[0]),
            "pwrite64" => {
                if let Some(Open::File(inode)) = self.opened.get(arguments[0]) {
                    let (offset, len) = (number(arguments[3]), number(result));
                    // strace ends a string that it does not show whole with dots.
                    let bytes = decoded(arguments[1]).filter(|bytes| bytes.len() as u64 == len);
                    push(What::Change(Change::Write { inode: *inode, offset, len, bytes }));
                }
            }
            "ftruncate" => {
                if let Some(Open::File(inode)) = self.opened.get(arguments[0]) {
                    push(What::Change(Change::Cut { inode: *inode, len: number(arguments[1]) }));
                }
            }
            "fsync" | "fdatasync" => match self.opened.get(arguments[0]) {
                Some(Open::File(inode)) => push(What::SyncFile(*inode)),
                Some(Open::Folder) => push(What::SyncFolder),
                None => {}
            },
            "rename" | "renameat" | "renameat2" => self.rename(began, ended, &paths),
            "linkat" => self.link(began, ended, &arguments, &paths),
            "unlink" | "unlinkat" => {
                if let Some(name) = paths.first().and_then(|path| self.name_in_folder(path)) {
                    self.names.remove(&name);
                    self.steps.push(Step { began, ended, what: What::Change(Change::Unname { name }) });
                }
            }
            // Others would have to be modelled first.
            other => {
                let of_ours = self.opened.contains_key(arguments[0]);
                // The second one takes blocks, and changes neither bytes nor length.
                let takes_blocks = other == "fallocate" && arguments.get(1) == Some(&"FALLOC_FL_KEEP_SIZE");
                let harmless = other == "sync_file_range" || takes_blocks;
                assert!(!of_ours || harmless, "{other} is a call that this recording does not know: {call}");
            }
        }
    }

    fn open(&mut self, began: usize, ended: usize, arguments: &[&str], paths: &[String], fd: &str) {
        let Some(path) = paths.first() else { return };
        let fd = fd.split(' ').next().unwrap_or_default().to_owned();
        let flags = arguments.iter().find(|argument| argument.starts_with("O_")).copied().unwrap_or_default();
        if *path == self.folder && flags.contains("O_TMPFILE") {
            self.opened.insert(fd, Open::File(self.inodes));
            self.inodes += 1;
        } else if *path == self.folder {
            self.opened.insert(fd, Open::Folder);
        } else if let Some(name) = self.name_in_folder(path) {
            let inode = match self.names.get(&name) {
                Some(inode) => *inode,
                None => {
                    let inode = self.inodes;
                    self.inodes += 1;
                    self.names.insert(name.clone(), inode);
                    let made = Change::Name { name, inode, from: None };
                    self.steps.push(Step { began, ended, what: What::Change(made) });
                    inode
                }
            };
            assert!(!flags.contains("O_TRUNC"), "a file of the directory is opened with O_TRUNC: {arguments:?}");
            self.opened.insert(fd, Open::File(inode));
        } else {
            self.opened.remove(&fd);
        }
    }

    fn rename(&mut self, began: usize, ended: usize, paths: &[String]) {
        let [from, to] = paths else { return };
        let (Some(from), Some(to)) = (self.name_in_folder(from), self.name_in_folder(to)) else { return };
        let inode = self.names.remove(&from).expect("what is renamed has been seen");
        self.names.insert(to.clone(), inode);
        let change = Change::Name { name: to, inode, from: Some(from) };
        self.steps.push(Step { began, ended, what: What::Change(change) });
    }

    /// By descriptor, or by its path beneath /proc.
    fn link(&mut self, began: usize, ended: usize, arguments: &[&str], paths: &[String]) {
        let Some(name) = paths.last().and_then(|path| self.name_in_folder(path)) else { return };
        let by_path = paths.first().and_then(|path| path.rsplit_once("/fd/")).map(|(_, fd)| fd.to_owned());
        let fd = by_path.unwrap_or_else(|| arguments[0].to_owned());
        let Some(Open::File(inode)) = self.opened.get(&fd).copied() else { panic!("a link of what? {arguments:?}") };
        self.names.insert(name.clone(), inode);
        let change = Change::Name { name, inode, from: None };
        self.steps.push(Step { began, ended, what: What::Change(change) });
    }

    fn name_in_folder(&self, path: &str) -> Option<String> {
        let name = path.strip_prefix(&self.folder)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    }
}

/// The bytes of a string as strace shows it with -xx: `"\x61\x62"`. None for what is none, or not shown whole.
fn decoded(argument: &str) -> Option<Vec<u8>> {
    let text = argument.strip_prefix('"')?.strip_suffix('"')?;
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}

fn number(text: &str) -> u64 {
    let digits = text.split(' ').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no number in the record: {text:?}"))
}
