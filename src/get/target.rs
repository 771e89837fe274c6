//! Where a file's bytes go: a part file that becomes the target, or a stream that takes them as they come.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Output;
use super::part::{Part, folder_of};
use super::receive::Sink;
use super::wait::{Stop, Waits};
use super::workers::Worker;
use crate::error::{Error, ExitCode, reason};
use crate::proto::base_name;
use crate::proto::digest::Digest;
use crate::proto::v1::Metadata;
use crate::text;

/// How long a signal lets a file that is whole and verified become the target: it may be done in a moment.
const COMMIT_GRACE: Duration = Duration::from_millis(300);

/// Smaller files stay in the page cache, where whoever fetched them will look next.
const PASSES_CACHE_FROM: u64 = 64 << 20;

/// Where one file goes.
pub enum Target {
    /// Under a name, once it is verified.
    File(FileTarget),
    /// To standard output, a pipe or a device.
    Stream(StreamTarget),
}

/// What may make fetching unnecessary.
pub enum There {
    /// There is no such file.
    Nothing,
    /// There is one, and this is its path.
    File(PathBuf),
    /// There is one with this digest.
    Hashed(Digest),
}

/// A name in a folder.
pub struct FileTarget {
    path: PathBuf,
    /// Whether the folder is ours to make.
    makes_folder: bool,
    /// From the first metadata on, until the end.
    part: Option<Part>,
    /// The digest of what is there already, once it has been compared: a later attempt need not hash it again.
    there: Option<(SystemTime, Digest)>,
}

/// Something that cannot take a byte back.
pub struct StreamTarget {
    file: Arc<File>,
    shown: String,
    /// Bytes it has taken. A later attempt goes on behind them.
    written: Arc<AtomicU64>,
    /// What the first attempt began to write: a later one must bring the same.
    promised: Option<Metadata>,
    /// How many bytes earlier attempts have brought, all of them written, and their digest.
    brought: Option<(u64, Digest)>,
}

impl Target {
    /// Where the file of this name goes. Opening a pipe waits for its reader, so `worker` does it.
    pub fn new(output: &Output, name: &[u8], worker: &Worker, waits: &mut Waits) -> Result<Target, Stop> {
        match output {
            Output::Dir(dir) => {
                let path = dir.join(std::ffi::OsStr::from_bytes(base_name(name)));
                Ok(Target::File(FileTarget { path, makes_folder: true, part: None, there: None }))
            }
            Output::Path(path) => match std::fs::metadata(path) {
                Ok(there) if there.is_dir() => {
                    let message = format!("{} is a directory; use -d to save into it", text::path(path));
                    Err(Stop::Final(Error::new(ExitCode::Usage, message)))
                }
                Ok(there) if !there.is_file() || is_magic(path) => stream(path, worker, waits),
                _ => Ok(Target::File(FileTarget { path: path.clone(), makes_folder: false, part: None, there: None })),
            },
            Output::Stdout => {
                let stdout = rustix::io::dup(rustix::stdio::stdout()).map(File::from);
                let stdout = stdout.map_err(|error| {
                    Stop::local(format!("cannot write to standard output: {}", reason(&error.into())))
                })?;
                Ok(Target::stream_to(stdout, "standard output".to_string()))
            }
        }
    }

    fn stream_to(file: File, shown: String) -> Target {
        let written = Arc::new(AtomicU64::new(0));
        Target::Stream(StreamTarget { file: Arc::new(file), shown, written, promised: None, brought: None })
    }

    /// The target as lines for a person name it.
    pub fn shown(&self) -> String {
        match self {
            Target::File(target) => text::path(&target.path),
            Target::Stream(target) => target.shown.clone(),
        }
    }

    /// Whether bytes go out as they come.
    pub fn is_stream(&self) -> bool {
        matches!(self, Target::Stream(_))
    }

    /// Whether there is something under the name.
    pub fn exists(&self) -> bool {
        match self {
            Target::File(target) => std::fs::symlink_metadata(&target.path).is_ok(),
            Target::Stream(_) => false,
        }
    }

    /// A regular file of this size that is there already.
    pub fn existing(&self, size: u64) -> There {
        let Target::File(target) = self else { return There::Nothing };
        let Ok(there) = std::fs::symlink_metadata(&target.path) else { return There::Nothing };
        if !there.is_file() || there.len() != size {
            return There::Nothing;
        }
        match (target.there, there.modified()) {
            (Some((then, digest)), Ok(now)) if then == now => There::Hashed(digest),
            _ => There::File(target.path.clone()),
        }
    }

    /// Remembers the digest of the file that is there already.
    pub fn hashed(&mut self, digest: Digest) {
        if let Target::File(target) = self {
            let modified = std::fs::symlink_metadata(&target.path).and_then(|there| there.modified());
            target.there = modified.ok().map(|modified| (modified, digest));
        }
    }

