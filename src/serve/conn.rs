//! One connection: all its states and every transition between them.
//!
//! ```text
//!                    a file                  the digest is known,
//!   ReadingRequest ---------> SendingHeader ---------------------> Streaming
//!        |                                    the header is out        |
//!        | none, or malformed                                          | the last byte is out
//!        v                          the message is out                 v
//!    Refusing -----------------------------------------------------> Lingering ---> Closed
//! ```
//!
//! From every state a time limit, a reset or a failing file leads to Closed, which has the reason. A state is consumed
//! by the function that is named after it, and falls through to the next one as long as it can.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Limits;
use super::digests::{Digests, Failure, Waiter};
use crate::file::{Patience, Ready, ServedFile};
use crate::net::{Closed, Io, Transport};
use crate::proto::digest::Digest;
use crate::proto::{Dialect, Malformed, NAME_MAX, Request, v1};
use crate::root::{Refusal, Root};
use crate::text;

/// Bytes that a connection may send before others get their turn: some 60 µs of loopback. (nginx: sendfile_max_chunk 2m.)
const TURN_BUDGET: usize = 256 * 1024;

/// Bytes of a file that are probed, and then sent, at a time.
const WINDOW: u64 = 256 * 1024;

/// Pause between `OK` and the metadata of version 1. The first client reads the status with one `recv(5)` and fails if
/// anything has arrived behind `OK`. Of 100 such clients at once on two cores, 96 were served with a gap of 50 ms, 98
/// with 100 ms, all with 250 ms.
const V1_GAP: Duration = Duration::from_millis(250);

/// While a file is hashed, one more field of the header goes out this often: the first client reads each with a
/// timeout of 10 s.
const V1_FIELD_PAUSE: Duration = Duration::from_secs(8);

/// From this size on, even `OK` waits for the digest as long as a field may: a hash of 1 GiB takes so long that the gap
/// behind it does not matter, and from a slow disk the first client needs every second that it can be given.
const V1_HOLD_OK_FROM: u64 = 1 << 30;

/// How old a kept digest may be for version 1, which has no way to ask for a new one: a store through a mapping
/// changes a file and none of its time stamps.
const V1_DIGEST_AGE: Duration = Duration::from_secs(600);

/// Bytes discarded at most after the end of a reply. Closing with unread input behind it is a reset, which can destroy
/// the reply on its way. (nginx: lingering_timeout; Apache: 2 s between reads.)
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may go on sending after the end of its reply.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes of a version 1 request at most.
const REQUEST_MAX: usize = 4 + NAME_MAX;

/// Why a connection ended: one of these stands in its closing line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The file was sent.
    Complete,
    /// There is no such file for this peer.
    Refused,
    /// The request can never become one.
    BadRequest,
    /// The first byte belongs to no protocol of ours.
    UnknownProtocol,
    /// No whole request in time.
    RequestTimeout,
    /// The peer took no byte for too long.
    IdleTimeout,
    /// The peer closed before it had asked for anything.
    PeerClosed,
    /// The peer cut the connection.
    ResetByPeer,
    /// The file changed while it was hashed or sent.
    FileChanged,
    /// The file cannot be read.
    ReadError,
    /// The server lacks descriptors or memory.
    Busy,
    /// The server ends, and nothing was under way.
    Shutdown,
    /// The server ends, and the time for what was under way is over.
    DrainTimeout,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Complete => "complete",
            Reason::Refused => "refused",
            Reason::BadRequest => "bad request",
            Reason::UnknownProtocol => "unknown protocol",
            Reason::RequestTimeout => "request timeout",
            Reason::IdleTimeout => "idle timeout",
            Reason::PeerClosed => "peer closed",
            Reason::ResetByPeer => "reset by peer",
            Reason::FileChanged => "file changed",
            Reason::ReadError => "read error",
            Reason::Busy => "busy",
            Reason::Shutdown => "shutdown",
            Reason::DrainTimeout => "drain timeout",
        })
    }
}

