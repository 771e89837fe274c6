//! One connection: all its states and every transition between them.
//!
//! ```text
//!          .------------- version 2: on with the next request <-------------.
//!          v                                                                |
//!   ReadingRequest -> SendingHeader -> Streaming -> AwaitingDigest ---------|
//!          |                |              |               |                |
//!          | a refusal,     '--------------+-------.-------'                |
//!          | or an end                     |       v  version 2: it failed  |
//!          v                               |     ERROR ---------------------'
//!       Flushing <-------------------------'
//!        |    |        version 1: all was sent, or it failed
//!        |    '-> Lingering -.
//!        v                   v
//!      Closed <--------------'
//! ```
//!
//! In version 1 the header brings the digest, and what fails closes. In version 2 a reply without bytes goes from
//! SendingHeader to AwaitingDigest, or, if the sizes differ, is over. Whatever ends in order goes through Flushing: after a
//! refusal behind which nothing can be understood, at the end of input, when a kept connection is not used, when the server
//! stops. The kernel may hold bytes then that the peer does not have; the connection counts, with every limit, until the
//! peer has them, and only then sending is shut down. What came unasked meanwhile is discarded in Lingering. From every
//! state a reset, or a limit that ends a connection whose peer does not take what is sent, leads to Closed, which has the
//! reason; the server ends it with a reset then, after which the kernel holds nothing.
//!
//! Frames of version 2 and small files are not written one by one: they gather in a buffer that all connections share,
//! and go out together at the end of the turn, before a large piece of a file, or when there are enough of them. What the
//! peer does not take stays with the connection, and no state is entered before it is gone.
//!
//! A state is consumed by the function that is named after it, and falls through to the next one as long as it can.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use log::Level;

use super::Limits;
use super::addresses::Shown;
use super::answer::{Answer, Brings};
use super::digests::{Digests, Failure, Waiter};
use super::foreign::{self, Protocol};
use super::header::{Header, Pieces};
use super::log_limit::{LOGGED_FROM, LogLimit, Refusals};
use super::outbox::{Outbox, Piece};
use super::peers::Source;
use super::reason::Reason;
use super::reply::{Awaited, Reply, begin_v1, begin_v2, cause};
use crate::file::{Patience, Ready};
use crate::net::{Closed, Flush, Io, Transport};
use crate::pace::Pace;
use crate::proto::digest::Digest;
use crate::proto::v2::{self, Asked, ErrorCode};
use crate::proto::{Dialect, Malformed, NAME_MAX, Request, v1};
use crate::root::{Directory, Refusal};
use crate::text;

/// Bytes that a connection may send before others get their turn: some 100 µs of loopback. With a quarter of it, a GiB to
/// 16 readers took 20 % more CPU, since each of them was woken for less. (nginx: sendfile_max_chunk 2m.)
pub const TURN_BUDGET: usize = 1024 * 1024;

/// What answering a request costs of a turn's budget, in bytes: the look-up of a name takes as long as sending so many.
const REQUEST_COST: usize = 128 * 1024;

/// Bytes of a file that are probed, and then sent, at a time; in version 2, those of a DATA frame.
const WINDOW: u64 = 256 * 1024;
const _: () = assert!(WINDOW <= v2::DATA_MAX as u64);

/// Bytes of the first DATA frame of a reply; each further one has twice as many, up to [`WINDOW`]. A client resumes behind
/// the last whole frame: over a line that dies after every 60 KB it gets 48 KiB further each time, and with frames of
/// 256 KiB it would get nowhere. A file of 100 KiB has 3 frames then, which cost 12 µs more, and one of 1 GiB 4 more.
const FIRST_FRAME: u64 = 16 * 1024;

/// Bytes discarded at most after the end of a reply. Closing with unread input behind it is a reset, which can destroy
/// the reply on its way. (nginx: lingering_timeout; Apache: 2 s between reads.)
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may go on sending after the end of its reply.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes of input held at most: a whole request of version 2. One of version 1 is shorter.
const INPUT_MAX: usize = v2::HEADER_LEN + v2::REQUEST_MAX;
const _: () = assert!(4 + NAME_MAX <= INPUT_MAX);

/// Bytes of a frame up to which it is read and gathered with the frames around it: below this a copy costs less than the
/// system calls for a window of its own.
pub const GATHERED_MAX: u64 = 16 * 1024;

/// Gathered bytes from which on they are sent: enough to make the system call cheap beside the copying. With one piece
/// of [`GATHERED_MAX`] behind them they are what a connection whose peer stops reading holds at most.
const GATHERED_ENOUGH: usize = 32 * 1024;

/// Bytes from which on a reply has its lines about progress whatever time it takes. A smaller one has them once it has
/// taken [`PROGRESS_AFTER`]: until then they would come within a millisecond, and tell nobody anything.
const PROGRESS_FROM: u64 = 1024 * 1024;
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// What fills a frame whose file has become too short for it.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// What a connection needs from the server during a turn.
pub struct Context<'a> {
    /// The time of this pass.
    pub now: Instant,
    /// Who this connection is to the digest jobs.
    pub me: Waiter,
    /// Where its peer counts.
    pub source: Source,
    /// The shared directory.
    pub root: &'a mut dyn Directory,
    /// Digest jobs and kept digests.
    pub digests: &'a mut Digests,
    /// Time limits.
    pub limits: &'a Limits,
    /// Lines that the log may have about peers that are given nothing.
    pub log_limit: &'a mut LogLimit,
    /// Room for input, shared by all connections.
    pub scratch: &'a mut [u8],
    /// Frames that are to be sent, shared by all connections: empty between turns.
    pub gathered: &'a mut Vec<u8>,
    /// Memory for input, of a connection that needs none at the moment; empty.
    pub spare: &'a mut Vec<u8>,
    /// What is left of [`TURN_BUDGET`].
    pub budget: usize,
    /// Whether the server stops: what has begun is finished, and nothing else begins.
    pub stopping: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do before an edge, the end of a digest job, or this time.
    Wait(Instant),
    /// The disk was asked for what is needed next: to look again in a few milliseconds.
    Pause(Instant),
    /// The budget is spent and there is more to do: no edge will come for that.
    Yield,
    /// It is over.
    Close(Reason),
}

/// A client's connection.
pub struct Conn<T> {
    transport: T,
    peer: SocketAddr,
    /// Who speaks in log lines: `conn-12`.
    label: Box<str>,
    /// Whether the log knows of it. One that is given nothing may go without, where there are very many.
    is_announced: bool,
    refusals: Refusals,
    opened: Instant,
    /// Replies sent whole, refusals and errors among them.
    pub replies: u64,
    /// Bytes of files sent.
    pub bytes: u64,
    /// What the first byte has announced, once it is there.
    dialect: Option<Dialect>,
    /// If its address has as many connections as one may have: how many that is. Whatever it asks for, it is told so.
    over_limit: Option<NonZeroU32>,
    /// Whether it was refused in version 1, where nothing else follows.
    is_refused: bool,
    /// What has arrived and is not answered; at most [`INPUT_MAX`] bytes. While a reply of version 2 is under way
    /// nothing is read: the requests behind it stay with the kernel, and hold their sender up.
    input: Vec<u8>,
    /// What was gathered and the peer has not taken; at most [`GATHERED_ENOUGH`] + [`GATHERED_MAX`] bytes and a few
    /// frames.
    unsent: Vec<u8>,
    /// What those bytes are, for the log and the counters.
    outbox: Outbox,
    /// When the peer took bytes last, or when there were the first for it to take.
    progress: Instant,
    pace: Pace,
    state: State,
}