    /// Gets ready for the bytes of a file, from the first one on.
    pub fn begin(&mut self, metadata: &Metadata) -> Result<Sink, Stop> {
        match self {
            Target::File(target) => target.begin(metadata.size),
            Target::Stream(target) => target.begin(metadata),
        }
    }

    /// How many bytes earlier attempts have written for good, and the digest that these bytes must have again.
    pub fn brought(&self) -> Option<(u64, Digest)> {
        match self {
            Target::File(_) => None,
            Target::Stream(target) => target.brought,
        }
    }

    /// Remembers what an attempt has brought and written before it failed.
    pub fn bring(&mut self, bytes: u64, digest: Digest) {
        if let Target::Stream(target) = self
            && target.brought.is_none_or(|(before, _)| bytes > before)
        {
            target.brought = Some((bytes, digest));
        }
    }

    /// Whether bytes that proved wrong can still be replaced.
    pub fn can_start_again(&self) -> bool {
        match self {
            Target::File(_) => true,
            Target::Stream(target) => target.written.load(Ordering::Acquire) == 0,
        }
    }

    /// Ends a file whose bytes are all written and verified. `false`: something has appeared under the name meanwhile,
    /// which is not to be replaced.
    pub fn commit(&mut self, sync: bool, replaces: bool, worker: &Worker, waits: &mut Waits) -> Result<bool, Stop> {
        let Target::File(FileTarget { part, .. }) = self else { return Ok(true) };
        // `begin` has put it there. From here on it is the worker's: whatever comes of it, it is not ours to remove.
        let Some(part) = part.take() else { return Ok(true) };
        worker.run(part.commit(sync, replaces)).wait_through_signal(waits, COMMIT_GRACE)?.map_err(Stop::local)
    }

    /// Leaves nothing unverified behind.
    pub fn discard(&mut self) {
        if let Target::File(FileTarget { part, .. }) = self
            && let Some(part) = part.take()
        {
            part.discard();
        }
    }
}

/// Whether a path goes through a magic link, as `/dev/stdout` does: behind it is an open file and not a name.
fn is_magic(path: &Path) -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let found = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    matches!(found, Err(rustix::io::Errno::LOOP))
}

/// A pipe, a device or a terminal, opened for writing.
fn stream(path: &Path, worker: &Worker, waits: &mut Waits) -> Result<Target, Stop> {
    let shown = text::path(path);
    let owned = path.to_path_buf();
    // Appending: a file behind `/dev/stdout` may hold what others have written.
    let opened = worker.run(move || OpenOptions::new().append(true).open(owned)).wait(waits)?;
    let file = opened.map_err(|error| Stop::local(format!("cannot write to {shown}: {}", reason(&error))))?;
    Ok(Target::stream_to(file, shown))
}

impl FileTarget {
    fn begin(&mut self, size: u64) -> Result<Sink, Stop> {
        let shown = text::path(&self.path);
        if std::fs::symlink_metadata(&self.path).is_ok_and(|there| there.is_dir()) {
            return Err(Stop::local(format!("cannot save {shown}: it is a directory; use -o or -d")));
        }
        if self.makes_folder {
            let folder = folder_of(&self.path);
            std::fs::create_dir_all(folder).map_err(|error| {
                Stop::local(format!("cannot make the folder {}: {}", text::path(folder), reason(&error)))
            })?;
        }
        let part = match self.part.take() {
            Some(part) => part,
            None => Part::open(&self.path)?,
        };
        // Whatever an earlier attempt or an earlier run has left in it.
        let part = self.part.insert(part);
        part.clear().map_err(|error| Stop::local(format!("cannot empty the part of {shown}: {}", reason(&error))))?;
        if let Some(free) = part.free_space()
            && free < size
        {
            return Err(Stop::local(format!(
                "not enough space for {shown}: it needs {}, and {} are free; make room, or save elsewhere with -d",
                text::size(size),
                text::size(free)
            )));
        }
        let passes_cache = Arc::new(AtomicBool::new(size >= PASSES_CACHE_FROM));
        Ok(Sink::File { file: Arc::clone(part.file()), passes_cache, shown })
    }
}

impl StreamTarget {
    fn begin(&mut self, metadata: &Metadata) -> Result<Sink, Stop> {
        let written = self.written.load(Ordering::Acquire);
        if written > 0 && self.promised.as_ref().is_some_and(|promised| promised != metadata) {
            let message =
                format!("the file changed on the server after {} went to {}", text::size(written), self.shown);
            return Err(Stop::Final(Error::new(ExitCode::Network, message)));
        }
        self.promised = Some(metadata.clone());
        Ok(Sink::Stream { file: Arc::clone(&self.file), written: Arc::clone(&self.written), shown: self.shown.clone() })
    }
}
