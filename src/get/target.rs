//! Where a file's bytes go: a part file that becomes the target, or a stream that takes them as they come.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use super::Output;
use super::commits::{Committed, Folder};
use super::journal::{self, About, Found, Journal};
use super::part::{Attributes, Part, folder_of};
use super::receive::{Digested, Resumable, Sink};
use super::wait::{Stop, Waits};
use super::workers::Worker;
use crate::error::{Error, ExitCode, reason};
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::{Version, base_name};
use crate::text;

/// Smaller files stay in the page cache, where whoever fetched them will look next.
const PASSES_CACHE_FROM: u64 = 64 << 20;

/// Smaller files have no journal: they are sent again sooner than anybody types the command again.
const JOURNAL_FROM: u64 = 32 << 20;

/// Where one file goes.
pub enum Target {
    /// Under a name, once it is verified.
    File(Box<FileTarget>),
    /// To standard output, a pipe or a device.
    Stream(Box<StreamTarget>),
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

/// What a server offers: a file, from some byte on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Of what it is.
    pub about: About,
    /// Where the bytes that follow belong.
    pub offset: u64,
    /// What else a server of version 2 says; without it, nothing can be resumed.
    pub attributes: Option<Attributes>,
}

/// What is there of a file, and can be gone on with.
#[derive(Clone, Debug)]
pub struct Resume {
    /// Of which content it is.
    pub version: Version,
    /// Bytes in the whole file.
    pub size: u64,
    /// Bytes that are there.
    pub offset: u64,
    /// The digest of them or, until they have been read again, of fewer.
    pub digested: Digested,
}

/// All that receiving needs.
pub struct Ready {
    /// Where the bytes go.
    pub sink: Sink,
    /// What is there already.
    pub there: Digested,
    /// What is to be told how far the part is good.
    pub journal: Option<Arc<Journal>>,
}

/// A name in a folder.
pub struct FileTarget {
    path: PathBuf,
    /// Whether the folder is ours to make.
    makes_folder: bool,
    /// Locked, from the first look at it on.
    part: Option<Part>,
    /// What an earlier run says of the part, until this run goes on with it.
    found: Option<Found>,
    /// Of this run.
    journal: Option<Arc<Journal>>,
    resume: Option<Resume>,
    /// Whether the bytes in the part are of this run: until a server has proved those of an earlier run useless, they
    /// are not ours to remove.
    is_begun: bool,
    /// The digest of what is there already, once it has been compared: a later attempt need not hash it again.
    there: Option<(SystemTime, Digest)>,
}

/// Something that cannot take a byte back.
pub struct StreamTarget {
    file: Arc<File>,
    shown: String,
    /// Bytes it has taken. A later attempt goes on behind them.
    written: Arc<AtomicU64>,
    /// Of what they are: a later attempt must bring the same.
    promised: Option<About>,
    resume: Option<Resume>,
}

