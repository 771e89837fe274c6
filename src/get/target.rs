//! Where a file's bytes go: a part file that becomes the target, or a stream that takes them as they come.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Output;
use super::beside::{Begun, Beside, Kept, Left, Look, Restart};
use super::commits::{Committed, Folder};
use super::disk::{self, Time};
use super::flow::Digested;
use super::held::HELD_MAX;
use super::journal::Journal;
use super::obstacle::{kept_size, permanent_obstacle, why};
use super::part::{Attributes, Part};
use super::receive::{Start, Stopped};
use super::saved::Saved;
use super::scale::scaled;
use super::sink::Sink;
use super::slot::About;
use super::wait::{Stop, Waits};
use super::workers::Worker;
use crate::error::{Error, ExitCode, reason};
use crate::folder::folder_of;
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::{Version, base_name};
use crate::{strangers, text};

/// Smaller files stay in the page cache, where whoever fetched them will look next.
const PASSES_CACHE_FROM: u64 = scaled(64 << 20);

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

/// What is there of a file, and can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Of which content it is.
    pub version: Version,
    /// Bytes in the whole file.
    pub size: u64,
    /// Bytes that are there.
    pub offset: u64,
}

/// All that receiving needs.
pub struct Ready {
    /// Where the bytes go.
    pub sink: Sink,
    /// What is there already.
    pub start: Start,
    /// What is to be told how far the part is good.
    pub journal: Option<Arc<Journal>>,
}

/// A name in a folder.
pub struct FileTarget {
    path: PathBuf,
    /// Whether the folder is ours to make.
    makes_folder: bool,
    beside: Beside,
    /// The digest of what is there already, once it has been compared: a later attempt need not hash it again.
    there: Option<(Time, Digest)>,
}

