//! What a peer may get for what it has said: reads the server's bytes as a client does, and panics at what is wrong.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::disk::{Content, Disk};
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::v2::{self, Asked, ErrorCode, Reply};
use crate::proto::{Dialect, Request, Wanted, v1};
use crate::serve::conn::GATHERED_MAX;
use crate::serve::foreign::Protocol;
use crate::serve::reason::Reason;

/// The least time between two WAIT of a reply.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// How the answer to HTTP begins.
const HTTP_REFUSAL: &[u8] = b"HTTP/1.1 400 ";

/// The least time between `OK` and what follows in version 1.
const V1_GAP: Duration = Duration::from_millis(250);

/// What is to be answered.
#[derive(Clone, Debug)]
enum Expected {
    /// A file, or a refusal.
    Get { name: Vec<u8>, wanted: Wanted, algorithm: Algorithm },
    /// An error, and what is behind it.
    Refused(ErrorCode),
    /// An error, and the end.
    End,
}

/// Where in the server's bytes it is.
#[derive(Debug)]
enum Place {
    /// Before a reply.
    Between,
    /// In the reply to the first of what is expected.
    Within(Body),
    /// Behind the last reply that there can be.
    Over,
}

/// The part of a reply behind its beginning.
#[derive(Debug)]
struct Body {
    content: Content,
    name: usize,
    algorithm: Algorithm,
    /// Where the next byte belongs.
    at: u64,
    /// Bytes of a frame, or of the file in version 1, that are to come.
    left: u64,
    /// Whether a byte came that is not of this content: the reply must fail then.
    is_wrong: bool,
    /// What version 1 has said before the bytes.
    digest: Option<Digest>,
    waited: Option<Instant>,
}

/// A conversation, as the client sees it.
pub struct Model {
    disk: Rc<RefCell<Disk>>,
    /// What the server has read and is no request yet.
    said: Vec<u8>,
    dialect: Option<Dialect>,
    expected: VecDeque<Expected>,
    /// Whether nothing behind what was said can be a request.
    is_over: bool,
    /// What has come and cannot be read yet.
    got: Vec<u8>,
    place: Place,
    /// When `OK` came, in version 1.
    ok_at: Option<Instant>,
    /// Whether there was once no room on the way: frames then come when there is some, and not when they were made.
    pub was_held_up: bool,
    /// Replies that ended.
    replies: u64,
    /// Bytes of files that came, and what stood in their place.
    bytes: u64,
}

impl Model {
    /// Before anything was said.
    pub fn new(disk: &Rc<RefCell<Disk>>) -> Model {
        let disk = Rc::clone(disk);
        let (said, got, expected) = (Vec::new(), Vec::new(), VecDeque::new());
        Model {
            disk,
            said,
            dialect: None,
            expected,
            is_over: false,
            got,
            place: Place::Between,
            ok_at: None,
            was_held_up: false,
            replies: 0,
            bytes: 0,
        }
    }

    /// Takes what the server has read.
    pub fn said(&mut self, bytes: &[u8]) {
        self.said.extend_from_slice(bytes);
        let Some(first) = self.said.first() else { return };
        let dialect = *self.dialect.get_or_insert(Dialect::of(*first));
        while !self.is_over && !self.said.is_empty() {
            let (used, expected) = match dialect {
                Dialect::Unknown if Protocol::of(&self.said).is_none() => return,
                Dialect::Unknown => (self.said.len(), Expected::End),
                Dialect::V1 => match v1::parse_request(&self.said) {
                    Ok(None) => return,
                    Ok(Some((_, request))) => (self.said.len(), get(request)),
                    Err(_) => (self.said.len(), Expected::End),
                },
                Dialect::V2 => match v2::parse_asked(&self.said) {
                    Ok(None) => return,
                    Ok(Some((used, Asked::Get(request)))) => (used, get(request)),
                    Ok(Some((used, Asked::Refused(code, _)))) => (used, Expected::Refused(code)),
                    Err(_) => (self.said.len(), Expected::End),
                },
            };
            self.said.drain(..used);
            // Version 1 has one request.
            self.is_over = dialect == Dialect::V1 || matches!(expected, Expected::End);
            self.expected.push_back(expected);
        }
    }

