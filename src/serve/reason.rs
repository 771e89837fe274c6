//! Why a connection ended.

use std::fmt;

use log::Level;

use super::Limits;

/// Why a connection ended: one of these stands in its closing line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Everything that was asked for was answered, in version 1 with the file.
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
    /// The peer took bytes, but too few for too long.
    TooSlow,
    /// It was kept open after a reply, and nothing came.
    KeepAliveTimeout,
    /// Another connection needed its place: it was idle after a reply, or only to be told that its address has too many.
    MadeRoom,
    /// Its address has as many connections as one may have.
    TooMany,
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

impl Reason {
    /// The level of the line about a file that it cut.
    pub fn level(self) -> Level {
        match self {
            Reason::ReadError | Reason::Busy => Level::Error,
            _ => Level::Warn,
        }
    }

    /// Whether the peer, or its reply, ran into a limit: the operator may want to change that. (What is refused because of
    /// one has a line that says so.)
    pub fn is_limit(self) -> bool {
        use Reason::{DrainTimeout, IdleTimeout, RequestTimeout, TooSlow};
        matches!(self, DrainTimeout | IdleTimeout | RequestTimeout | TooSlow)
    }

    /// What the limit was that cut a reply.
    pub fn limit(self, limits: &Limits) -> Option<String> {
        match self {
            Reason::IdleTimeout => Some(format!("no byte taken for {} s", limits.idle_timeout.as_secs_f64())),
            Reason::TooSlow => Some(format!("less than {} bytes/s over two minutes", limits.min_rate)),
            Reason::DrainTimeout => Some(format!("not finished within {} s", limits.drain.as_secs_f64())),
            _ => None,
        }
    }
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
            Reason::TooSlow => "too slow",
            Reason::KeepAliveTimeout => "keep-alive timeout",
            Reason::MadeRoom => "closed to make room",
            Reason::TooMany => "too many connections",
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