enum State {
    ReadingRequest(Asking),
    SendingHeader(SendingHeader),
    Streaming(Streaming),
    AwaitingDigest(Reply),
    Flushing(Flushing),
    Lingering(Lingering),
    Closed(Ended),
}

/// What is known of the request to come, and since when.
#[derive(Clone, Copy)]
enum Asking {
    /// It is the first one; its time began with the connection.
    First,
    /// A reply has just ended; what is behind it has not been looked for.
    Behind,
    /// Nothing of it has come.
    Idle(Instant),
    /// Some of it has come.
    Begun(Instant),
}

struct SendingHeader {
    reply: Reply,
    header: Header,
}

struct Streaming {
    reply: Reply,
    /// Where the first byte of this reply is in the file.
    from: u64,
    /// Where the next one is; from <= offset <= size.
    offset: u64,
    window: Window,
    patience: Patience,
    /// Milliseconds from the request until its first byte could go: those of a digest, in version 1.
    began_after: u32,
    /// Tenths of the file that the log has mentioned.
    tenths: u32,
}

/// Bytes that a probe has found in memory: a frame in version 2.
enum Window {
    /// Those before are out, and nothing is promised.
    Border,
    /// So many bytes are left of it.
    Bytes(usize),
    /// So many are left, and the file has ended before them.
    Zeros(usize),
}

/// What follows a refusal.
enum Then {
    NextRequest,
    End(Reason),
}

/// The last bytes are with the kernel or on their way to it.
struct Flushing {
    reason: Reason,
    farewell: Farewell,
    /// Bytes that the kernel had not sent when it was last asked, once it was.
    left: Option<u32>,
}

/// What follows when the peer has the last byte.
enum Farewell {
    /// It may not be done with what it says: closing with unread input is a reset.
    Linger,
    /// It has said all, or is not to say more.
    Close,
}

struct Lingering {
    reason: Reason,
    discarded: usize,
    until: Instant,
}

/// The end of a connection, by its peer or by a limit.
struct Ended {
    reason: Reason,
    /// The reply that it cut.
    cut: Option<Cut>,
}

/// A reply that will not be finished.
struct Cut {
    answer: Answer,
    /// Where in the file it was.
    at: u64,
    /// What the reason alone does not say.
    why: Option<String>,
}

/// What a connection is doing, for SIGUSR1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It sends a file, or small ones that its peer does not take.
    Sending,
    /// Its peer waits for a digest.
    Hashing,
    /// Its peer may ask for something.
    Idle,
    /// Its last bytes are on their way.
    Closing,
}

/// What a state's function made of it.
enum Step {
    /// Go on with this state at once.
    Next(State),
    /// The turn ends like this, in this state.
    Rest(State, Turn),
    /// The connection ends.
    Close(Ended),
}

/// What follows gathered bytes at once.
#[derive(Clone, Copy)]
enum Behind {
    Nothing,
    File,
}

/// Why a state cannot go on now.
enum Stop {
    /// The turn ends like this.
    Rest(Turn),
    /// The reply ends without the rest, for this reason and that cause.
    Fail(Reason, String),
    /// The same in the middle of a frame, where no error fits: the connection ends with a reset.
    Abort(Reason, String),
    /// The connection ends.
    Close(Reason),
}

impl<T: Transport> Conn<T> {
    /// A connection that has just been accepted.
    pub fn new(transport: T, peer: SocketAddr, number: u64, now: Instant) -> Conn<T> {
        let label = format!("conn-{number}").into_boxed_str();
        let state = State::ReadingRequest(Asking::First);
        let (input, unsent, outbox) = (Vec::new(), Vec::new(), Outbox::default());
        Conn {
            transport,
            peer,
            label,
            is_announced: false,
            refusals: Refusals::default(),
            opened: now,
            replies: 0,
            bytes: 0,
            dialect: None,
            over_limit: None,
            is_refused: false,
            input,
            unsent,
            outbox,
            progress: now,
            pace: Pace::default(),
            state,
        }
    }

    /// One that is to be told that its address has as many connections as one may have, which are `most`. It has the time
    /// of a request to ask, since only a first byte tells in which protocol it understands a refusal.
    pub fn one_too_many(transport: T, peer: SocketAddr, number: u64, now: Instant, most: NonZeroU32) -> Conn<T> {
        Conn { over_limit: Some(most), ..Conn::new(transport, peer, number, now) }
    }

    /// Its address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the log knows of it.
    pub fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// Writes the opening line, if it is not written yet.
    pub fn announce(&mut self) {
        if !std::mem::replace(&mut self.is_announced, true) {
            log::info!(target: &self.label, "connection from {}", Shown(self.peer));
        }
    }

    /// Counts one more request that is refused or fails; whether it has a line of its own.
    fn logs_refusal(&mut self, log_limit: &mut LogLimit, now: Instant) -> bool {
        let may = self.refusals.log_one_more(log_limit, now);
        if may {
            self.announce();
        } else if self.is_announced && self.refusals.unlogged == 1 {
            log::warn!(target: &self.label, "refused more requests from {}; the closing line counts them", Shown(self.peer));
        }
        may
    }