    /// Takes what the server has sent.
    pub fn got(&mut self, mut bytes: &[u8], now: Instant, is_stopping: bool) {
        while !bytes.is_empty() {
            if let Place::Within(body) = &mut self.place
                && body.left > 0
            {
                let len = bytes.len().min(usize::try_from(body.left).expect("a frame"));
                let (part, rest) = bytes.split_at(len);
                body.is_wrong |= body.content.bytes(body.at)[..len] != *part;
                body.at += len as u64;
                body.left -= len as u64;
                self.bytes += len as u64;
                bytes = rest;
                continue;
            }
            self.got.extend_from_slice(bytes);
            bytes = &[];
            self.read(now, is_stopping);
        }
    }

    fn read(&mut self, now: Instant, is_stopping: bool) {
        let got = std::mem::take(&mut self.got);
        let mut rest = &got[..];
        loop {
            let used = match self.dialect {
                Some(Dialect::V2) => self.read_frame(rest, now, is_stopping),
                Some(_) => self.read_v1(rest, now),
                None => panic!("a reply to nobody: {rest:?}"),
            };
            rest = &rest[used..];
            if used == 0 {
                break;
            }
            if let Place::Within(Body { left: 1.., .. }) = self.place {
                return self.got(rest, now, is_stopping);
            }
        }
        self.got = rest.to_vec();
    }

    /// Bytes of the first whole frame.
    fn read_frame(&mut self, bytes: &[u8], now: Instant, is_stopping: bool) -> usize {
        let parsed = v2::parse_reply(bytes).unwrap_or_else(|malformed| panic!("no frame: {malformed}: {bytes:?}"));
        let Some((used, frame)) = parsed else { return 0 };
        let expected = self.expected.front().unwrap_or_else(|| panic!("{frame:?} that nobody asked for")).clone();
        match (&mut self.place, frame) {
            (Place::Over, frame) => panic!("{frame:?} behind the end"),
            (Place::Between, Reply::File(file)) => {
                let Expected::Get { name, wanted, algorithm } = expected else { panic!("{file:?} for {expected:?}") };
                self.begin(&file, &name, wanted, algorithm);
            }
            (Place::Within(body), Reply::Data(len)) => {
                let left = body.content.size - body.at;
                assert!(u64::from(len) <= left, "DATA of {len} bytes where {left} are left of {body:?}");
                // Only what is gathered follows without a look at the file.
                assert!(!body.is_wrong || left <= GATHERED_MAX, "DATA of a file that has changed: {body:?}");
                body.left = u64::from(len);
            }
            (Place::Within(body), Reply::Wait { done, total }) => {
                assert!(done <= total, "WAIT of {done}/{total}");
                let pause = body.waited.replace(now).map(|before| now - before);
                let is_due = pause.is_none_or(|pause| pause >= WAIT_PAUSE);
                assert!(is_due || self.was_held_up, "WAIT {pause:?} behind another");
            }
            (Place::Within(body), Reply::Digest(digest)) => {
                assert!(body.at == body.content.size, "DIGEST before the last byte of {body:?}");
                let right = self.disk.borrow_mut().digest(&body.content, body.algorithm);
                assert!(digest == right && !body.is_wrong, "{digest} for {right} of {body:?}");
                assert!(body.content.holds.is_none(), "{digest} of what cannot be read whole: {body:?}");
                self.end();
            }
            (Place::Within(body), Reply::Error(code, _)) => {
                let (disk, number) = (self.disk.borrow(), body.name);
                let name = disk.name(number).expect("its number was looked up");
                let is_right = match code {
                    ErrorCode::Changed => name.was_changed,
                    ErrorCode::ReadError => name.has_failed,
                    _ => false,
                };
                assert!(is_right, "{code:?} without a cause in {body:?}");
                drop(disk);
                self.end();
            }
            (Place::Between, Reply::Error(code, _)) => {
                self.refused(code, &expected, is_stopping);
                self.end();
                if let Expected::End = expected {
                    self.place = Place::Over;
                }
            }
            (place, frame) => panic!("{frame:?} in {place:?}"),
        }
        used
    }

