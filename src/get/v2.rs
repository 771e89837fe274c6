//! A conversation in version 2: requests ahead of replies, and replies in order (xfer-protocol(5), VERSION 2).

use std::time::{Duration, Instant};

use super::clock;
use super::held::{HELD_MAX, Held, Late};
use super::item::{Comparison, Item, Outcome, Received, Stage, Tools};
use super::link::{Link, Lost, Read, When};
use super::part::Attributes;
use super::progress::Activity;
use super::receive::{Body, Room};
use super::refusal::refusal;
use super::scale::scaled;
use super::slot::About;
use super::target::Offer;
use super::time_limits::TimeLimits;
use super::wait::Stop;
use super::wrong_server;
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::v2::{self, ErrorCode, File, Reply};
use crate::proto::{Malformed, Request, Wanted};

/// A transfer that is shorter is fast enough with any digest.
const SLOW: Duration = Duration::from_secs(2);

/// Bytes of a reply that are let come and go at most when this machine cannot save them. In the time that they take, some
/// 30 ms at 10 MB/s, a connection across a continent is just made.
const DISCARD_MAX: u64 = scaled(256 * 1024);
const _: () = assert!(DISCARD_MAX <= HELD_MAX as u64);

/// Shares of the time of a transfer from which on the digest is what it waited for: our hashing, and the server's.
const HASHING_SHARE: f64 = 0.8;
const WAITING_SHARE: f64 = 0.3;

/// How a reply failed.
pub enum Failed {
    /// The server said so; what follows on the connection is good.
    Reply(Stop),
    /// The same, since the file has changed: what came of it is worth nothing.
    Changed(Stop),
    /// Nothing more can be had from this connection.
    Connection(Stop),
    /// This machine did, in the middle of a reply, the rest of which is still to come.
    Local(Stop),
    /// The connection, which has brought other replies, was closed before the first byte of this one.
    Stale(Stop),
}

impl Failed {
    /// The same, for a reason made of this one.
    fn map(self, change: impl FnOnce(Stop) -> Stop) -> Failed {
        match self {
            Failed::Reply(stop) => Failed::Reply(change(stop)),
            Failed::Changed(stop) => Failed::Changed(change(stop)),
            Failed::Local(stop) => Failed::Local(change(stop)),
            Failed::Connection(stop) | Failed::Stale(stop) => Failed::Connection(change(stop)),
        }
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Failed {
        Failed::Connection(stop)
    }
}

/// What the first byte of a connection says of its server.
pub enum Speaks {
    /// Version 2.
    V2,
    /// An older one, by its answer.
    V1,
    /// Nothing: it closed or cut the connection, as an old server may.
    Nothing(Stop),
}

/// A connection on which version 2 is spoken.
pub struct Session {
    link: Link,
    /// Replies that came whole.
    replies: u64,
    /// Those of this reply.
    limits: TimeLimits,
    /// Bytes of the current DATA frame that have not come.
    frame_left: u32,
    /// Bytes of a file that come before the next reply and that nobody wants any more: [`DISCARD_MAX`] at most.
    unwanted: Option<u64>,
    /// Whether the last reply was that the server has no time for us now.
    was_refused: bool,
    held: Held,
}

impl Session {
    /// Connects.
    pub fn connect(tools: &mut Tools<'_>) -> Result<Session, Stop> {
        Ok(Session {
            link: Link::connect(tools)?,
            replies: 0,
            limits: TimeLimits::new(tools.config.timeout),
            frame_left: 0,
            unwanted: None,
            was_refused: false,
            held: Held::new(),
        })
    }

    /// Asks, with the next [`Session::flush`]; the reply comes behind those to all earlier requests.
    pub fn ask(&mut self, request: &Request<'_>) {
        self.link.send(&v2::encode_get(request));
    }

    /// Sends what was asked.
    pub fn flush(&mut self) {
        self.link.flush();
    }

    /// Waits for the beginning of the first reply.
    pub fn speaks(&mut self, tools: &mut Tools<'_>) -> Result<Speaks, Stop> {
        let timeout = tools.config.timeout;
        match self.link.value(clock::now() + timeout, tools, parse_first)? {
            Ok(true) => Ok(Speaks::V2),
            Ok(false) => Ok(Speaks::V1),
            Err(lost @ Lost::Silence) => Err(self.link.no_reply(lost, tools)?),
            Err(lost) => Ok(Speaks::Nothing(self.link.no_reply(lost, tools)?)),
        }
    }

