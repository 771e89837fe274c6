//! What goes out before the bytes of a file: in version 1 in pieces, each at its time, in version 2 at once.

use std::time::{Duration, Instant};

use crate::proto::digest::Digest;
use crate::proto::{v1, v2};

/// Pause between `OK` and the metadata of version 1. The first client reads the status with one `recv(5)` and fails if
/// anything has arrived behind `OK`. Of 100 such clients at once on two cores, 96 were served with a gap of 50 ms, 98
/// with 100 ms, all with 250 ms.
pub const V1_GAP: Duration = Duration::from_millis(250);

/// While a file is hashed, one more field of the header goes out this often: the first client reads each with a
/// timeout of 10 s.
const V1_FIELD_PAUSE: Duration = Duration::from_secs(8);

/// From this size on, even `OK` waits for the digest as long as a field may: a hash of 1 GiB takes so long that the gap
/// behind it does not matter, and from a slow disk the first client needs every second that it can be given.
pub const V1_HOLD_OK_FROM: u64 = 1 << 30;

/// The bytes before those of a file, and when they may go out.
pub struct Header {
    bytes: Bytes,
    /// Bytes sent; 0 <= sent <= the length of all.
    sent: usize,
    /// When the request came, or the last byte went.
    pub last: Instant,
}

enum Bytes {
    V1 { head: v1::Head, holds_ok: bool },
    V2(Vec<u8>),
}

impl Header {
    /// The head of a version 1 reply to a request for `name`; its digest is still to come.
    pub fn v1(name: &[u8], size: u64, now: Instant) -> Header {
        let bytes = Bytes::V1 { head: v1::Head::new(name, size), holds_ok: size >= V1_HOLD_OK_FROM };
        Header { bytes, sent: 0, last: now }
    }

    /// The FILE of a version 2 reply, which lacks nothing.
    pub fn v2(file: &v2::File, now: Instant) -> Header {
        Header { bytes: Bytes::V2(v2::encode_file(file)), sent: 0, last: now }
    }

    /// Takes the digest of the file, which completes the head of version 1.
    pub fn push_digest(&mut self, digest: &Digest) {
        if let Bytes::V1 { head, .. } = &mut self.bytes {
            head.push_digest(digest);
        }
    }

    /// What may go out now; perhaps nothing.
    pub fn out(&self, now: Instant) -> &[u8] {
        let (bytes, allowed) = match &self.bytes {
            Bytes::V1 { head, holds_ok } => (&head.bytes, self.allowed(head, *holds_ok, now)),
            Bytes::V2(bytes) => (bytes, bytes.len()),
        };
        bytes.get(self.sent..allowed).unwrap_or_default()
    }

    /// Says that so many bytes of [`Header::out`] have gone.
    pub fn advance(&mut self, sent: usize, now: Instant) {
        self.sent += sent;
        self.last = now;
    }

    /// Whether all of it has gone.
    pub fn is_sent(&self) -> bool {
        match &self.bytes {
            Bytes::V1 { head, .. } => is_complete(head) && self.sent == head.bytes.len(),
            Bytes::V2(bytes) => self.sent == bytes.len(),
        }
    }

    /// When more of it may go out, if no digest comes before.
    pub fn next_at(&self, now: Instant) -> Instant {
        match &self.bytes {
            Bytes::V1 { head, .. } if !is_complete(head) => match self.last + V1_FIELD_PAUSE {
                // Once all that is known is out, only the end of the job brings more.
                due if now >= due => now + V1_FIELD_PAUSE,
                due => due,
            },
            Bytes::V1 { .. } => self.last + V1_GAP,
            Bytes::V2(_) => now,
        }
    }

    /// How far a head of version 1 may go out. With `holds_ok`, not even its status goes at once.
    fn allowed(&self, head: &v1::Head, holds_ok: bool, now: Instant) -> usize {
        let [ok, ..] = head.cuts;
        if is_complete(head) {
            return match self.sent {
                sent if sent < ok => ok,
                sent if sent == ok && now < self.last + V1_GAP => ok,
                _ => head.bytes.len(),
            };
        }
        // Up to the cut that has been reached or begun; one further when it is time for the next field.
        let is_due = now >= self.last + V1_FIELD_PAUSE || (self.sent == 0 && !holds_ok);
        let mut cuts = head.cuts.into_iter();
        match is_due {
            true => cuts.find(|cut| *cut > self.sent).unwrap_or(self.sent),
            false => cuts.find(|cut| *cut >= self.sent).filter(|_| self.sent > 0).unwrap_or(self.sent),
        }
    }
}

/// Whether the digest, which comes last, is there.
fn is_complete(head: &v1::Head) -> bool {
    let [.., size_end] = head.cuts;
    head.bytes.len() > size_end
}