    /// A reply that is not the whole of a refusal.
    fn begin(&mut self, file: &v2::File, name: &[u8], wanted: Wanted, algorithm: Algorithm) {
        let number = Disk::number(name).expect("only such are found");
        let disk = self.disk.borrow();
        let name = disk.name(number).expect("only such are found");
        let content = name.contents.iter().find(|content| content.version() == file.version);
        let content = *content.unwrap_or_else(|| panic!("{file:?} was never a version of {name:?}"));
        drop(disk);
        assert_eq!((file.size, file.algorithm), (content.size, algorithm), "{file:?}");
        if let Some(digest) = file.digest {
            assert_eq!(digest, self.disk.borrow_mut().digest(&content, algorithm), "in {file:?}");
        }
        let (offset, sizes_differ) = match wanted {
            Wanted::Bytes { offset, version } if version == file.version && offset <= file.size => (offset, false),
            Wanted::Bytes { .. } => (0, false),
            Wanted::Digest { size } if size == file.size => (size, false),
            Wanted::Digest { .. } => (0, true),
        };
        assert_eq!((file.offset, file.sizes_differ), (offset, sizes_differ), "for {wanted:?}");
        match sizes_differ {
            true => self.end(),
            false => {
                let (is_wrong, digest, waited) = (false, None, None);
                let at = offset;
                self.place =
                    Place::Within(Body { content, name: number, algorithm, at, left: 0, is_wrong, digest, waited });
            }
        }
    }

    fn refused(&self, code: ErrorCode, expected: &Expected, is_stopping: bool) {
        let is_right = match expected {
            Expected::End => code == ErrorCode::BadRequest,
            Expected::Refused(right) => code == *right,
            Expected::Get { name, .. } => {
                let disk = self.disk.borrow();
                let known = Disk::number(name).and_then(|number| disk.name(number));
                match code {
                    ErrorCode::NotFound => known.is_none_or(|name| name.was_missing),
                    ErrorCode::Busy => known.is_some_and(|name| name.was_busy),
                    ErrorCode::ShuttingDown => is_stopping,
                    _ => false,
                }
            }
        };
        assert!(is_right, "{code:?} for {expected:?}");
    }

    fn end(&mut self) {
        self.expected.pop_front();
        self.replies += 1;
        self.place = Place::Between;
    }

    /// Bytes of the head of a reply of version 1, once it is whole; a refusal has no end.
    fn read_v1(&mut self, bytes: &[u8], now: Instant) -> usize {
        if let Place::Within(_) = self.place {
            assert!(bytes.is_empty(), "{} bytes behind the last one", bytes.len());
            return 0;
        }
        let expected = self.expected.front().unwrap_or_else(|| panic!("{bytes:?} that nobody asked for")).clone();
        if self.dialect == Some(Dialect::Unknown)
            && (bytes.starts_with(HTTP_REFUSAL) || HTTP_REFUSAL.starts_with(bytes))
        {
            return 0;
        }
        let status = v1::parse_status(bytes).unwrap_or_else(|malformed| panic!("{malformed}: {bytes:?}"));
        let Some((used, v1::Status::Ok)) = status else { return 0 };
        let Expected::Get { name, .. } = &expected else { panic!("OK for {expected:?}") };
        if bytes.len() > used {
            let gap = self.ok_at.map(|at| now - at);
            assert!(gap.is_some_and(|gap| gap >= V1_GAP || self.was_held_up), "metadata {gap:?} behind OK");
        }
        self.ok_at.get_or_insert(now);
        let metadata = v1::parse_metadata(&bytes[used..]).unwrap_or_else(|malformed| panic!("{malformed}: {bytes:?}"));
        let Some((more, metadata)) = metadata else { return 0 };
        let number = Disk::number(name).expect("only such are found");
        assert!(name.ends_with(&metadata.name), "{metadata:?} for {name:?}");
        let mut disk = self.disk.borrow_mut();
        let contents = disk.name(number).expect("only such are found").contents.clone();
        let of = |content: &&Content| {
            content.size == metadata.size
                && content.holds.is_none()
                && disk.digest(content, Algorithm::Md5) == metadata.digest
        };
        let content = *contents
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{metadata:?} was never true of {number}: {contents:?}"));
        let (size, digest) = (metadata.size, Some(metadata.digest));
        let (algorithm, is_wrong, waited) = (Algorithm::Md5, false, None);
        drop(disk);
        let body = Body { content, name: number, algorithm, at: 0, left: size, is_wrong, digest, waited };
        self.place = Place::Within(body);
        used + more
    }