/// What a connection needs from the server during a turn.
pub struct Context<'a> {
    /// The time of this pass.
    pub now: Instant,
    /// Who this connection is to the digest jobs.
    pub me: Waiter,
    /// The shared directory.
    pub root: &'a mut Root,
    /// Digest jobs and kept digests.
    pub digests: &'a mut Digests,
    /// Time limits.
    pub limits: &'a Limits,
    /// Room for input, shared by all connections.
    pub scratch: &'a mut [u8],
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
    opened: Instant,
    /// Replies sent whole, refusals among them.
    pub replies: u64,
    /// Bytes of files sent.
    pub bytes: u64,
    state: State,
}

enum State {
    ReadingRequest(ReadingRequest),
    SendingHeader(SendingHeader),
    Streaming(Streaming),
    Refusing(Refusing),
    Lingering(Lingering),
    Closed(Reason),
}

struct ReadingRequest {
    /// What has arrived; at most [`REQUEST_MAX`] bytes.
    input: Vec<u8>,
}

/// A file on its way to a client.
struct Reply {
    file: Rc<ServedFile>,
    name: Box<[u8]>,
    asked: Instant,
}

struct SendingHeader {
    reply: Reply,
    head: v1::Head,
    /// Bytes of the head sent; 0 <= sent <= head.bytes.len().
    sent: usize,
    /// When the request came, or the last byte of the head went.
    last: Instant,
    digest: Awaited,
}

/// A digest, as a connection has it.
enum Awaited {
    Pending,
    Known,
    Failed(Reason),
}

struct Streaming {
    reply: Reply,
    /// Bytes sent; 0 <= offset <= size.
    offset: u64,
    /// Bytes from `offset` on that a probe has found in memory.
    ready: usize,
    patience: Patience,
    /// When the peer took a byte last.
    progress: Instant,
    /// Tenths of the file that the log has mentioned.
    tenths: u64,
}

struct Refusing {
    out: Vec<u8>,
    /// Bytes of `out` sent.
    sent: usize,
    reason: Reason,
}

struct Lingering {
    reason: Reason,
    discarded: usize,
    until: Instant,
}

/// What a state's function made of it.
enum Step {
    /// Go on with this state at once.
    Next(State),
    /// The turn ends like this, in this state.
    Rest(State, Turn),
    /// The connection ends.
    Close(Reason),
}

impl<T: Transport> Conn<T> {
    /// A connection that has just been accepted.
    pub fn new(transport: T, peer: SocketAddr, number: u64, now: Instant) -> Conn<T> {
        let label = format!("conn-{number}").into_boxed_str();
        log::info!(target: &label, "connection from {peer}");
        let state = State::ReadingRequest(ReadingRequest { input: Vec::new() });
        Conn { transport, peer, label, opened: now, replies: 0, bytes: 0, state }
    }