    /// Takes the reply to the oldest request that has none yet.
    pub fn reply(&mut self, item: &mut Item<'_>, wanted: Wanted, tools: &mut Tools<'_>) -> Result<Outcome, Failed> {
        if let Some(left) = self.unwanted.take() {
            self.discard(left, tools)?;
        }
        self.frame_left = 0;
        self.limits = TimeLimits::new(tools.config.timeout);
        let file = self.file(item, wanted, tools)?;
        let result = match wanted {
            Wanted::Digest { size } => self.compare(item, &file, size, tools),
            Wanted::Bytes { .. } => self.receive(item, &file, tools),
        };
        self.was_refused &= result.is_err();
        if matches!(result, Ok(_) | Err(Failed::Reply(_) | Failed::Changed(_))) {
            self.replies += 1;
        }
        result
    }

    /// The beginning of a reply.
    fn file(&mut self, item: &Item<'_>, wanted: Wanted, tools: &mut Tools<'_>) -> Result<File, Failed> {
        if self.replies > 0
            && let Err(lost @ (Lost::End | Lost::Reset)) = self.link.first_byte(self.limits.until(), tools)?
        {
            return Err(Failed::Stale(self.link.lost(lost, tools.config.timeout, When::Reply)));
        }
        let file = loop {
            match self.frame(None, When::Reply, tools)? {
                Reply::File(file) => break file,
                Reply::Wait { .. } => {}
                Reply::Error(code, message) => {
                    self.replies += 1;
                    return Err(self.refusal(item.name, code, &message));
                }
                Reply::Data(_) => return Err(self.out_of_place(v2::DATA).into()),
                Reply::Digest(_) => return Err(self.out_of_place(v2::DIGEST).into()),
            }
        };
        let field = match wanted {
            _ if file.algorithm != tools.config.algorithm => "digest algorithm",
            Wanted::Bytes { .. } if file.sizes_differ => "flag",
            Wanted::Bytes { offset, version }
                if file.offset != 0 && (file.offset, file.version) != (offset, version) =>
            {
                "offset"
            }
            Wanted::Digest { size } if (file.size != size) != file.sizes_differ => "flag",
            _ => return Ok(file),
        };
        Err(self.link.broken(Malformed::Field(v2::FILE, field)).into())
    }

    /// The next frame; `when` is for the message if it does not come, and `hashing` the size of the file if its digest is
    /// all that is missing.
    fn frame(&mut self, hashing: Option<u64>, when: When, tools: &mut Tools<'_>) -> Result<Reply, Stop> {
        loop {
            if let Some(reply) = self.frame_before(None, hashing, when, tools)? {
                return Ok(reply);
            }
        }
    }

    /// The same; none if it does not come before it is `due` to look after what has come.
    fn frame_before(
        &mut self,
        due: Option<Instant>,
        hashing: Option<u64>,
        when: When,
        tools: &mut Tools<'_>,
    ) -> Result<Option<Reply>, Stop> {
        let timeout = tools.config.timeout;
        tools.collect()?;
        let reply = match self.link.value(self.until(due), tools, parse)? {
            Ok(reply) => {
                tools.is_xfer_server = true;
                reply
            }
            Err(Lost::Silence) if self.is_in_time() => return Ok(None),
            Err(Lost::Silence) if self.limits.has_waited() => return Err(self.no_progress(timeout, when)),
            Err(lost) => return Err(self.link.lost(lost, timeout, when)),
        };
        let waited = self.link.take_waited();
        match reply {
            Reply::Wait { done, .. } if !self.limits.hear_wait(done, hashing, waited) => {
                return Err(self.no_progress(timeout, when));
            }
            Reply::Wait { .. } => self.check_pace(when)?,
            _ => self.limits.hear(0, waited),
        }
        Ok(Some(reply))
    }

    /// Until when to wait for the server, if it is `due` then to look after what has come.
    fn until(&self, due: Option<Instant>) -> Instant {
        due.map_or(self.limits.until(), |due| due.min(self.limits.until()))
    }

    /// Whether the server may still be silent for a while.
    fn is_in_time(&self) -> bool {
        clock::now() < self.limits.until()
    }