    /// Does what can be done now, within the budget of a turn.
    pub fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        if let Err(stop) = self.send_unsent(cx) {
            return self.stop(stop);
        }
        loop {
            // A state that is being consumed never stays: each arm below puts one back.
            let step = match std::mem::replace(&mut self.state, State::Closed(Ended::of(Reason::Shutdown))) {
                State::ReadingRequest(asking) => self.reading_request(asking, cx),
                State::SendingHeader(state) => self.sending_header(state, cx),
                State::Streaming(state) => self.streaming(state, cx),
                State::AwaitingDigest(reply) => self.awaiting_digest(reply, cx),
                State::Flushing(state) => self.flushing(state, cx),
                State::Lingering(state) => self.lingering(state, cx),
                State::Closed(ended) => Step::Close(ended),
            };
            let turn = match step {
                Step::Next(state) => {
                    self.state = state;
                    if cx.gathered.len() < GATHERED_ENOUGH {
                        continue;
                    }
                    None
                }
                Step::Rest(state, turn) => {
                    self.state = state;
                    Some(turn)
                }
                Step::Close(ended) => {
                    cx.gathered.clear();
                    return self.close_as(ended);
                }
            };
            match (self.send_gathered(Behind::Nothing, cx), turn) {
                (Ok(()), None) => {}
                (Ok(()), Some(turn)) => return turn,
                (Err(stop), _) => return self.stop(stop),
            }
        }
    }

    /// Ends a turn that could not go on.
    fn stop(&mut self, stop: Stop) -> Turn {
        match stop {
            Stop::Rest(turn) => turn,
            Stop::Close(reason) | Stop::Fail(reason, _) | Stop::Abort(reason, _) => {
                let state = std::mem::replace(&mut self.state, State::Closed(Ended::of(reason)));
                self.close_as(Ended { reason, cut: state.cut() })
            }
        }
    }

    fn close_as(&mut self, ended: Ended) -> Turn {
        let reason = ended.reason;
        self.state = State::Closed(ended);
        Turn::Close(reason)
    }

    /// Sends what the peer did not take in an earlier turn.
    fn send_unsent(&mut self, cx: &Context<'_>) -> Result<(), Stop> {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.transport.write(rest) {
                Io::Done(n) => {
                    sent += n;
                    self.takes_gathered(n, cx);
                }
                Io::WouldBlock => {
                    self.unsent.drain(..sent);
                    return Err(self.blocked(cx));
                }
                Io::Closed(_) => return Err(Stop::Close(Reason::ResetByPeer)),
            }
        }
        // A connection may be kept for long: it holds no memory that it does not need.
        self.unsent = Vec::new();
        Ok(())
    }

    /// Sends what was gathered in this turn. What the peer does not take is kept.
    fn send_gathered(&mut self, behind: Behind, cx: &mut Context<'_>) -> Result<(), Stop> {
        let mut sent = 0;
        let outcome = loop {
            let Some(rest) = cx.gathered.get(sent..).filter(|rest| !rest.is_empty()) else { break Ok(()) };
            let written = match behind {
                Behind::Nothing => self.transport.write(rest),
                // The kernel may hold it back for the bytes behind it, which follow in the same turn; if some of it has
                // to wait, it goes on in a turn of its own.
                Behind::File => self.transport.write_more(rest),
            };
            match written {
                Io::Done(n) => {
                    sent += n;
                    self.takes_gathered(n, cx);
                }
                Io::WouldBlock => {
                    self.unsent = rest.to_vec();
                    self.progress = cx.now;
                    break Err(self.blocked(cx));
                }
                Io::Closed(_) => break Err(Stop::Close(Reason::ResetByPeer)),
            }
        };
        cx.gathered.clear();
        outcome
    }

    /// The peer takes some bytes.
    fn takes(&mut self, bytes: usize, cx: &Context<'_>) {
        self.progress = cx.now;
        self.pace.takes(bytes, cx.now);
    }

    /// Counts bytes of a file that the kernel has taken. Whoever takes many has lines, whatever the others had.
    fn count_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
        if !self.is_announced && self.bytes >= LOGGED_FROM {
            self.announce();
        }
    }

    /// The same of bytes that were gathered: now they count, and now the log may say so.
    fn takes_gathered(&mut self, bytes: usize, cx: &Context<'_>) {
        self.takes(bytes, cx);
        let of_files = self.outbox.take(bytes);
        self.count_bytes(of_files);
        while let Some(piece) = self.outbox.pop_taken() {
            match piece {
                Piece::File(_, Some(line)) => log::info!(target: &self.label, "{line}"),
                Piece::File(_, None) => {}
                Piece::Reply(reply) => self.replied(reply, cx),
            }
        }
    }

    /// The kernel has all of a reply.
    fn replied(&mut self, answer: Option<Answer>, cx: &Context<'_>) {
        self.replies += 1;
        if let Some(answer) = answer.filter(|answer| answer.has_line) {
            let seconds = answer.seconds(cx.now);
            let speed = match answer.bytes() {
                0 => String::new(),
                // As a reader would reckon it, from what is shown.
                bytes => format!(", {}", text::speed(bytes, seconds.max(0.001))),
            };
            log::info!(target: &self.label, "sent {answer} to {} in {seconds:.3} s{speed}", Shown(self.peer));
        }
    }

    /// A reply ends with the last byte that was gathered, or, if there is none, with the last one that was sent.
    fn end_reply(&mut self, answer: Option<Answer>, cx: &Context<'_>) {
        match cx.gathered.len() {
            0 => self.replied(answer, cx),
            gathered => self.outbox.push(gathered, Piece::Reply(answer)),
        }
    }

    /// The peer takes nothing now, and has a time to take something.
    fn blocked(&mut self, cx: &Context<'_>) -> Stop {
        if self.pace.is_too_slow(cx.now, cx.limits.min_rate) {
            return Stop::Close(Reason::TooSlow);
        }
        let deadline = match self.is_refused {
            // A peer that does not even take a refusal is not waited for longer than for a request.
            true => self.opened + cx.limits.request_timeout + LINGER_TIME,
            false => self.progress + cx.limits.idle_timeout,
        };
        blocked_until(deadline, cx)
    }

    /// Takes the outcome of the digest job that this connection waits for.
    pub fn digest_done(&mut self, outcome: &Result<Digest, Failure>) {
        let reply = match &mut self.state {
            State::SendingHeader(SendingHeader { reply, header }) => {
                if let (Ok(digest), Header::V1(pieces)) = (outcome, header) {
                    pieces.push_digest(digest);
                }
                reply
            }
            State::Streaming(Streaming { reply, .. }) | State::AwaitingDigest(reply) => reply,
            _ => return,
        };
        reply.digest = match outcome {
            Ok(digest) => Awaited::Known(*digest),
            // The line about the end of the reply says so.
            Err(failure) => Awaited::Failed(failure.clone()),
        };
    }

    /// The reason to close now if the server stops; `None` while a reply is under way, which a shutdown waits for.
    pub fn reason_to_stop(&self) -> Option<Reason> {
        match &self.state {
            State::ReadingRequest(_) if self.unsent.is_empty() => Some(Reason::Shutdown),
            State::Lingering(Lingering { reason, .. }) | State::Closed(Ended { reason, .. }) => Some(*reason),
            _ => None,
        }
    }

    /// Whether what has come from it is a request, if anything has.
    pub fn awaits_request(&self) -> bool {
        matches!(self.state, State::ReadingRequest(_))
    }

    /// Since when it has been kept open after a reply with nothing to do.
    pub fn idle_since(&self) -> Option<Instant> {
        match self.state {
            State::ReadingRequest(Asking::Idle(since)) => Some(since),
            _ => None,
        }
    }

    /// What it is doing.
    pub fn activity(&self) -> Activity {
        match &self.state {
            State::ReadingRequest(_) if self.unsent.is_empty() => Activity::Idle,
            State::AwaitingDigest(_) => Activity::Hashing,
            State::SendingHeader(SendingHeader { reply, .. }) if matches!(reply.digest, Awaited::Pending) => {
                Activity::Hashing
            }
            State::ReadingRequest(_) | State::SendingHeader(_) | State::Streaming(_) => Activity::Sending,
            State::Flushing(_) | State::Lingering(_) | State::Closed(_) => Activity::Closing,
        }
    }

    /// When the file that it sends or hashes was asked for, if it does one of these.
    pub fn asked(&self) -> Option<Instant> {
        match &self.state {
            State::SendingHeader(SendingHeader { reply, .. })
            | State::Streaming(Streaming { reply, .. })
            | State::AwaitingDigest(reply) => Some(reply.asked),
            _ => self.outbox.replies().next().map(|(answer, _)| answer.asked),
        }
    }

    /// Logs which file it sends or hashes, how far, how fast and for how long; nothing where it does neither.
    pub fn log_activity(&self, digests: &Digests, me: Waiter, now: Instant) {
        let (answer, at, since) = match &self.state {
            State::SendingHeader(SendingHeader { reply, .. }) => (reply.answer(false), 0, None),
            State::Streaming(Streaming { reply, offset, from, began_after, .. }) => {
                let at = offset.saturating_sub(self.outbox.last_file_bytes());
                let began = reply.asked + Duration::from_millis(u64::from(*began_after));
                (reply.answer(false), at, Some((*from, began)))
            }
            State::AwaitingDigest(reply) => (reply.answer(false), 0, None),
            _ => match self.outbox.replies().next() {
                Some((answer, left)) => (answer.clone(), answer.size.saturating_sub(left), None),
                None => return,
            },
        };
        let (peer, name, size) = (Shown(self.peer), text::in_quotes(&answer.name), answer.size);
        let (what, to, at) = match self.activity() {
            Activity::Hashing => ("hashing", "for", digests.progress(me).map_or(0, |job| job.hashed)),
            _ => ("sending", "to", at),
        };
        let percent = parts(at, size, 100);
        let speed = since.map_or(String::new(), |(from, began)| {
            let seconds = now.saturating_duration_since(began).as_secs_f64();
            format!(", {} on average", text::speed(at.saturating_sub(from), seconds))
        });
        let seconds = answer.seconds(now);
        log::info!(target: &self.label, "{what} {name} {to} {peer}: {percent}% ({at}/{size} bytes){speed}, {seconds:.1} s");
    }

    /// Logs every reply that the peer did not get to its end; whether there was one.
    fn log_cuts(&mut self, reason: Reason, limits: &Limits, log_limit: &mut LogLimit, now: Instant) -> bool {
        let unsent: Vec<Cut> = self
            .outbox
            .replies()
            .map(|(answer, left)| Cut { answer: answer.clone(), at: answer.size.saturating_sub(left), why: None })
            .collect();
        let state = std::mem::replace(&mut self.state, State::Closed(Ended::of(reason)));
        let last = state.cut().map(|cut| Cut { at: cut.at.saturating_sub(self.outbox.last_file_bytes()), ..cut });
        let mut is_cut = false;
        for mut cut in unsent.into_iter().chain(last) {
            is_cut = true;
            cut.why = cut.why.or_else(|| reason.limit(limits));
            self.log_cut(&cut, reason, log_limit, now);
        }
        is_cut
    }

    /// Writes the closing line, if the log knows of it, and lets go of everything. What the kernel would keep sending after
    /// that is beyond every limit, so that it is dropped.
    pub fn close(
        mut self,
        reason: Reason,
        limits: &Limits,
        digests: &mut Digests,
        log_limit: &mut LogLimit,
        me: Waiter,
        now: Instant,
    ) {
        digests.leave(me);
        let is_flushed = match self.state {
            State::Closed(_) => !matches!(reason, Reason::IdleTimeout | Reason::TooSlow),
            State::Lingering(_) => true,
            // Somebody else ends it: another connection that needs the room, or a shutdown.
            _ => self.unsent.is_empty() && self.transport.flush() == Flush::Done,
        };
        if !is_flushed {
            self.transport.abort();
        }
        let is_cut = self.log_cuts(reason, limits, log_limit, now);
        if self.is_announced {
            self.log_end(reason, is_cut, now);
        }
    }

    /// Writes the closing line.
    fn log_end(&self, reason: Reason, is_cut: bool, now: Instant) {
        // The line about the file has said so already.
        let level = if reason.is_limit() && !is_cut { Level::Warn } else { Level::Info };
        let without_lines = |count: u64, one, many| match count {
            0 => String::new(),
            n => format!(", {} without a line", text::count(n, one, many)),
        };
        let unlogged = without_lines(self.refusals.unlogged_replies.into(), "reply", "replies")
            + &without_lines(self.refusals.unlogged, "refusal", "refusals");
        // Its operator may look for clients to be updated.
        let version = if self.dialect == Some(Dialect::V1) { ", version 1" } else { "" };
        log::log!(
            target: &self.label,
            level,
            "closed {}: {}, {} bytes, {:.3} s{version}{unlogged}, reason: {reason}",
            Shown(self.peer),
            text::count(self.replies, "reply", "replies"),
            self.bytes,
            now.duration_since(self.opened).as_secs_f64(),
        );
    }

    /// Panics if it holds more memory than it may between two turns.
    #[cfg(test)]
    pub fn check_bounds(&self) {
        // The frames around a piece of a file, or those of a refusal.
        let frames = 2 * (v2::HEADER_LEN + 2 + crate::proto::MESSAGE_MAX);
        let unsent_max = GATHERED_ENOUGH + GATHERED_MAX as usize + frames;
        assert!(self.unsent.len() <= unsent_max, "{} bytes unsent", self.unsent.len());
        assert!(self.input.len() <= INPUT_MAX, "{} bytes of input", self.input.len());
    }

    fn speaks_v2(&self) -> bool {
        self.dialect == Some(Dialect::V2)
    }

    fn reading_request(&mut self, asking: Asking, cx: &mut Context<'_>) -> Step {
        loop {
            if cx.budget == 0 {
                return Step::Rest(State::ReadingRequest(asking), Turn::Yield);
            }
            if let Some(step) = self.take_request(cx) {
                return step;
            }
            // What was asked before is answered before more is read, or the end of it is found.
            if let Err(stop) = self.send_gathered(Behind::Nothing, cx) {
                return stop.without_failure(State::ReadingRequest(asking));
            }
            // Never without room: a full buffer holds a whole request, or none that could become one.
            let room = INPUT_MAX.saturating_sub(self.input.len()).min(cx.scratch.len());
            match self.transport.read(&mut cx.scratch[..room]) {
                Io::Done(n) => {
                    if self.input.capacity() == 0 {
                        self.input = std::mem::take(cx.spare);
                    }
                    self.input.extend_from_slice(&cx.scratch[..n]);
                }
                Io::WouldBlock => return self.rest_until_asked(asking, cx),
                Io::Closed(Closed::EndOfInput) if self.replies > 0 => {
                    return self.end(Reason::Complete, Farewell::Close);
                }
                Io::Closed(Closed::EndOfInput) => return Step::Close(Ended::of(Reason::PeerClosed)),
                Io::Closed(_) => return Step::Close(Ended::of(Reason::ResetByPeer)),
            }
        }
    }

    /// Answers what has been asked whole.
    fn take_request(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        // A request names a part of it.
        let mut input = std::mem::take(&mut self.input);
        let taken = self.answer_first(&input, cx);
        let (used, step) = taken.map_or((0, None), |(used, step)| (used, Some(step)));
        input.drain(..used.min(input.len()));
        match input.is_empty() {
            // A connection may be kept for long; who reads next can use the memory.
            true if input.capacity() > 0 => *cx.spare = input,
            true => {}
            false => self.input = input,
        }
        step
    }

    /// Answers the first request, in the protocol that the first byte of the connection has announced: the bytes that it
    /// took, and what follows.
    fn answer_first(&mut self, input: &[u8], cx: &mut Context<'_>) -> Option<(usize, Step)> {
        let first = *input.first()?;
        match *self.dialect.get_or_insert_with(|| Dialect::of(first)) {
            Dialect::V2 => match v2::parse_asked(input) {
                Ok(None) => None,
                Ok(Some((used, asked))) => match (self.over_limit, asked) {
                    (None, asked) => Some((used, self.answer_frame(asked, cx))),
                    (Some(most), Asked::Get(request)) => {
                        Some((input.len(), self.refuse_one_too_many(Some(request.name), most, cx)))
                    }
                    (Some(most), _) => Some((input.len(), self.refuse_one_too_many(None, most, cx))),
                },
                Err(malformed) => Some((input.len(), self.refuse_bad(malformed, cx))),
            },
            // It has asked for nothing in time.
            _ if cx.stopping => Some((0, Step::Close(Ended::of(Reason::Shutdown)))),
            Dialect::V1 => match v1::parse_request(input) {
                Ok(None) => None,
                Ok(Some((_, request))) => match self.over_limit {
                    None => Some((input.len(), self.answer(request, cx))),
                    Some(most) => Some((input.len(), self.refuse_one_too_many(Some(request.name), most, cx))),
                },
                Err(malformed) => Some((input.len(), self.refuse_bad(malformed, cx))),
            },
            Dialect::Unknown => {
                Protocol::of(input).map(|protocol| (input.len(), self.refuse_foreign(protocol, input, cx)))
            }
        }
    }

    /// Whoever speaks another protocol is told so in that, as far as it is known.
    fn refuse_foreign(&mut self, protocol: Protocol, input: &[u8], cx: &mut Context<'_>) -> Step {
        if self.logs_refusal(cx.log_limit, cx.now) {
            log::warn!(target: &self.label, "refused {}: {}", Shown(self.peer), foreign::Shown(protocol, input));
        }
        let then = Then::End(Reason::UnknownProtocol);
        match protocol {
            Protocol::Http { is_head } => {
                cx.gathered.extend_from_slice(foreign::http_refusal(is_head).as_bytes());
                self.after_refusal(then, cx)
            }
            _ => self.refuse(ErrorCode::BadRequest, "Bad request: this server speaks only the xfer protocol", then, cx),
        }
    }

    /// What cannot be understood, and nothing behind it.
    fn refuse_bad(&mut self, malformed: Malformed, cx: &mut Context<'_>) -> Step {
        self.refuse_malformed(ErrorCode::BadRequest, malformed, Then::End(Reason::BadRequest), cx)
    }

    /// Nothing whole has been asked, and nothing more has come.
    fn rest_until_asked(&mut self, asking: Asking, cx: &mut Context<'_>) -> Step {
        self.input.shrink_to_fit();
        let (request_time, idle_time) = (cx.limits.request_timeout, cx.limits.idle_timeout);
        let (asking, deadline, reason) = match asking {
            // What has just been sent must reach the peer, whatever it is about to ask.
            Asking::Behind if cx.stopping => return self.end(Reason::Complete, Farewell::Linger),
            _ if cx.stopping => return self.end(Reason::Shutdown, Farewell::Close),
            Asking::First => (asking, self.opened + request_time, Reason::RequestTimeout),
            Asking::Begun(since) => (asking, since + request_time, Reason::RequestTimeout),
            Asking::Idle(since) if self.input.is_empty() => (asking, since + idle_time, Reason::KeepAliveTimeout),
            Asking::Behind if self.input.is_empty() => {
                (Asking::Idle(cx.now), cx.now + idle_time, Reason::KeepAliveTimeout)
            }
            Asking::Idle(_) | Asking::Behind => (Asking::Begun(cx.now), cx.now + request_time, Reason::RequestTimeout),
        };
        match cx.now >= deadline {
            true => self.end(reason, Farewell::Close),
            false => Step::Rest(State::ReadingRequest(asking), Turn::Wait(deadline)),
        }
    }

    fn answer_frame(&mut self, asked: Asked<'_>, cx: &mut Context<'_>) -> Step {
        match asked {
            Asked::Get(request) if cx.stopping => {
                if self.logs_refusal(cx.log_limit, cx.now) {
                    let shown = text::in_quotes(request.name);
                    log::warn!(target: &self.label, "refused {shown} to {}: shutting down", Shown(self.peer));
                }
                self.refuse(ErrorCode::ShuttingDown, "The server is shutting down", Then::NextRequest, cx)
            }
            Asked::Get(request) => self.answer(request, cx),
            Asked::Refused(code, malformed) => self.refuse_malformed(code, malformed, Then::NextRequest, cx),
        }
    }

    fn refuse_one_too_many(&mut self, name: Option<&[u8]>, most: NonZeroU32, cx: &mut Context<'_>) -> Step {
        if self.logs_refusal(cx.log_limit, cx.now) {
            let peer = Shown(self.peer);
            let what = name.map_or_else(
                || format!("a request from {peer}"),
                |name| format!("{} to {peer}", text::in_quotes(name)),
            );
            log::warn!(target: &self.label, "refused {what}: too many connections: an address can have at most {most} (--max-conns-per-ip)");
        }
        let message = "Too many connections from your address, try again later";
        self.refuse(ErrorCode::Busy, message, Then::End(Reason::TooMany), cx)
    }

    fn refuse_malformed(&mut self, code: ErrorCode, malformed: Malformed, then: Then, cx: &mut Context<'_>) -> Step {
        if self.logs_refusal(cx.log_limit, cx.now) {
            log::warn!(target: &self.label, "refused a request from {}: {malformed}", Shown(self.peer));
        }
        let what = if code == ErrorCode::Unsupported { "Unsupported" } else { "Bad request" };
        self.refuse(code, &format!("{what}: {malformed}"), then, cx)
    }

    fn refuse(&mut self, code: ErrorCode, message: &str, then: Then, cx: &mut Context<'_>) -> Step {
        match self.speaks_v2() {
            true => v2::encode_error(code, message, cx.gathered),
            false => cx.gathered.extend_from_slice(&v1::encode_error(message)),
        }
        self.after_refusal(then, cx)
    }

    /// What follows a refusal that has just been gathered.
    fn after_refusal(&mut self, then: Then, cx: &mut Context<'_>) -> Step {
        cx.spend(REQUEST_COST);
        self.is_refused = !self.speaks_v2();
        self.end_reply(None, cx);
        match then {
            Then::NextRequest => Step::Next(State::ReadingRequest(Asking::Behind)),
            Then::End(reason) => self.end(reason, Farewell::Linger),
        }
    }

    /// What follows when there is no file: version 1 knows one request a connection.
    fn then(&self, reason: Reason) -> Then {
        if self.speaks_v2() { Then::NextRequest } else { Then::End(reason) }
    }

    /// Looks the name up, and begins the reply.
    fn answer(&mut self, request: Request<'_>, cx: &mut Context<'_>) -> Step {
        match cx.root.file(request.name, cx.now) {
            Ok(found) => {
                cx.spend(REQUEST_COST);
                // A large file may be asked for and not be taken: its lines come when it is.
                if !self.is_announced && cx.log_limit.take_reply(0, cx.now) {
                    self.announce();
                }
                let (name, size) = (text::in_quotes(request.name), found.file.stamp.size);
                log::debug!(target: &self.label, "request for {name} from {}: {size} bytes", Shown(self.peer));
                let begin = if self.speaks_v2() { begin_v2 } else { begin_v1 };
                let (reply, header) = begin(request, found, cx);
                Step::Next(State::SendingHeader(SendingHeader { reply, header }))
            }
            Err(Refusal::NotFound(why)) => {
                self.log_refused(request.name, Level::Warn, format_args!("not found ({why})"), cx);
                self.refuse_not_found(request.name, cx)
            }
            Err(Refusal::Fault(error)) => {
                let why = crate::error::reason(&error);
                self.log_refused(request.name, Level::Error, format_args!("not found ({why})"), cx);
                self.refuse_not_found(request.name, cx)
            }
            Err(Refusal::Busy(error)) => {
                let why = crate::error::reason(&error);
                self.log_refused(request.name, Level::Error, format_args!("busy ({why})"), cx);
                self.refuse(ErrorCode::Busy, "Server is busy, try again later", self.then(Reason::Busy), cx)
            }
        }
    }

    fn log_refused(&mut self, name: &[u8], level: Level, why: std::fmt::Arguments<'_>, cx: &mut Context<'_>) {
        if self.logs_refusal(cx.log_limit, cx.now) {
            log::log!(target: &self.label, level, "refused {} to {}: {why}", text::in_quotes(name), Shown(self.peer));
        }
    }

    fn refuse_not_found(&mut self, name: &[u8], cx: &mut Context<'_>) -> Step {
        let message = v1::not_found(&String::from_utf8_lossy(name));
        self.refuse(ErrorCode::NotFound, &message, self.then(Reason::Refused), cx)
    }

    fn sending_header(&mut self, state: SendingHeader, cx: &mut Context<'_>) -> Step {
        match state.header {
            Header::V1(pieces) => self.sending_pieces(state.reply, pieces, cx),
            Header::V2(file) => {
                v2::encode_file(&file, cx.gathered);
                self.after_header(state.reply, cx)
            }
        }
    }

    /// The header of version 1, each piece in a write of its own.
    fn sending_pieces(&mut self, reply: Reply, mut pieces: Pieces, cx: &mut Context<'_>) -> Step {
        if self.is_reset(cx) {
            let state = State::SendingHeader(SendingHeader { reply, header: Header::V1(pieces) });
            return Stop::Close(Reason::ResetByPeer).without_failure(state);
        }
        // The bytes of the file come behind its digest, or not at all.
        if let Awaited::Failed(failure) = &reply.digest {
            return self.fail_v1(&reply, &pieces, failure, cx);
        }
        let stop = loop {
            let out = pieces.out(cx.now);
            if out.is_empty() {
                if pieces.is_sent() {
                    return self.after_header(reply, cx);
                }
                break Stop::Rest(Turn::Wait(pieces.next_at(cx.now)));
            }
            match self.transport.write(out) {
                Io::Done(n) => pieces.advance(n, cx.now),
                Io::WouldBlock => break blocked_until(pieces.last + cx.limits.idle_timeout, cx),
                Io::Closed(_) => break Stop::Close(Reason::ResetByPeer),
            }
        };
        stop.without_failure(State::SendingHeader(SendingHeader { reply, header: Header::V1(pieces) }))
    }

    /// Ends a reply of version 1 that has no digest. Behind `OK` there is no room for a reason.
    fn fail_v1(&mut self, reply: &Reply, pieces: &Pieces, failure: &Failure, cx: &mut Context<'_>) -> Step {
        let (reason, why) = cause(failure, &reply.file);
        if reason == Reason::ReadError && pieces.is_unsent() {
            self.log_failed(reply, 0, reason, &why, cx);
            return self.refuse(ErrorCode::ReadError, &unreadable(&why), Then::End(reason), cx);
        }
        self.fail(reply, 0, reason, &why, cx)
    }

    /// Whether the peer has cut the connection. What it says meanwhile does not matter in version 1, but a reset may
    /// stand behind it, or behind its end.
    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            match self.transport.read(cx.scratch) {
                Io::Done(n) => discarded += n,
                Io::WouldBlock => return false,
                Io::Closed(Closed::EndOfInput) => return self.transport.is_cut(),
                Io::Closed(_) => return true,
            }
        }
        false
    }

    fn after_header(&mut self, reply: Reply, cx: &mut Context<'_>) -> Step {
        match reply.brings {
            Brings::Bytes { from } => {
                self.progress = cx.now;
                Step::Next(State::Streaming(Streaming::new(reply, from, cx.now)))
            }
            Brings::Digest => Step::Next(State::AwaitingDigest(reply)),
            Brings::Size => self.complete(&reply, cx),
        }
    }

    fn streaming(&mut self, mut state: Streaming, cx: &mut Context<'_>) -> Step {
        let stop = loop {
            let moved = match state.window {
                Window::Border if state.left() == 0 => break None,
                Window::Border if self.speaks_v2() && state.frame_max() <= GATHERED_MAX => self.gather(&mut state, cx),
                Window::Border => self.open_window(&mut state, cx),
                Window::Bytes(left) => self.send_bytes(&mut state, left, cx),
                Window::Zeros(left) => self.send_zeros(&mut state, left, cx),
            };
            if let Err(stop) = moved {
                break Some(stop);
            }
        };
        match stop {
            None if self.speaks_v2() => Step::Next(State::AwaitingDigest(state.reply)),
            // The digest is out, and cannot be taken back; but nobody is told that all went well.
            None if !state.reply.file.is_unchanged() => {
                let why = state.reply.file.change(WRITTEN_TO);
                self.fail(&state.reply, state.offset, Reason::FileChanged, &why, cx)
            }
            None => self.complete(&state.reply, cx),
            Some(Stop::Fail(reason, why)) => self.fail(&state.reply, state.offset, reason, &why, cx),
            Some(Stop::Abort(reason, why)) => {
                self.transport.abort();
                let (answer, at) = (state.reply.answer(false), state.offset);
                Step::Close(Ended { reason, cut: Some(Cut { answer, at, why: Some(why) }) })
            }
            Some(stop) => stop.without_failure(State::Streaming(state)),
        }
    }

    /// Whether another window may be opened.
    fn may_go_on(state: &Streaming, cx: &Context<'_>) -> Result<(), Stop> {
        if let Awaited::Failed(failure) = &state.reply.digest {
            let (reason, why) = cause(failure, &state.reply.file);
            return Err(Stop::Fail(reason, why));
        }
        match cx.budget {
            0 => Err(Stop::Rest(Turn::Yield)),
            _ => Ok(()),
        }
    }

    /// Looks what can be sent without waiting for the disk, and whether the file is still the one that was announced.
    fn open_window(&mut self, state: &mut Streaming, cx: &mut Context<'_>) -> Result<(), Stop> {
        Self::may_go_on(state, cx)?;
        let len_max = if self.speaks_v2() { state.frame_max() } else { state.left().min(WINDOW) };
        let ready = state.probe(len_max);
        let len = self.found(state, ready, cx)?;
        if !state.reply.file.is_unchanged() {
            return Err(has_changed(&state.reply));
        }
        // Only the probe has told whether reading may wait for the disk.
        cx.budget = cx.budget.min(state.reply.file.turn_budget(TURN_BUDGET));
        if self.speaks_v2() {
            v2::encode_data_header(len, cx.gathered);
        }
        // Until now there was nothing for the peer to take.
        self.progress = cx.now;
        state.window = Window::Bytes(len);
        Ok(())
    }

    /// Puts a short frame, the first one or what is left of the file, among the gathered ones.
    fn gather(&mut self, state: &mut Streaming, cx: &mut Context<'_>) -> Result<(), Stop> {
        Self::may_go_on(state, cx)?;
        if cx.gathered.len() >= GATHERED_ENOUGH {
            self.send_gathered(Behind::Nothing, cx)?;
        }
        // Behind the last one comes the digest, and the same is asked before that.
        if state.frame_max() < state.left() && !state.reply.file.is_unchanged() {
            return Err(has_changed(&state.reply));
        }
        let room = usize::try_from(state.frame_max()).unwrap_or(usize::MAX).min(cx.scratch.len());
        let (file, offset) = (&state.reply.file, state.offset);
        let ready = file.read_ready(&mut cx.scratch[..room], offset, &mut state.patience);
        let len = self.found(state, ready, cx)?;
        v2::encode_data_header(len, cx.gathered);
        cx.gathered.extend_from_slice(&cx.scratch[..len]);
        state.offset += len as u64;
        cx.spend(len);
        let line = self.progress_line(state, cx.now);
        self.outbox.push(cx.gathered.len(), Piece::File(len, line));
        Ok(())
    }

    /// The bytes that a look at the file found, or what follows from there being none.
    fn found(&self, state: &mut Streaming, ready: Ready, cx: &mut Context<'_>) -> Result<usize, Stop> {
        match ready {
            Ready::Bytes(n) => {
                state.reply.end_wait();
                Ok(n)
            }
            Ready::NotYet => {
                if self.speaks_v2() {
                    state.reply.wait(true, cx);
                }
                Err(Stop::Rest(Turn::Pause(state.patience.look_again_at(cx.now))))
            }
            Ready::End => Err(ended_early(&state.reply)),
            Ready::Failed(error) => Err(Stop::Fail(Reason::ReadError, crate::error::reason(&error))),
        }
    }

    fn send_bytes(&mut self, state: &mut Streaming, left: usize, cx: &mut Context<'_>) -> Result<(), Stop> {
        if cx.budget == 0 {
            return Err(Stop::Rest(Turn::Yield));
        }
        self.send_gathered(Behind::File, cx)?;
        let sent = match state.reply.file.is_copied() {
            true => self.copy_bytes(state, left.min(cx.budget), cx)?,
            false => self.transport.send_file(&state.reply.file, state.offset, left.min(cx.budget)),
        };
        match sent {
            // What a frame has promised must come, and nothing of it counts.
            Io::Done(0) if self.speaks_v2() => state.window = Window::Zeros(left),
            Io::Done(0) => return Err(ended_early(&state.reply)),
            Io::Done(n) => {
                // sendfile sends no more than it was told, which was at most `left`.
                state.window = match left.saturating_sub(n) {
                    0 => Window::Border,
                    left => Window::Bytes(left),
                };
                self.takes(n, cx);
                self.count_bytes(n as u64);
                state.offset += n as u64;
                cx.spend(n);
                if let Some(line) = self.progress_line(state, cx.now) {
                    log::info!(target: &self.label, "{line}");
                }
            }
            Io::WouldBlock => return Err(self.blocked(cx)),
            // The same bytes are copied next.
            Io::Closed(Closed::Failed(error)) if state.reply.file.refuses_sendfile(&error) => {}
            Io::Closed(Closed::Failed(error)) if self.speaks_v2() => {
                // The retry meets this one at a border.
                return Err(Stop::Abort(Reason::ReadError, crate::error::reason(&error)));
            }
            Io::Closed(Closed::Failed(error)) => {
                return Err(Stop::Fail(Reason::ReadError, crate::error::reason(&error)));
            }
            Io::Closed(_) => return Err(Stop::Close(Reason::ResetByPeer)),
        }
        Ok(())
    }

    /// Sends bytes of a file whose file system has no sendfile: reads what is in memory, and writes that.
    fn copy_bytes(&mut self, state: &mut Streaming, most: usize, cx: &mut Context<'_>) -> Result<Io, Stop> {
        let room = most.min(cx.scratch.len());
        match state.reply.file.read_ready(&mut cx.scratch[..room], state.offset, &mut state.patience) {
            Ready::Bytes(n) => Ok(self.transport.write(&cx.scratch[..n])),
            // They were in memory when the window was opened. No WAIT fits into a frame.
            Ready::NotYet => Err(Stop::Rest(Turn::Pause(state.patience.look_again_at(cx.now)))),
            Ready::End => Ok(Io::Done(0)),
            Ready::Failed(error) => Ok(Io::Closed(Closed::Failed(error))),
        }
    }

    fn send_zeros(&mut self, state: &mut Streaming, left: usize, cx: &mut Context<'_>) -> Result<(), Stop> {
        if left == 0 {
            return Err(ended_early(&state.reply));
        }
        if cx.budget == 0 {
            return Err(Stop::Rest(Turn::Yield));
        }
        let len = left.min(cx.budget).min(ZEROS.len());
        match self.transport.write(ZEROS.get(..len).unwrap_or(&ZEROS)) {
            Io::Done(n) => {
                state.window = Window::Zeros(left.saturating_sub(n));
                self.takes(n, cx);
                cx.spend(n);
                Ok(())
            }
            Io::WouldBlock => Err(self.blocked(cx)),
            Io::Closed(_) => Err(Stop::Close(Reason::ResetByPeer)),
        }
    }

    fn awaiting_digest(&mut self, mut reply: Reply, cx: &mut Context<'_>) -> Step {
        let size = reply.file.stamp.size;
        match &reply.digest {
            Awaited::Known(_) if !reply.file.is_unchanged() => {
                let why = reply.file.change(WRITTEN_TO);
                self.fail(&reply, size, Reason::FileChanged, &why, cx)
            }
            Awaited::Known(digest) => {
                v2::encode_digest(digest, cx.gathered);
                self.complete(&reply, cx)
            }
            Awaited::Failed(failure) => {
                let (reason, why) = cause(failure, &reply.file);
                self.fail(&reply, size, reason, &why, cx)
            }
            Awaited::Pending => {
                let until = reply.wait(false, cx);
                Step::Rest(State::AwaitingDigest(reply), Turn::Wait(until))
            }
        }
    }

    /// Ends a reply in the middle: in version 1 the peer learns it from the missing bytes.
    fn fail(&mut self, reply: &Reply, at: u64, reason: Reason, why: &str, cx: &mut Context<'_>) -> Step {
        self.log_failed(reply, at, reason, why, cx);
        cx.digests.leave(cx.me);
        if !self.speaks_v2() {
            return self.end(reason, Farewell::Close);
        }
        match reason {
            Reason::ReadError => self.refuse(ErrorCode::ReadError, &unreadable(why), Then::NextRequest, cx),
            _ => self.refuse(ErrorCode::Changed, "The file changed while it was sent", Then::NextRequest, cx),
        }
    }

    fn log_failed(&mut self, reply: &Reply, at: u64, reason: Reason, why: &str, cx: &mut Context<'_>) {
        let at = at.saturating_sub(self.outbox.last_file_bytes());
        let cut = Cut { answer: reply.answer(false), at, why: Some(why.to_string()) };
        self.log_cut(&cut, reason, cx.log_limit, cx.now);
    }

    fn log_cut(&mut self, cut: &Cut, reason: Reason, log_limit: &mut LogLimit, now: Instant) {
        if !self.logs_refusal(log_limit, now) {
            return;
        }
        let (what, seconds) = (cut.answer.cut_at(cut.at), cut.answer.seconds(now));
        let why = cut.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let (peer, level) = (Shown(self.peer), reason.level());
        log::log!(target: &self.label, level, "{what} to {peer}: {reason}{why} ({seconds:.3} s)");
    }

    fn complete(&mut self, reply: &Reply, cx: &mut Context<'_>) -> Step {
        let has_line = self.is_announced && cx.log_limit.take_reply(reply.bytes(), cx.now);
        if !has_line {
            self.refusals.unlogged_replies = self.refusals.unlogged_replies.saturating_add(1);
        }
        self.end_reply(Some(reply.answer(has_line)), cx);
        match self.speaks_v2() {
            true => Step::Next(State::ReadingRequest(Asking::Behind)),
            false => self.end(Reason::Complete, Farewell::Linger),
        }
    }

    /// A line for the highest tenth of the file passed by now; none for a small file that goes fast.
    fn progress_line(&self, state: &mut Streaming, now: Instant) -> Option<String> {
        let size = state.reply.file.stamp.size;
        let tenths = parts(state.offset, size, 10);
        let is_slow = || now.saturating_duration_since(state.reply.asked) >= PROGRESS_AFTER;
        if tenths <= state.tenths || size.saturating_sub(state.from) < PROGRESS_FROM && !is_slow() {
            return None;
        }
        state.tenths = tenths;
        if !self.is_announced {
            return None;
        }
        let (name, peer, percent, at) =
            (text::in_quotes(&state.reply.name), Shown(self.peer), tenths * 10, state.offset);
        Some(format!("progress of {name} to {peer}: {percent}% ({at}/{size} bytes)"))
    }

    /// Ends the connection in order, when the peer has what was sent to it.
    fn end(&mut self, reason: Reason, farewell: Farewell) -> Step {
        Step::Next(State::Flushing(Flushing { reason, farewell, left: None }))
    }

    fn flushing(&mut self, mut state: Flushing, cx: &mut Context<'_>) -> Step {
        if let Err(stop) = self.send_gathered(Behind::Nothing, cx) {
            return stop.without_failure(State::Flushing(state));
        }
        match self.transport.flush() {
            Flush::Done => match state.farewell {
                Farewell::Linger => self.linger(state.reason, cx),
                Farewell::Close => Step::Close(Ended::of(state.reason)),
            },
            Flush::Left(left) => {
                match state.left {
                    // Nobody has looked since the kernel took the last byte, which may be long ago.
                    None => self.progress = cx.now,
                    Some(before) if left < before => self.takes((before - left) as usize, cx),
                    Some(_) => {}
                }
                state.left = Some(state.left.map_or(left, |before| before.min(left)));
                self.blocked(cx).without_failure(State::Flushing(state))
            }
            Flush::Cut => Step::Close(Ended::of(Reason::ResetByPeer)),
        }
    }

    fn linger(&mut self, reason: Reason, cx: &Context<'_>) -> Step {
        self.transport.finish();
        Step::Next(State::Lingering(Lingering { reason, discarded: 0, until: cx.now + LINGER_TIME }))
    }

    fn lingering(&mut self, mut state: Lingering, cx: &mut Context<'_>) -> Step {
        while state.discarded <= LINGER_BYTES_MAX && cx.now < state.until {
            match self.transport.read(cx.scratch) {
                Io::Done(n) => state.discarded += n,
                Io::WouldBlock => {
                    let until = state.until;
                    return Step::Rest(State::Lingering(state), Turn::Wait(until));
                }
                Io::Closed(_) => break,
            }
        }
        Step::Close(Ended::of(state.reason))
    }
}