    /// Does what can be done now, within the budget of a turn.
    pub fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        loop {
            // A state that is being consumed never stays: each arm below puts one back.
            let step = match std::mem::replace(&mut self.state, State::Closed(Reason::Shutdown)) {
                State::ReadingRequest(state) => self.reading_request(state, cx),
                State::SendingHeader(state) => self.sending_header(state, cx),
                State::Streaming(state) => self.streaming(state, cx),
                State::Refusing(state) => self.refusing(state, cx),
                State::Lingering(state) => self.lingering(state, cx),
                State::Closed(reason) => Step::Close(reason),
            };
            match step {
                Step::Next(state) => self.state = state,
                Step::Rest(state, turn) => {
                    self.state = state;
                    return turn;
                }
                Step::Close(reason) => {
                    self.state = State::Closed(reason);
                    return Turn::Close(reason);
                }
            }
        }
    }

    /// Takes the outcome of the digest job that this connection waits for.
    pub fn digest_done(&mut self, outcome: &Result<Digest, Failure>) {
        let State::SendingHeader(state) = &mut self.state else { return };
        state.digest = match outcome {
            Ok(digest) => {
                state.head.push_digest(digest);
                Awaited::Known
            }
            Err(failure) => Awaited::Failed(failed(&self.label, &state.reply.name, failure)),
        };
    }

    /// The reason to close now if the server stops; `None` while a reply is under way, which a shutdown waits for.
    pub fn reason_to_stop(&self) -> Option<Reason> {
        match &self.state {
            State::ReadingRequest(_) => Some(Reason::Shutdown),
            State::Lingering(Lingering { reason, .. }) | State::Closed(reason) => Some(*reason),
            State::SendingHeader(_) | State::Streaming(_) | State::Refusing(_) => None,
        }
    }

    /// Writes the closing line and lets go of everything.
    pub fn close(mut self, reason: Reason, digests: &mut Digests, me: Waiter, now: Instant) {
        digests.leave(me);
        if matches!(reason, Reason::IdleTimeout | Reason::DrainTimeout) {
            self.transport.abort();
        }
        log::info!(
            target: &self.label,
            "closed {}: {}, {} bytes, {:.3} s, reason: {reason}",
            self.peer,
            text::count(self.replies, "reply", "replies"),
            self.bytes,
            now.duration_since(self.opened).as_secs_f64(),
        );
    }

    fn reading_request(&mut self, mut state: ReadingRequest, cx: &mut Context<'_>) -> Step {
        loop {
            if let Some(first) = state.input.first()
                && Dialect::of(*first) != Dialect::V1
            {
                log::info!(target: &self.label, "refused {}: first byte 0x{first:02x} is no request", self.peer);
                let message = "Bad request: this port speaks the xfer protocol";
                return self.refuse(message, Reason::UnknownProtocol);
            }
            match v1::parse_request(&state.input) {
                Ok(Some((_, request))) => return self.answer(request, cx),
                Ok(None) => {}
                Err(malformed) => return self.refuse_malformed(malformed),
            }
            let room = REQUEST_MAX.saturating_sub(state.input.len()).min(cx.scratch.len());
            match self.transport.read(&mut cx.scratch[..room]) {
                Io::Done(n) => state.input.extend_from_slice(&cx.scratch[..n]),
                Io::WouldBlock => {
                    let deadline = self.opened + cx.limits.request_timeout;
                    if cx.now >= deadline {
                        return Step::Close(Reason::RequestTimeout);
                    }
                    return Step::Rest(State::ReadingRequest(state), Turn::Wait(deadline));
                }
                Io::Closed(Closed::EndOfInput) => return Step::Close(Reason::PeerClosed),
                Io::Closed(_) => return Step::Close(Reason::ResetByPeer),
            }
        }
    }

    fn refuse_malformed(&mut self, malformed: Malformed) -> Step {
        log::info!(target: &self.label, "refused a request of {}: {malformed}", self.peer);
        self.refuse(&format!("Bad request: {malformed}"), Reason::BadRequest)
    }

    fn refuse(&mut self, message: &str, reason: Reason) -> Step {
        Step::Next(State::Refusing(Refusing { out: v1::encode_error(message), sent: 0, reason }))
    }

    /// Looks the name up, and begins the reply.
    fn answer(&mut self, request: Request, cx: &mut Context<'_>) -> Step {
        let shown = text::quoted(&request.name);
        match cx.root.file(&request.name) {
            Ok(file) => {
                log::debug!(target: &self.label, "request for {shown}: {} bytes", file.stamp.size);
                Step::Next(State::SendingHeader(self.begin(request, file, cx)))
            }
            Err(Refusal::NotFound(why)) => {
                log::info!(target: &self.label, "refused {shown} to {}: not found ({why})", self.peer);
                self.refuse(&v1::not_found(&String::from_utf8_lossy(&request.name)), Reason::Refused)
            }
            Err(Refusal::Busy(error)) => {
                let why = crate::error::reason(&error);
                log::warn!(target: &self.label, "refused {shown} to {}: busy ({why})", self.peer);
                self.refuse("Server is busy, try again later", Reason::Busy)
            }
        }
    }

    fn begin(&mut self, request: Request, file: Rc<ServedFile>, cx: &mut Context<'_>) -> SendingHeader {
        let mut head = v1::Head::new(&request.name, file.stamp.size);
        let digest = match cx.digests.request(&file, cx.me, V1_DIGEST_AGE, cx.now) {
            Some(digest) => {
                head.push_digest(&digest);
                Awaited::Known
            }
            None => Awaited::Pending,
        };
        let reply = Reply { file, name: request.name.into_boxed_slice(), asked: cx.now };
        SendingHeader { reply, head, sent: 0, last: cx.now, digest }
    }

    fn sending_header(&mut self, mut state: SendingHeader, cx: &mut Context<'_>) -> Step {
        if self.is_reset(cx) {
            return Step::Close(Reason::ResetByPeer);
        }
        loop {
            if let Awaited::Failed(reason) = state.digest {
                return Step::Close(reason);
            }
            let allowed = state.allowed(cx.now);
            let Some(out) = state.head.bytes.get(state.sent..allowed).filter(|out| !out.is_empty()) else {
                if state.is_sent() {
                    return Step::Next(State::Streaming(Streaming::new(state.reply, cx.now)));
                }
                let until = state.next_at(cx.now);
                return Step::Rest(State::SendingHeader(state), Turn::Wait(until));
            };
            match self.transport.write(out) {
                Io::Done(n) => {
                    state.sent += n;
                    state.last = cx.now;
                }
                Io::WouldBlock if cx.now < state.last + cx.limits.idle_timeout => {
                    let until = state.last + cx.limits.idle_timeout;
                    return Step::Rest(State::SendingHeader(state), Turn::Wait(until));
                }
                Io::WouldBlock => return Step::Close(Reason::IdleTimeout),
                Io::Closed(_) => return Step::Close(Reason::ResetByPeer),
            }
        }
    }

    /// Whether the peer has cut the connection. What it says meanwhile does not matter, but a reset may stand behind it.
    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            match self.transport.read(cx.scratch) {
                Io::Done(n) => discarded += n,
                Io::WouldBlock | Io::Closed(Closed::EndOfInput) => return false,
                Io::Closed(_) => return true,
            }
        }
        false
    }

    fn streaming(&mut self, mut state: Streaming, cx: &mut Context<'_>) -> Step {
        let size = state.reply.file.stamp.size;
        let mut budget = state.reply.file.turn_budget(TURN_BUDGET);
        while state.offset < size {
            if budget == 0 {
                self.log_progress(&mut state);
                return Step::Rest(State::Streaming(state), Turn::Yield);
            }
            if state.ready == 0 {
                match state.probe() {
                    Ready::Bytes(n) => state.ready = n,
                    Ready::NotYet => {
                        let until = state.patience.look_again_at(cx.now);
                        return Step::Rest(State::Streaming(state), Turn::Pause(until));
                    }
                    Ready::End => return self.cut(&state, Reason::FileChanged, "it became shorter"),
                    Ready::Failed(error) => {
                        return self.cut(&state, Reason::ReadError, &crate::error::reason(&error));
                    }
                }
                if state.is_last_window() && !state.reply.file.is_unchanged() {
                    return self.cut(&state, Reason::FileChanged, "it was written to");
                }
            }
            match self.transport.send_file(state.reply.file.as_fd(), state.offset, state.ready.min(budget)) {
                Io::Done(0) => return self.cut(&state, Reason::FileChanged, "it became shorter"),
                Io::Done(n) => {
                    state.advance(n, cx.now);
                    self.bytes += n as u64;
                    budget = budget.saturating_sub(n);
                }
                Io::WouldBlock => {
                    self.log_progress(&mut state);
                    let deadline = state.progress + cx.limits.idle_timeout;
                    if cx.now >= deadline {
                        return Step::Close(Reason::IdleTimeout);
                    }
                    return Step::Rest(State::Streaming(state), Turn::Wait(deadline));
                }
                Io::Closed(Closed::Failed(error)) => {
                    return self.cut(&state, Reason::ReadError, &crate::error::reason(&error));
                }
                Io::Closed(_) => return Step::Close(Reason::ResetByPeer),
            }
        }
        self.log_progress(&mut state);
        self.complete(&state, cx)
    }

    /// Ends a reply in the middle: in version 1 the peer learns it from the missing bytes.
    fn cut(&mut self, state: &Streaming, reason: Reason, why: &str) -> Step {
        let (name, size) = (text::quoted(&state.reply.name), state.reply.file.stamp.size);
        log::warn!(target: &self.label, "cut {name} after {}/{size} bytes: {reason}: {why}", state.offset);
        Step::Close(reason)
    }

    fn complete(&mut self, state: &Streaming, cx: &mut Context<'_>) -> Step {
        self.replies += 1;
        log::info!(
            target: &self.label,
            "sent {} ({} bytes) to {} in {:.3} s",
            text::quoted(&state.reply.name),
            state.offset,
            self.peer,
            cx.now.duration_since(state.reply.asked).as_secs_f64(),
        );
        self.linger(Reason::Complete, cx)
    }

    /// A line for the highest tenth of the file passed in this turn; none for a file of one turn.
    fn log_progress(&self, state: &mut Streaming) {
        let size = state.reply.file.stamp.size;
        // u128: ten times a file size may not fit a u64.
        let tenths = u64::try_from(u128::from(state.offset) * 10 / u128::from(size.max(1))).unwrap_or(10);
        if tenths > state.tenths && size > TURN_BUDGET as u64 {
            state.tenths = tenths;
            let percent = tenths * 10;
            log::info!(target: &self.label, "progress to {}: {percent}% ({}/{size} bytes)", self.peer, state.offset);
        }
    }

    fn refusing(&mut self, mut state: Refusing, cx: &mut Context<'_>) -> Step {
        while let Some(out) = state.out.get(state.sent..).filter(|out| !out.is_empty()) {
            match self.transport.write(out) {
                Io::Done(n) => state.sent += n,
                // A peer that does not even take this much is not waited for longer than for a request.
                Io::WouldBlock => {
                    let deadline = self.opened + cx.limits.request_timeout + LINGER_TIME;
                    if cx.now >= deadline {
                        return Step::Close(Reason::IdleTimeout);
                    }
                    return Step::Rest(State::Refusing(state), Turn::Wait(deadline));
                }
                Io::Closed(_) => return Step::Close(Reason::ResetByPeer),
            }
        }
        self.replies += 1;
        self.linger(state.reason, cx)
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
        Step::Close(state.reason)
    }
}