    /// Fails if the server has been too slow for too long.
    fn check_pace(&self, when: When) -> Result<(), Stop> {
        match self.limits.too_slow() {
            Some(how) => Err(Stop::again(format!("{} {how} {when}", self.link.server()))),
            None => Ok(()),
        }
    }

    fn no_progress(&self, timeout: Duration, when: When) -> Stop {
        let seconds = timeout.as_secs_f64();
        Stop::again(format!("{} made no progress for {seconds} s {when}", self.link.server()))
    }

    fn out_of_place(&self, kind: u8) -> Stop {
        self.link.broken(Malformed::FrameType(kind))
    }

    /// Whether the last reply was that the server has no time for us now.
    pub fn was_refused(&self) -> bool {
        self.was_refused
    }

    /// What an ERROR means.
    fn refusal(&mut self, name: &[u8], code: ErrorCode, message: &[u8]) -> Failed {
        self.was_refused = matches!(code, ErrorCode::Busy | ErrorCode::ShuttingDown);
        let stop = refusal(self.link.server(), name, code, message);
        if code == ErrorCode::Changed { Failed::Changed(stop) } else { Failed::Reply(stop) }
    }

    /// Takes the digest of the server's file, and compares it with ours.
    fn compare(
        &mut self,
        item: &mut Item<'_>,
        file: &File,
        size: u64,
        tools: &mut Tools<'_>,
    ) -> Result<Outcome, Failed> {
        tools.progress.learn(item.name, file.size);
        if file.sizes_differ {
            log::info!(target: "main", "{} differs in size from the file on the server; fetching it", item.target.shown());
            item.stage = Stage::Fetching;
            return Ok(Outcome::Differs);
        }
        let comparison = item.digest_existing(size, file.algorithm, tools);
        let theirs = loop {
            match self.frame(Some(size), When::Digest, tools)? {
                Reply::Digest(digest) if digest.algorithm() == file.algorithm => break digest,
                Reply::Digest(_) => return Err(self.out_of_place(v2::DIGEST).into()),
                Reply::Wait { done, total } => show_waiting(item.name, done, total, tools),
                Reply::Error(code, message) => return Err(self.refusal(item.name, code, &message)),
                Reply::File(_) => return Err(self.out_of_place(v2::FILE).into()),
                Reply::Data(_) => return Err(self.out_of_place(v2::DATA).into()),
            }
        };
        let ours = match comparison {
            Comparison::Known(digest) => digest,
            running => item.existing_digest(running, tools)?,
        };
        Ok(match item.is_up_to_date(ours, &theirs) {
            true => Outcome::UpToDate { digest: theirs, size },
            false => Outcome::Differs,
        })
    }

    /// Receives, hashes and writes what is missing of the file.
    fn receive(&mut self, item: &mut Item<'_>, file: &File, tools: &mut Tools<'_>) -> Result<Outcome, Failed> {
        let offer = Offer {
            about: About {
                name: item.name.to_vec(),
                origin: tools.server.clone(),
                size: file.size,
                version: file.version,
                algorithm: file.algorithm,
            },
            offset: file.offset,
            attributes: Some(Attributes { mtime: file.mtime, mode: file.mode }),
        };
        let began = clock::now();
        let mut body = if file.size <= HELD_MAX as u64 && item.target.is_untouched() {
            match self.receive_small(item, &offer, file, tools)? {
                Small::Whole(digest) => {
                    return Ok(Outcome::Received(Received { digest, offer, slowed_by_digest: false }));
                }
                Small::Late(body) => body,
            }
        } else {
            match item.begin(&offer, tools) {
                Ok(body) => body,
                Err(stop) => return Err(self.leave(file.size - offer.offset, stop)),
            }
        };
        let result = self.body(&mut body, item.name, file, tools).and_then(|Ok((theirs, waited))| {
            // All of the reply is here: what follows on the connection is good, whatever comes of it.
            item.end_check(&mut body, tools).map_err(Failed::Reply)?;
            let ours = body.finish(&mut tools.waits).map_err(Failed::Reply)?;
            Ok((theirs, ours, waited))
        });
        let (theirs, ours, waited) = match result {
            Ok(result) => result,
            Err(failed) => {
                let left = file.size.saturating_sub(body.received());
                return Err(match failed.map(|stop| item.interrupt(body, &offer, stop, tools)) {
                    Failed::Local(stop) => self.leave(left, stop),
                    failed => failed,
                });
            }
        };
        item.received += body.received().saturating_sub(offer.offset);
        if ours != theirs {
            return Err(Failed::Reply(item.damaged(&ours, &theirs)));
        }
        // Either end may be the one that is slow: ours while bytes come, the server's behind the last one.
        let took = clock::since(began);
        let is_slow = body.hashing() >= took.mul_f64(HASHING_SHARE) || waited >= took.mul_f64(WAITING_SHARE);
        let slowed_by_digest = file.algorithm == Algorithm::Md5 && took >= SLOW && is_slow;
        Ok(Outcome::Received(Received { digest: ours, offer, slowed_by_digest }))
    }

