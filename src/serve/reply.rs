//! The answer to a request: which file, what of it, and the digest that verifies it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Brings};
use super::conn::Context;
use super::digests::{Asked, Failure, Trust};
use super::header::{Header, Pieces};
use super::reason::Reason;
use crate::file::ServedFile;
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::{Request, Version, Wanted, v2};
use crate::root::Found;

/// How old a kept digest may be for version 1, which has no way to ask for a new one: a store through a mapping
/// changes a file and none of its time stamps.
const V1_DIGEST_AGE: Duration = Duration::from_secs(600);

/// How often a client that waits for a digest or for the disk hears of it.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// An answer on its way to a client.
pub struct Reply {
    /// The file, open as long as anything of it is wanted.
    pub file: Rc<ServedFile>,
    /// As it was asked for.
    pub name: Rc<[u8]>,
    /// When that was.
    pub asked: Instant,
    /// What of the file.
    pub brings: Brings,
    /// What verifies it.
    pub digest: Awaited,
    /// When the next WAIT is due, while there is something to wait for.
    wait_at: Option<Instant>,
    /// The highest number that a WAIT has said.
    waited: u64,
}

impl Reply {
    /// Bytes of the file that it brings.
    pub fn bytes(&self) -> u64 {
        self.brings.bytes(self.file.stamp.size)
    }
}

/// A digest, as a connection has it.
pub enum Awaited {
    /// Not known yet, or of no use to anybody.
    Pending,
    /// Here it is.
    Known(Digest),
    /// There will be none.
    Failed(Failure),
}

impl Reply {
    /// What it answers, for the log.
    pub fn answer(&self, has_line: bool) -> Answer {
        let (name, size) = (Rc::clone(&self.name), self.file.stamp.size);
        Answer { name, size, brings: self.brings, asked: self.asked, has_line }
    }

    fn new(found: Found, brings: Brings, digest: Awaited, now: Instant) -> Reply {
        Reply { file: found.file, name: found.name, asked: now, brings, digest, wait_at: None, waited: 0 }
    }

    /// Says WAIT if it is time for it, and when the next one is due (xfer-protocol(5), VERSION 2, WAIT).
    ///
    /// While the disk is waited for, each says more than all before it. That keeps the client patient for as long as we
    /// are; it would give up on a disk that spins up. A job that queues is no reason for patience.
    pub fn wait(&mut self, for_disk: bool, cx: &mut Context<'_>) -> Instant {
        let due = *self.wait_at.get_or_insert(cx.now + WAIT_PAUSE);
        if cx.now < due {
            return due;
        }
        let job = cx.digests.progress(cx.me);
        let hashed = job.map_or(0, |job| job.hashed);
        let done = match for_disk || job.is_some_and(|job| job.waits_for_disk) {
            true => hashed.max(self.waited + 1),
            false => hashed,
        };
        self.waited = self.waited.max(done);
        v2::encode_wait(done, self.file.stamp.size.max(done), cx.gathered);
        let due = cx.now + WAIT_PAUSE;
        self.wait_at = Some(due);
        due
    }

    /// What was waited for is there.
    pub fn end_wait(&mut self) {
        self.wait_at = None;
    }
}

/// Begins a reply of version 1, whose digest goes out before the file.
pub fn begin_v1(_: Request<'_>, found: Found, cx: &mut Context<'_>) -> (Reply, Header) {
    let mut pieces = Pieces::new(&found.name, found.file.stamp.size, cx.now);
    let digest = ask(&found.file, Algorithm::Md5, Trust::Kept(Some(V1_DIGEST_AGE)), cx);
    if let Awaited::Known(digest) = &digest {
        pieces.push_digest(digest);
    }
    (Reply::new(found, Brings::Bytes { from: 0 }, digest, cx.now), Header::V1(pieces))
}

/// Begins a reply of version 2; the digest is made while the file is sent.
pub fn begin_v2(request: Request<'_>, found: Found, cx: &mut Context<'_>) -> (Reply, Header) {
    let file = &found.file;
    let (size, version) = (file.stamp.size, file.version());
    let brings = match request.wanted {
        Wanted::Bytes { offset, version: theirs } => {
            let goes_on = theirs == version && theirs != Version::UNKNOWN && offset <= size;
            Brings::Bytes { from: if goes_on { offset } else { 0 } }
        }
        Wanted::Digest { size: theirs } if theirs == size => Brings::Digest,
        Wanted::Digest { .. } => Brings::Size,
    };
    let offset = match brings {
        Brings::Bytes { from } => from,
        Brings::Digest => size,
        Brings::Size => 0,
    };
    let sizes_differ = matches!(brings, Brings::Size);
    let digest = match sizes_differ {
        true => Awaited::Pending,
        false => ask(file, request.algorithm, if request.rehash { Trust::Fresh } else { Trust::Kept(None) }, cx),
    };
    let known = if let Awaited::Known(digest) = &digest { Some(*digest) } else { None };
    let header = Header::V2(v2::File {
        size,
        offset,
        mtime: file.stamp.mtime,
        mode: file.mode,
        version,
        algorithm: request.algorithm,
        sizes_differ,
        digest: known,
    });
    (Reply::new(found, brings, digest, cx.now), header)
}

/// Asks for the digest of a file; what it costs on the spot counts for the turn.
fn ask(file: &Rc<ServedFile>, algorithm: Algorithm, trust: Trust, cx: &mut Context<'_>) -> Awaited {
    let asked = Asked { file, algorithm, trust, waiter: cx.me, source: cx.source };
    match cx.digests.request(&asked, cx.now, &mut cx.budget) {
        Some(Ok(digest)) => Awaited::Known(digest),
        Some(Err(failure)) => Awaited::Failed(failure),
        None => Awaited::Pending,
    }
}

/// The reason for the log when there is no digest of this file, and what has caused it.
pub fn cause(failure: &Failure, file: &ServedFile) -> (Reason, String) {
    match failure {
        Failure::Changed => (Reason::FileChanged, file.change("it changed while it was hashed")),
        Failure::Unreadable(why) => (Reason::ReadError, why.clone()),
    }
}
