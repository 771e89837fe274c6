//! The files that are served: made once, when a row first asks for them, and old enough for every cache.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use xfer::proto::digest::{Algorithm, Digest, Hasher};

use super::scratch::Scratch;
use super::trouble::{Doing, Trouble, ensure};

/// The server caches no digest of a file that was changed less than 2 s before it was hashed.
pub const SETTLED: Duration = Duration::from_secs(3);

/// Bytes of a small file.
const SMALL: u64 = 4096;

/// The folder of the small ones.
pub const SMALL_FOLDER: &str = "small";

/// Bytes made or read at a time.
const BLOCK: usize = 1 << 20;

pub struct Files {
    dir: PathBuf,
    made: RefCell<HashMap<String, Source>>,
}

/// A file that is served.
#[derive(Clone)]
pub struct Source {
    /// As a client asks for it.
    pub name: String,
    pub path: PathBuf,
    pub md5: Digest,
}

impl Files {
    pub fn new(scratch: &Scratch) -> Files {
        Files { dir: scratch.files(), made: RefCell::default() }
    }

    /// Files of bytes that look random, made unless they are there.
    pub fn random(&self, names: impl IntoIterator<Item = String>, size: u64) -> Result<Vec<Source>, Trouble> {
        let mut made = self.made.borrow_mut();
        let before = made.len();
        let mut sources = Vec::new();
        for name in names {
            if !made.contains_key(&name) {
                let path = self.dir.join(&name);
                let md5 = write_random(&path, size).doing(format_args!("cannot make {}", path.display()))?;
                made.insert(name.clone(), Source { name: name.clone(), path, md5 });
            }
            sources.push(made[&name].clone());
        }
        if made.len() > before {
            std::thread::sleep(SETTLED);
        }
        Ok(sources)
    }

    /// So many small files in [`SMALL_FOLDER`].
    pub fn small(&self, count: usize) -> Result<Vec<Source>, Trouble> {
        self.random((0..count).map(|number| format!("{SMALL_FOLDER}/{number:05}.bin")), SMALL)
    }
}

impl Source {
    /// Fails unless this file holds the same bytes.
    pub fn check_copy(&self, copy: &Path) -> Result<(), Trouble> {
        let md5 = md5(copy).doing(format_args!("cannot read {}", copy.display()))?;
        ensure(md5 == self.md5, || format!("{} is not what was served", copy.display()))
    }

    pub fn open(&self) -> Result<File, Trouble> {
        File::open(&self.path).doing(format_args!("cannot open {}", self.path.display()))
    }
}

/// Takes a file's clean pages out of memory.
pub fn evict(file: &File) -> Result<(), Trouble> {
    let to_the_end: Option<NonZeroU64> = None;
    fadvise(file, 0, to_the_end, Advice::DontNeed).doing("cannot take a file out of memory")
}

fn md5(path: &Path) -> std::io::Result<Digest> {
    let (mut file, mut hasher, mut block) = (File::open(path)?, Hasher::new(Algorithm::Md5), vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&block[..count]),
        }
    }
}

/// The same bytes in every run, and none that a file system could make smaller.
fn write_random(path: &Path, size: u64) -> std::io::Result<Digest> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let (mut file, mut hasher) = (File::create(path)?, Hasher::new(Algorithm::Md5));
    let name = path.file_name().unwrap_or_default();
    let mut random = blake3::Hasher::new().update(name.as_encoded_bytes()).finalize_xof();
    let mut block = vec![0; BLOCK];
    let mut left = size;
    while left > 0 {
        let some = &mut block[..left.min(BLOCK as u64) as usize];
        random.fill(some);
        file.write_all(some)?;
        hasher.update(some);
        left -= some.len() as u64;
    }
    Ok(hasher.finish())
}