/// Something that cannot take a byte back.
pub struct StreamTarget {
    file: Arc<File>,
    shown: String,
    /// Bytes it has taken. A later attempt goes on behind them.
    written: Arc<AtomicU64>,
    /// Of what they are: a later attempt must bring the same.
    promised: Option<About>,
    /// What version 2 can resume, and the digest of it.
    resume: Option<(Resume, Digested)>,
    /// What version 1 has brought, all of it written, and has to bring again.
    brought: Option<Digested>,
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
        let file = Arc::new(file);
        Target::Stream(Box::new(StreamTarget { file, shown, written, promised: None, resume: None, brought: None }))
    }

    /// The target as lines for a person name it.
    pub fn shown(&self) -> String {
        match self {
            Target::File(target) => text::path(&target.path),
            Target::Stream(target) => target.shown.clone(),
        }
    }

    /// The path of the file, unless bytes go out as they come.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Target::File(target) => Some(&target.path),
            Target::Stream(_) => None,
        }
    }

    /// Whether bytes go out as they come.
    pub fn is_stream(&self) -> bool {
        matches!(self, Target::Stream(_))
    }

    /// Bytes in the file under the name that `--no-clobber` keeps, if there is one; fails where something else is there.
    pub fn kept_size(&self) -> Result<Option<u64>, Stop> {
        match self {
            Target::File(target) => kept_size(&target.path).map_err(Stop::local),
            Target::Stream(_) => Ok(None),
        }
    }

    /// Bytes in the regular file that is there already.
    pub fn existing_size(&self) -> Option<u64> {
        let Target::File(target) = self else { return None };
        let there = disk::stat(&target.path).ok()?;
        there.is_file.then_some(there.len)
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

    /// Whether something lies there that an earlier run may have left, and nobody has looked at it.
    pub fn has_unseen_part(&self) -> bool {
        match self {
            Target::File(target) => matches!(target.beside, Beside::Unseen) && Part::exists(&target.path),
            Target::Stream(_) => false,
        }
    }

    /// Whether it is a name beside which nothing of this run or an earlier one has been found.
    pub fn is_untouched(&self) -> bool {
        matches!(self, Target::File(target) if matches!(target.beside, Beside::Unseen))
    }

    /// Takes what an earlier run has left of the file of this name, if there is anything.
    pub fn find(&mut self, name: &[u8]) -> Result<Look, Stop> {
        match self {
            Target::File(target) => target.beside.find(&target.path, name),
            Target::Stream(_) => Ok(Look::default()),
        }
    }

    /// What can be resumed.
    pub fn resume(&self) -> Option<&Resume> {
        match self {
            Target::File(target) => target.beside.resume(),
            Target::Stream(target) => target.resume.as_ref().map(|(resume, _)| resume),
        }
    }

    /// What version 1 has brought of a stream, and has to bring again.
    pub fn brought(&self) -> Option<&Digested> {
        match self {
            Target::File(_) => None,
            Target::Stream(target) => target.brought.as_ref(),
        }
    }

    /// Resumes nothing of what an earlier run has left.
    pub fn forget(&mut self) {
        if let Target::File(target) = self {
            target.beside.forget();
        }
    }

    /// What an attempt leaves to be resumed.
    pub fn keep(&mut self, offer: &Offer, stopped: Stopped) {
        let About { version, size, .. } = offer.about;
        match (self, stopped) {
            (Target::File(target), Stopped::Good(resumable)) if resumable.offset > 0 && offer.attributes.is_some() => {
                let resume = Resume { version, size, offset: resumable.offset };
                target.beside.keep(Kept::Good(resume, Box::new(Restart::behind(*resumable))));
            }
            (Target::File(target), Stopped::Unknown) => target.beside.keep(Kept::Unknown),
            (Target::File(target), Stopped::InDoubt(check)) => target.beside.go_back(offer, check),
            (Target::File(target), Stopped::Good(_) | Stopped::Useless) => target.beside.keep(Kept::Worthless),
            (Target::Stream(target), Stopped::Good(resumable)) => {
                let (offset, digested) = (resumable.offset, resumable.digested);
                match offer.attributes {
                    Some(_) => {
                        target.resume = (offset > 0).then_some((Resume { version, size, offset }, digested));
                    }
                    // An attempt may bring less than one before it, of which all has gone out.
                    None => {
                        let before = target.brought.as_ref().map_or(0, |brought| brought.offset);
                        if offset > before {
                            target.brought = Some(digested);
                        }
                    }
                }
            }
            (Target::Stream(_), _) => {}
        }
    }

    /// Gives up what came: it proved wrong.
    pub fn spoil(&mut self) {
        match self {
            Target::File(target) => target.beside.keep(Kept::Worthless),
            Target::Stream(target) => target.resume = None,
        }
    }

    /// Gets ready for the bytes of a file, from the offer's offset on, which is 0 or where it can be gone on.
    pub fn begin(&mut self, offer: &Offer, worker: &Worker, waits: &mut Waits) -> Result<Ready, Stop> {
        match self {
            Target::File(target) => target.begin(offer, worker, waits),
            Target::Stream(target) => target.begin(offer),
        }
    }

    /// Gets ready for the bytes of a small file, all of which are here and verified.
    pub fn begin_small(&mut self, offer: &Offer, worker: &Worker, waits: &mut Waits) -> Result<Sink, Stop> {
        if let Target::File(target) = self
            && let Some(file) = target.beside.begin_unnamed(&target.path)
        {
            return Ok(target.sink(file, offer));
        }
        // It is here: nobody will resume it.
        let offer = Offer { attributes: None, ..offer.clone() };
        self.begin(&offer, worker, waits).map(|ready| ready.sink)
    }

    /// Whether bytes that proved wrong can still be replaced.
    pub fn can_start_again(&self) -> bool {
        match self {
            Target::File(_) => true,
            Target::Stream(target) => target.written.load(Ordering::Acquire) == 0,
        }
    }

    /// What ends a file whose bytes are all written and verified; nothing, for a stream.
    pub fn commit(
        &mut self,
        attributes: Option<Attributes>,
        sync: Option<Arc<Folder>>,
        replaces: bool,
    ) -> Option<impl FnOnce() -> Committed + Send + 'static> {
        match self {
            Target::File(target) => target.beside.commit(attributes, sync, replaces),
            Target::Stream(_) => None,
        }
    }

    /// What brings to the disk a file that is there already, if it is so new that it may not be there: a run that was
    /// ended behind the renaming may have made it. What lies beside it goes when that is done.
    pub fn sync(&mut self, folder: Arc<Folder>) -> Option<impl FnOnce() -> Committed + Send + 'static> {
        let Target::File(target) = self else { return None };
        let path = target.path.clone();
        if !disk::may_be_unsynced(&disk::stat(&path).ok()?) {
            return None;
        }
        let mut beside = std::mem::replace(&mut target.beside, Beside::Unseen);
        Some(move || {
            let synced = disk::open_to_read(&path).and_then(|file| file.sync_all()).and_then(|()| folder.sync());
            match synced {
                Ok(_) => {
                    beside.clean(&path);
                    Ok(Saved::UpToDate)
                }
                Err(error) => Err(format!("cannot sync {}: {}", text::path(&path), why(&error, &path))),
            }
        })
    }

    /// The folder that holds the target, as a path.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Target::File(target) => Some(folder_of(&target.path).to_path_buf()),
            Target::Stream(_) => None,
        }
    }

    /// Removes what an earlier run has left: the target is what the server has.
    pub fn clean(&mut self) {
        if let Target::File(target) = self {
            target.beside.clean(&target.path);
        }
    }

    /// Leaves nothing unverified behind but what a later run can go on with.
    pub fn abandon(&mut self) -> Option<Left> {
        match self {
            Target::File(target) => target.beside.abandon(),
            Target::Stream(_) => None,
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
    let failed = |why: String| Stop::local(format!("cannot write to {shown}: {why}"));
    let distrusted = |error: io::Error| match error.get_ref() {
        Some(why) => failed(format!("{why}; use another path")),
        None => failed(reason(&error)),
    };
    let folder = strangers::follow(path).map_err(distrusted)?;
    let owned = path.to_path_buf();
    // Appending: a file behind `/dev/stdout` may hold what others have written.
    let opened = worker.run(move || OpenOptions::new().append(true).open(owned)).wait(waits)?;
    let file = opened.map_err(|error| failed(reason(&error)))?;
    // Somebody may have put it there meanwhile.
    if let (Some(folder), Ok(there)) = (folder, file.metadata()) {
        folder.check(&there).map_err(distrusted)?;
    }
    Ok(Target::stream_to(file, shown))
}

impl FileTarget {
    fn new(path: PathBuf, makes_folder: bool) -> FileTarget {
        FileTarget { path, makes_folder, beside: Beside::Unseen, there: None }
    }

    fn modified(&self) -> Option<Time> {
        disk::stat(&self.path).ok().map(|there| there.modified)
    }

    fn begin(&mut self, offer: &Offer, worker: &Worker, waits: &mut Waits) -> Result<Ready, Stop> {
        let mut begun = None;
        if offer.about.size > HELD_MAX as u64 {
            // It would come in vain; of a small file, the rename says the same.
            if let Some(why) = permanent_obstacle(&self.path) {
                return Err(Stop::local(why));
            }
        } else {
            // Most often the folder is there, and what else may be wrong comes up again.
            begun = self.beside.begin(&self.path, offer, worker, waits).ok();
        }
        let Begun { file, start, journal } = match begun {
            Some(begun) => begun,
            None => {
                self.make_folder()?;
                self.beside.begin(&self.path, offer, worker, waits)?
            }
        };
        Ok(Ready { sink: self.sink(file, offer), start, journal })
    }

    fn sink(&self, file: Arc<disk::File>, offer: &Offer) -> Sink {
        let passes_cache = Arc::new(AtomicBool::new(offer.about.size >= PASSES_CACHE_FROM));
        Sink::File { file, passes_cache, path: self.path.clone() }
    }

    fn make_folder(&self) -> Result<(), Stop> {
        if !self.makes_folder {
            return Ok(());
        }
        let folder = folder_of(&self.path);
        disk::make_folder(folder).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    String::from("it exists and is not a directory; save elsewhere with -d")
                }
                _ => why(&error, folder),
            };
            Stop::local(format!("cannot create the directory {}: {why}", text::path(folder)))
        })
    }
}

impl StreamTarget {
    fn begin(&mut self, offer: &Offer) -> Result<Ready, Stop> {
        let written = self.written.load(Ordering::Acquire);
        let is_same = self.promised.as_ref().is_none_or(|promised| *promised == offer.about);
        // Version 1 sends all of it again, and what went out is left out.
        let goes_on = offer.attributes.is_none() || offer.offset == written;
        if written > 0 && !(is_same && goes_on) {
            let message = format!(
                "the file changed on the server after {} were written to {}; discard them, and run the command again",
                text::size(written),
                self.shown
            );
            return Err(Stop::Final(Error::new(ExitCode::Network, message)));
        }
        self.promised = Some(offer.about.clone());
        let there = match &self.resume {
            Some((_, digested)) if offer.offset > 0 => digested.clone(),
            _ => Digested::nothing(offer.about.algorithm),
        };
        let (file, written, shown) = (Arc::clone(&self.file), Arc::clone(&self.written), self.shown.clone());
        Ok(Ready { sink: Sink::Stream { file, written, shown }, start: Start::behind(there), journal: None })
    }
}