    /// Receives a small file into memory, and lets the disk have it once it is verified, or as much of it as has come after
    /// a while.
    fn receive_small<'r>(
        &mut self,
        item: &mut Item<'_>,
        offer: &Offer,
        file: &File,
        tools: &mut Tools<'r>,
    ) -> Result<Small<'r>, Failed> {
        tools.progress.begin(Activity::Receiving, item.name, file.size, 0);
        let mut held = std::mem::take(&mut self.held);
        held.begin();
        let result = match self.body(&mut held, item.name, file, tools) {
            Ok(Ok((theirs, _))) => {
                let ours = item.take_small(held.bytes(), &theirs, offer, tools);
                ours.map(Small::Whole).map_err(Failed::Reply)
            }
            Ok(Err(Late)) => match item.leave_memory(&held, offer, tools) {
                Ok(body) => Ok(Small::Late(body)),
                Err(stop) => Err(self.leave(file.size - held.received(), stop)),
            },
            Err(failed) => Err(failed.map(|stop| item.interrupt_small(&held, offer, stop, tools))),
        };
        self.held = held;
        result
    }

    /// The rest of the current frame and the frames up to the end; the server's digest, and how long it came behind the last
    /// byte.
    fn body<R: Room>(
        &mut self,
        body: &mut R,
        name: &[u8],
        file: &File,
        tools: &mut Tools<'_>,
    ) -> Result<Result<(Digest, Duration), R::Late>, Failed> {
        let size = file.size;
        let mut whole = clock::now();
        loop {
            if self.frame_left > 0 {
                if let Err(late) = self.payload(body, size, tools)? {
                    return Ok(Err(late));
                }
                whole = clock::now();
            }
            let received = body.received();
            let hashing = (received == size).then_some(size);
            let when = When::Bytes { received, size };
            let Some(reply) = self.frame_before(body.due(), hashing, when, tools)? else {
                match body.write_out() {
                    Ok(()) => continue,
                    Err(late) => return Ok(Err(late)),
                }
            };
            match reply {
                Reply::Data(len) if u64::from(len) <= size - received => self.frame_left = len,
                Reply::Data(_) => {
                    let server = self.link.server();
                    let message = format!("bad reply from {server}: more than the announced {size} bytes");
                    return Err(Stop::protocol(message).into());
                }
                Reply::Wait { done, total } if received == size => show_waiting(name, done, total, tools),
                Reply::Wait { .. } => {}
                Reply::Digest(digest) if received == size && digest.algorithm() == file.algorithm => {
                    return Ok(Ok((digest, clock::since(whole))));
                }
                Reply::Digest(_) => return Err(self.out_of_place(v2::DIGEST).into()),
                Reply::Error(code, message) => return Err(self.refusal(name, code, &message)),
                Reply::File(_) => return Err(self.out_of_place(v2::FILE).into()),
            }
        }
    }

    /// Ends a reply since this machine failed, with so many bytes of the file still to come. Few of them are let come and
    /// go before the next reply: the connection is good, and so are the replies that are under way behind them.
    fn leave(&mut self, left: u64, stop: Stop) -> Failed {
        if matches!(stop, Stop::Signal(_)) || left > DISCARD_MAX {
            return Failed::Connection(stop);
        }
        self.unwanted = Some(left);
        Failed::Reply(stop)
    }

    /// Takes the rest of a reply that nobody wants any more.
    fn discard(&mut self, left: u64, tools: &mut Tools<'_>) -> Result<(), Failed> {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        self.limits = TimeLimits::new(tools.config.timeout);
        let result = self.discard_into(&mut held, left, tools);
        self.held = held;
        result.map_err(|failed| match failed {
            Failed::Connection(stop @ Stop::Signal(_)) => Failed::Connection(stop),
            // The file that is asked for has no part in this: it is asked for once more.
            Failed::Reply(stop)
            | Failed::Changed(stop)
            | Failed::Local(stop)
            | Failed::Connection(stop)
            | Failed::Stale(stop) => Failed::Stale(stop),
        })
    }

    fn discard_into(&mut self, held: &mut Held, left: u64, tools: &mut Tools<'_>) -> Result<(), Failed> {
        loop {
            // Of what is thrown away, nothing is due anywhere.
            if let Err(Late) = self.payload(held, left, tools)? {
                return Ok(());
            }
            match self.frame(None, When::Rest, tools)? {
                Reply::Data(len) if u64::from(len) <= left - held.received() => self.frame_left = len,
                Reply::Digest(_) | Reply::Error(..) => return Ok(()),
                // Making the digest may take much longer than a new connection.
                Reply::Wait { .. } => return Err(Stop::again("the rest of a reply takes too long").into()),
                Reply::Data(_) => return Err(self.out_of_place(v2::DATA).into()),
                Reply::File(_) => return Err(self.out_of_place(v2::FILE).into()),
            }
        }
    }

    /// What is missing of the payload of a DATA frame.
    fn payload<R: Room>(
        &mut self,
        body: &mut R,
        size: u64,
        tools: &mut Tools<'_>,
    ) -> Result<Result<(), R::Late>, Failed> {
        let timeout = tools.config.timeout;
        while self.frame_left > 0 {
            let before = clock::now();
            if body.due().is_some_and(|due| before >= due)
                && let Err(late) = body.write_out()
            {
                return Ok(Err(late));
            }
            let due = body.due();
            let room = body.room(u64::from(self.frame_left), &mut tools.waits).map_err(Failed::Local)?;
            let room_len = room.len();
            self.limits.excuse(clock::since(before));
            match self.link.read(room, self.until(due), tools)? {
                Read::Bytes(n) => {
                    body.add(n);
                    // There was no room for more.
                    self.frame_left = self.frame_left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
                    if n < room_len {
                        body.pause();
                    }
                    self.limits.hear(n as u64, self.link.take_waited());
                    tools.progress.check(body.checked());
                    tools.progress.advance(body.received());
                }
                Read::Lost(Lost::Silence) if self.is_in_time() => {}
                Read::Lost(lost) => {
                    let when = When::Bytes { received: body.received(), size };
                    return Err(self.link.lost(lost, timeout, when).into());
                }
            }
            self.check_pace(When::Bytes { received: body.received(), size })?;
        }
        body.end_frame();
        Ok(Ok(()))
    }
}