impl Target {
    /// Where the file of this name goes. Opening a pipe waits for its reader, so `worker` does it.
    pub fn new(output: &Output, name: &[u8], worker: &Worker, waits: &mut Waits) -> Result<Target, Stop> {
        match output {
            Output::Dir(dir) => {
                let path = dir.join(std::ffi::OsStr::from_bytes(base_name(name)));
                Ok(Target::File(Box::new(FileTarget::new(path, true))))
            }
            Output::Path(path) => match std::fs::metadata(path) {
                Ok(there) if there.is_dir() => {
                    let message = format!("{} is a directory; use -d to save into it", text::path(path));
                    Err(Stop::Final(Error::new(ExitCode::Usage, message)))
                }
                Ok(there) if !there.is_file() || is_magic(path) => stream(path, worker, waits),
                _ => Ok(Target::File(Box::new(FileTarget::new(path.clone(), false)))),
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
        Target::Stream(Box::new(StreamTarget { file: Arc::new(file), shown, written, promised: None, resume: None }))
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

    /// Bytes in the regular file that is there already.
    pub fn existing_size(&self) -> Option<u64> {
        let Target::File(target) = self else { return None };
        let there = std::fs::symlink_metadata(&target.path).ok()?;
        there.is_file().then_some(there.len())
    }

    /// A regular file of this size that is there already.
    pub fn existing(&self, size: u64, algorithm: Algorithm) -> There {
        let Target::File(target) = self else { return There::Nothing };
        if self.existing_size() != Some(size) {
            return There::Nothing;
        }
        match (target.there, target.modified()) {
            (Some((then, digest)), Some(now)) if then == now && digest.algorithm() == algorithm => {
                There::Hashed(digest)
            }
            _ => There::File(target.path.clone()),
        }
    }

    /// Remembers the digest of the file that is there already.
    pub fn hashed(&mut self, digest: Digest) {
        if let Target::File(target) = self {
            target.there = target.modified().map(|modified| (modified, digest));
        }
    }

    /// Whether there may be a part of an earlier run, or there is one of this one.
    pub fn has_part(&self) -> bool {
        match self {
            Target::File(target) => target.part.is_some() || Part::exists(&target.path),
            Target::Stream(_) => false,
        }
    }

    /// Takes what an earlier run has left of the file of this name, if there is anything. Returns the server that it came
    /// from, if it did: that one speaks version 2.
    pub fn find(&mut self, name: &[u8], algorithm: Algorithm) -> Result<Option<String>, Stop> {
        match self {
            Target::File(target) if target.part.is_none() => target.find(name, algorithm),
            _ => Ok(None),
        }
    }

    /// What can be gone on with.
    pub fn resume(&self) -> Option<&Resume> {
        match self {
            Target::File(target) => target.resume.as_ref(),
            Target::Stream(target) => target.resume.as_ref(),
        }
    }

    /// The file to digest what is there from.
    pub fn part_file(&self) -> Option<Arc<File>> {
        match self {
            Target::File(target) => target.part.as_ref().map(|part| Arc::clone(part.file())),
            Target::Stream(_) => None,
        }
    }

    /// Sets what can be gone on with: after a failed attempt, or since what is there has been read.
    pub fn set_resume(&mut self, resume: Option<Resume>) {
        match self {
            Target::File(target) => target.resume = resume,
            Target::Stream(target) => target.resume = resume,
        }
    }

    /// What an attempt leaves to go on with.
    pub fn keep(&mut self, offer: &Offer, resumable: Option<Resumable>) {
        // Version 1 cannot go on in the middle; a stream has to, and then gets all of it once more.
        let can_go_on = offer.attributes.is_some() || self.is_stream();
        let resume = resumable.filter(|resumable| can_go_on && resumable.offset > 0).map(|resumable| Resume {
            version: offer.about.version,
            size: offer.about.size,
            offset: resumable.offset,
            digested: resumable.digested.unwrap_or_else(|| Digested::nothing(offer.about.algorithm)),
        });
        self.set_resume(resume);
    }

    /// Gets ready for the bytes of a file, from the offer's offset on, which is 0 or where it can be gone on.
    pub fn begin(&mut self, offer: &Offer, sync: bool, worker: &Worker, waits: &mut Waits) -> Result<Ready, Stop> {
        match self {
            Target::File(target) => target.begin(offer, sync, worker, waits),
            Target::Stream(target) => target.begin(offer),
        }
    }

    /// Whether bytes that proved wrong can still be replaced.
    pub fn can_start_again(&self) -> bool {
        match self {
            Target::File(_) => true,
            Target::Stream(target) => target.written.load(Ordering::Acquire) == 0,
        }
    }

    /// What ends a file whose bytes are all written and verified; nothing, for a stream. From here on the part belongs
    /// to the job: whatever comes of it, it is not ours to remove.
    pub fn commit(
        &mut self,
        attributes: Option<Attributes>,
        sync: Option<Arc<Folder>>,
        replaces: bool,
    ) -> Option<impl FnOnce() -> Committed + Send + 'static> {
        let Target::File(target) = self else { return None };
        let journal = target.journal.take();
        let part = target.part.take()?;
        Some(move || {
            let result = part.commit(attributes, sync.as_deref(), replaces);
            if let (Ok(true), Some(journal)) = (&result, journal) {
                journal.remove_own();
            }
            result
        })
    }

    /// The folder that holds the target, as a path.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Target::File(target) => Some(folder_of(&target.path).to_path_buf()),
            Target::Stream(_) => None,
        }
    }

    /// Removes what an earlier run has left: the target is what the server has. What another client has locked stays.
    pub fn clean(&mut self) {
        let Target::File(target) = self else { return };
        if target.part.is_none() && Part::left(&target.path) {
            target.part = Part::open(&target.path).ok();
        }
        if let Some(part) = target.part.take() {
            part.discard();
        }
    }