/// What is said of a file that is not what was announced any more.
const WRITTEN_TO: &str = "it was written to";

fn has_changed(reply: &Reply) -> Stop {
    Stop::Fail(Reason::FileChanged, reply.file.change(WRITTEN_TO))
}

/// The file has ended before the last byte that was announced: it has changed, which a retry may find settled, or it
/// never had so many.
fn ended_early(reply: &Reply) -> Stop {
    match reply.file.untrue_size("fewer") {
        Some(why) => Stop::Fail(Reason::ReadError, why),
        None => has_changed(reply),
    }
}

/// What a peer is told of a file that cannot be read.
fn unreadable(why: &str) -> String {
    format!("The file cannot be read: {why}")
}

/// The peer takes nothing now, and has until the deadline to take something.
fn blocked_until(deadline: Instant, cx: &Context<'_>) -> Stop {
    match cx.now >= deadline {
        true => Stop::Close(Reason::IdleTimeout),
        false => Stop::Rest(Turn::Wait(deadline)),
    }
}

/// How many of so many equal parts of a file lie before an offset.
fn parts(offset: u64, size: u64, all: u32) -> u32 {
    // u128: a hundred times a file size may not fit a u64.
    u32::try_from(u128::from(offset) * u128::from(all) / u128::from(size.max(1))).unwrap_or(all)
}