/// Logs why there is no digest; the reason for the closing line.
fn failed(label: &str, name: &[u8], failure: &Failure) -> Reason {
    let (reason, why) = match failure {
        Failure::Changed => (Reason::FileChanged, "it changed"),
        Failure::Unreadable(why) => (Reason::ReadError, why.as_str()),
    };
    log::warn!(target: label, "cannot hash {}: {why}", text::quoted(name));
    reason
}

impl SendingHeader {
    /// How far the head may go out now.
    fn allowed(&self, now: Instant) -> usize {
        let [ok, ..] = self.head.cuts;
        if let Awaited::Known = self.digest {
            return match self.sent {
                sent if sent < ok => ok,
                sent if sent == ok && now < self.last + V1_GAP => ok,
                _ => self.head.bytes.len(),
            };
        }
        // Up to the cut that has been reached or begun; one further when it is time for the next field.
        let is_due = now >= self.last + V1_FIELD_PAUSE || (self.sent == 0 && !self.holds_ok());
        let mut cuts = self.head.cuts.into_iter();
        match is_due {
            true => cuts.find(|cut| *cut > self.sent).unwrap_or(self.sent),
            false => cuts.find(|cut| *cut >= self.sent).filter(|_| self.sent > 0).unwrap_or(self.sent),
        }
    }