    /// Whether it is a conversation in version 2.
    pub fn speaks_v2(&self) -> bool {
        self.dialect == Some(Dialect::V2)
    }

    /// Whether everything that was asked has its reply.
    fn is_answered(&self) -> bool {
        self.expected.is_empty() && matches!(self.place, Place::Between | Place::Over)
    }

    /// Looks whether the server has counted what the kernel took, and nothing else.
    pub fn counted(&self, replies: u64, bytes: u64) {
        let is_exact = {
            let disk = self.disk.borrow();
            // Zeros in the place of bytes that are gone do not count.
            !(0..disk.count()).any(|number| {
                disk.name(number)
                    .is_some_and(|name| name.was_changed || name.contents.iter().any(|content| content.holds.is_some()))
            })
        };
        assert!(bytes <= self.bytes && (bytes == self.bytes || !is_exact), "{bytes} bytes counted of {}", self.bytes);
        let is_v1_whole = match &self.place {
            Place::Within(body) => body.left == 0,
            // A refusal has no end that could be read.
            _ => !self.got.is_empty(),
        };
        let is_right = if self.speaks_v2() { replies == self.replies } else { replies <= u64::from(is_v1_whole) };
        assert!(is_right, "{replies} replies counted of {}, in {:?}", self.replies, self.place);
    }

    /// Looks whether a connection could end for this reason.
    pub fn closed(&self, reason: Reason, end: &End) {
        let is_v2 = self.speaks_v2();
        let is_refused = || {
            let is_whole = self.got.starts_with(v1::ERROR) && self.got.len() > v1::ERROR.len();
            is_whole || self.got.starts_with(HTTP_REFUSAL)
        };
        let any = |cause: fn(&super::disk::Name) -> bool| {
            let disk = self.disk.borrow();
            (0..disk.count()).any(|number| disk.name(number).is_some_and(cause))
        };
        let is_right = match reason {
            // What comes while the server lingers is not answered.
            Reason::Complete if is_v2 => end.is_stopping || self.is_answered() && end.saw_end,
            Reason::Complete => match &self.place {
                Place::Within(body) => {
                    assert!(!body.is_wrong, "sent as complete: {body:?}");
                    assert!(body.digest.is_some(), "{body:?}");
                    body.left == 0
                }
                _ => false,
            },
            Reason::Refused => !is_v2 && is_refused(),
            Reason::Busy => !is_v2 && is_refused() && any(|name| name.was_busy),
            Reason::BadRequest if is_v2 => matches!(self.place, Place::Over),
            Reason::BadRequest => is_refused(),
            Reason::UnknownProtocol => is_refused() && self.dialect == Some(Dialect::Unknown),
            Reason::RequestTimeout => self.is_answered() && end.unread == 0 && end.age >= end.request_timeout,
            Reason::KeepAliveTimeout => is_v2 && self.is_answered() && self.replies > 0 && end.unread == 0,
            Reason::IdleTimeout => end.was_blocked,
            Reason::PeerClosed => self.is_answered() && self.replies == 0 && end.saw_end,
            Reason::ResetByPeer => end.was_reset,
            Reason::FileChanged => !is_v2 && any(|name| name.was_changed),
            Reason::ReadError => is_v2 == end.was_aborted && any(|name| name.has_failed),
            Reason::Shutdown | Reason::DrainTimeout => end.is_stopping,
            _ => true,
        };
        assert!(is_right, "closed as {reason:?} with {end:?}, {:?} in {:?}", self.expected, self.place);
    }
}

/// What is known of the end of a connection beside its bytes.
#[derive(Debug)]
pub struct End {
    /// How old it became.
    pub age: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Bytes that arrived and were not read, before the server waited for nothing but its last byte to be taken.
    pub unread: usize,
    /// Whether the end of input was read.
    pub saw_end: bool,
    /// Whether the peer cut it.
    pub was_reset: bool,
    /// Whether the server cut it.
    pub was_aborted: bool,
    /// Whether the last turn found no room.
    pub was_blocked: bool,
    /// Whether the server stops.
    pub is_stopping: bool,
}

fn get(request: Request<'_>) -> Expected {
    Expected::Get { name: request.name.to_vec(), wanted: request.wanted, algorithm: request.algorithm }
}
