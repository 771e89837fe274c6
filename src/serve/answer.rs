//! What a reply answers, in the words of the log.

use std::fmt::{self, Display, Formatter};
use std::rc::Rc;
use std::time::Instant;

use crate::text;

/// What a reply brings of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// Its bytes from here on; at most its size.
    Bytes {
        /// Where the first of them is in the file.
        from: u64,
    },
    /// Only its digest.
    Digest,
    /// Only its size, which is not the client's.
    Size,
}

impl Brings {
    /// Bytes of a file of this size that it brings.
    pub fn bytes(self, size: u64) -> u64 {
        match self {
            Brings::Bytes { from } => size.saturating_sub(from),
            Brings::Digest | Brings::Size => 0,
        }
    }
}

/// What a reply answers, for the log. It costs no memory of its own, so that a reply that fails later still has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name as it was asked for.
    pub name: Rc<[u8]>,
    /// Bytes in the file.
    pub size: u64,
    /// What of the file.
    pub brings: Brings,
    /// When it was asked for.
    pub asked: Instant,
    /// Whether the log gets a line when it is sent.
    pub has_line: bool,
}

impl Answer {
    /// Bytes of the file that it brings.
    pub fn bytes(&self) -> u64 {
        self.brings.bytes(self.size)
    }

    /// How long it has taken so far.
    pub fn seconds(&self, now: Instant) -> f64 {
        now.duration_since(self.asked).as_secs_f64()
    }

    /// The beginning of the line about a reply that failed at this byte of its file.
    pub fn cut_at(&self, at: u64) -> String {
        let (name, size) = (text::in_quotes(&self.name), self.size);
        match self.brings {
            Brings::Bytes { .. } => format!("cut {name} after {at}/{size} bytes"),
            Brings::Digest => format!("failed to send the digest of {name}"),
            Brings::Size => format!("failed to send the size of {name}"),
        }
    }
}

/// What it brings, behind `sent`.
impl Display for Answer {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (name, size) = (text::in_quotes(&self.name), self.size);
        match self.brings {
            Brings::Bytes { from: 0 } => write!(out, "{name} ({size} bytes)"),
            Brings::Bytes { from } => write!(out, "{name} ({} bytes, from byte {from})", size.saturating_sub(from)),
            Brings::Digest => write!(out, "the digest of {name} ({size} bytes)"),
            Brings::Size => write!(out, "the size of {name} ({size} bytes)"),
        }
    }
}