/// What came of a small file.
enum Small<'r> {
    /// All of it, verified.
    Whole(Digest),
    /// So far this, which is on its way to the disk.
    Late(Body<'r>),
}

/// Whether a server that has said nothing before speaks version 2, or version 1, by the first byte of its reply, which stays
/// where it is. Two of the types begin a record of TLS as well.
fn parse_first(bytes: &[u8]) -> Result<Option<(usize, bool)>, Malformed> {
    match bytes.first() {
        Some(b'E') => Ok(Some((0, false))),
        Some(first) if v2::begins_reply(*first) => match wrong_server::is_tls(bytes) {
            Some(true) => Err(Malformed::FrameType(*first)),
            Some(false) => Ok(Some((0, true))),
            None => Ok(None),
        },
        Some(first) => Err(Malformed::FrameType(*first)),
        None => Ok(None),
    }
}

/// Reads what a server of version 2 says; one that was of version 2 before may have been replaced.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Reply)>, Malformed> {
    match bytes.first() {
        Some(b'E') => Err(Malformed::OldServer),
        _ => v2::parse_reply(bytes),
    }
}

/// All bytes are here, and the server still hashes them.
fn show_waiting(name: &[u8], done: u64, total: u64, tools: &mut Tools<'_>) {
    if !tools.progress.is_about(Activity::Waiting) {
        tools.progress.begin(Activity::Waiting, name, total, done);
    }
    tools.progress.advance(done);
}