    fn holds_ok(&self) -> bool {
        self.reply.file.stamp.size >= V1_HOLD_OK_FROM
    }

    /// When more of the head may go out, if no digest comes before.
    fn next_at(&self, now: Instant) -> Instant {
        match self.digest {
            Awaited::Known => self.last + V1_GAP,
            // Once all that is known is out, only the end of the job brings more.
            _ if now >= self.last + V1_FIELD_PAUSE => now + V1_FIELD_PAUSE,
            _ => self.last + V1_FIELD_PAUSE,
        }
    }

    fn is_sent(&self) -> bool {
        matches!(self.digest, Awaited::Known) && self.sent == self.head.bytes.len()
    }
}

impl Streaming {
    fn new(reply: Reply, now: Instant) -> Streaming {
        Streaming { reply, offset: 0, ready: 0, patience: Patience::default(), progress: now, tenths: 0 }
    }

    fn left(&self) -> u64 {
        self.reply.file.stamp.size - self.offset
    }

    fn is_last_window(&self) -> bool {
        self.left() == self.ready as u64
    }

    fn probe(&mut self) -> Ready {
        self.reply.file.probe(self.offset, self.left().min(WINDOW), &mut self.patience)
    }

    fn advance(&mut self, sent: usize, now: Instant) {
        // sendfile sends no more than it was told, which was at most `ready`.
        self.offset += sent as u64;
        self.ready = self.ready.saturating_sub(sent);
        self.progress = now;
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