impl Context<'_> {
    fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }
}

impl Stop {
    /// The step out of a state whose own failures have been dealt with.
    fn without_failure(self, state: State) -> Step {
        match self {
            Stop::Rest(turn) => Step::Rest(state, turn),
            Stop::Close(reason) | Stop::Fail(reason, _) | Stop::Abort(reason, _) => {
                Step::Close(Ended { reason, cut: state.cut() })
            }
        }
    }
}

impl Ended {
    /// The end of a connection that cuts no reply.
    fn of(reason: Reason) -> Ended {
        Ended { reason, cut: None }
    }
}

impl State {
    /// The reply that is cut if the connection ends in this state.
    fn cut(self) -> Option<Cut> {
        let (reply, at) = match self {
            State::SendingHeader(SendingHeader { reply, .. }) => match reply.brings {
                Brings::Bytes { from } => (reply, from),
                Brings::Digest | Brings::Size => (reply, 0),
            },
            State::Streaming(Streaming { reply, offset, .. }) => (reply, offset),
            State::AwaitingDigest(reply) => {
                let size = reply.file.stamp.size;
                (reply, size)
            }
            State::Closed(Ended { cut, .. }) => return cut,
            State::ReadingRequest(_) | State::Flushing(_) | State::Lingering(_) => return None,
        };
        Some(Cut { answer: reply.answer(false), at, why: None })
    }
}