    /// Leaves nothing unverified behind but what a later run can go on with; where that is, and how much of how much.
    pub fn abandon(&mut self) -> Option<(PathBuf, u64, u64)> {
        let Target::File(target) = self else { return None };
        let part = target.part.take()?;
        let has_journal = target.journal.is_some() || target.found.is_some();
        match &target.resume {
            Some(resume) if has_journal => Some((part.path().to_path_buf(), resume.offset, resume.size)),
            _ => {
                if target.is_begun {
                    part.discard();
                }
                None
            }
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
    fn new(path: PathBuf, makes_folder: bool) -> FileTarget {
        FileTarget {
            path,
            makes_folder,
            part: None,
            found: None,
            journal: None,
            resume: None,
            is_begun: false,
            there: None,
        }
    }

    fn modified(&self) -> Option<SystemTime> {
        std::fs::symlink_metadata(&self.path).and_then(|there| there.modified()).ok()
    }

    fn find(&mut self, name: &[u8], algorithm: Algorithm) -> Result<Option<String>, Stop> {
        let Some(part) = Part::open_existing(&self.path)? else { return Ok(None) };
        let found = Found::open(&part.journal_path());
        let len = part.len().unwrap_or(0);
        self.part = Some(part);
        let Some(found) = found.filter(|found| found.entry.about.name == name) else { return Ok(None) };
        let origin = found.entry.about.origin.clone();
        if (1..=len).contains(&found.entry.offset) {
            self.resume = Some(Resume {
                version: found.entry.about.version,
                size: found.entry.about.size,
                offset: found.entry.offset,
                digested: found.entry.digested(algorithm),
            });
            self.found = Some(found);
        }
        Ok(Some(origin))
    }

    fn begin(&mut self, offer: &Offer, sync: bool, worker: &Worker, waits: &mut Waits) -> Result<Ready, Stop> {
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
        self.is_begun |= part.is_new();
        let part = self.part.insert(part);
        // Before anything that is there is given up.
        let goes_on = offer.offset > 0 && self.resume.as_ref().is_some_and(|resume| resume.offset == offer.offset);
        let reused = if goes_on { offer.offset } else { part.allocated() };
        check_space(part, offer.about.size.saturating_sub(reused), offer.about.size, &shown)?;
        let there = match self.resume.take() {
            Some(resume) if goes_on => resume.digested,
            _ => {
                self.start_clean(sync, worker, waits)?;
                Digested::nothing(offer.about.algorithm)
            }
        };
        self.is_begun = true;
        let journal = self.journal(offer);
        // Put there above.
        let Some(part) = &self.part else { return Err(Stop::local(format!("the part of {shown} is gone"))) };
        let cut = part.truncate(there.offset);
        cut.map_err(|error| Stop::local(format!("cannot cut the part of {shown}: {}", reason(&error))))?;
        let passes_cache = Arc::new(AtomicBool::new(offer.about.size >= PASSES_CACHE_FROM));
        Ok(Ready { sink: Sink::File { file: Arc::clone(part.file()), passes_cache, shown }, there, journal })
    }

    /// Forgets what an earlier attempt or an earlier run says of the part, so that it is on the disk before the part
    /// holds anything else.
    fn start_clean(&mut self, sync: bool, worker: &Worker, waits: &mut Waits) -> Result<(), Stop> {
        let had_journal = self.journal.take().is_some() | self.found.take().is_some();
        let Some(part) = &self.part else { return Ok(()) };
        let path = part.journal_path();
        let cannot = |error| Stop::local(format!("cannot remove {}: {}", text::path(&path), reason(&error)));
        journal::remove(&path).map_err(cannot)?;
        if had_journal && sync {
            let folder = folder_of(&self.path).to_path_buf();
            let synced = worker.run(move || File::open(folder)?.sync_all()).wait(waits)?;
            synced.map_err(cannot)?;
        }
        Ok(())
    }

    /// The journal of a file that is large enough for one and can be resumed. Without one, a later run begins at the
    /// beginning; that is no reason to fail.
    fn journal(&mut self, offer: &Offer) -> Option<Arc<Journal>> {
        if offer.attributes.is_none() || offer.about.size < JOURNAL_FROM {
            return None;
        }
        if self.journal.is_none() {
            let path = self.part.as_ref()?.journal_path();
            let journal = match self.found.take() {
                Some(found) => Ok(found.resume(&path, offer.about.clone())),
                None => Journal::create(&path, offer.about.clone()),
            };
            match journal {
                Ok(journal) => self.journal = Some(Arc::new(journal)),
                Err(error) => log::warn!(target: "main", "no journal {}: {}", text::path(&path), reason(&error)),
            }
        }
        self.journal.clone()
    }
}

fn check_space(part: &Part, missing: u64, size: u64, shown: &str) -> Result<(), Stop> {
    match part.free_space() {
        Some(free) if free < missing => {
            let also = match missing < size {
                true => format!("{} more of {}", text::size(missing), text::size(size)),
                false => text::size(size),
            };
            Err(Stop::local(format!(
                "not enough space for {shown}: it needs {also}, and {} are free; make room, or save elsewhere with -d",
                text::size(free)
            )))
        }
        _ => Ok(()),
    }
}

impl StreamTarget {
    fn begin(&mut self, offer: &Offer) -> Result<Ready, Stop> {
        let written = self.written.load(Ordering::Acquire);
        let is_same = self.promised.as_ref().is_none_or(|promised| *promised == offer.about);
        // Version 1 sends all of it again, and what went out is left out.
        let goes_on = offer.attributes.is_none() || offer.offset == written;
        if written > 0 && !(is_same && goes_on) {
            let message =
                format!("the file changed on the server after {} went to {}", text::size(written), self.shown);
            return Err(Stop::Final(Error::new(ExitCode::Network, message)));
        }
        self.promised = Some(offer.about.clone());
        let there = match &self.resume {
            Some(resume) if offer.offset > 0 => resume.digested.clone(),
            _ => Digested::nothing(offer.about.algorithm),
        };
        let (file, written, shown) = (Arc::clone(&self.file), Arc::clone(&self.written), self.shown.clone());
        Ok(Ready { sink: Sink::Stream { file, written, shown }, there, journal: None })
    }
}