impl Streaming {
    fn new(reply: Reply, from: u64, now: Instant) -> Streaming {
        let tenths = parts(from, reply.file.stamp.size, 10);
        let (window, patience) = (Window::Border, Patience::default());
        let began_after = u32::try_from(now.duration_since(reply.asked).as_millis()).unwrap_or(u32::MAX);
        Streaming { reply, from, offset: from, window, patience, began_after, tenths }
    }

    fn left(&self) -> u64 {
        self.reply.file.stamp.size.saturating_sub(self.offset)
    }

    /// Bytes that the next frame has at most. Frames of 1, 2, 4, 8 add up to one less than the next.
    fn frame_max(&self) -> u64 {
        (self.offset - self.from + FIRST_FRAME).min(WINDOW).min(self.left())
    }

    fn probe(&mut self, len_max: u64) -> Ready {
        // A page that cannot be read cuts the frame that it is in. The retry begins with that frame, which now must end
        // before the page, so that the error has a place behind it. Where the digest is known, all could be read.
        let careful = match self.reply.digest {
            Awaited::Known(_) => 0,
            Awaited::Pending | Awaited::Failed(_) => WINDOW.saturating_sub(self.offset - self.from),
        };
        self.reply.file.probe(self.offset, len_max, careful, &mut self.patience)
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
