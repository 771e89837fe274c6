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

/// What precedes the bytes of a file.
pub enum Header {
    /// The head of version 1.
    V1(Pieces),
    /// The FILE of version 2, which lacks nothing.
    V2(v2::File),
}

/// The head of a version 1 reply, and when its pieces may go out.
pub struct Pieces {
    head: v1::Head,
    holds_ok: bool,
    /// Bytes sent; 0 <= sent <= the length of all.
    sent: usize,
    /// When the request came, or the last byte went.
    pub last: Instant,
}

impl Pieces {
    /// The head of a reply to a request for `name`; its digest is still to come.
    pub fn new(name: &[u8], size: u64, now: Instant) -> Pieces {
        Pieces { head: v1::Head::new(name, size), holds_ok: size >= V1_HOLD_OK_FROM, sent: 0, last: now }
    }

    /// Takes the digest of the file, which completes the head.
    pub fn push_digest(&mut self, digest: &Digest) {
        self.head.push_digest(digest);
    }

    /// What may go out now; perhaps nothing.
    pub fn out(&self, now: Instant) -> &[u8] {
        self.head.bytes.get(self.sent..self.allowed(now)).unwrap_or_default()
    }

    /// Says that so many bytes of [`Pieces::out`] have gone.
    pub fn advance(&mut self, sent: usize, now: Instant) {
        self.sent += sent;
        self.last = now;
    }

    /// Whether none of it has gone.
    pub fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    /// Whether all of it has gone.
    pub fn is_sent(&self) -> bool {
        is_complete(&self.head) && self.sent == self.head.bytes.len()
    }

    /// When more of it may go out, if no digest comes before.
    pub fn next_at(&self, now: Instant) -> Instant {
        if is_complete(&self.head) {
            return self.last + V1_GAP;
        }
        match self.last + V1_FIELD_PAUSE {
            // Once all that is known is out, only the end of the job brings more.
            due if now >= due => now + V1_FIELD_PAUSE,
            due => due,
        }
    }

    /// How far it may go out. With `holds_ok`, not even its status goes at once.
    fn allowed(&self, now: Instant) -> usize {
        let (head, holds_ok) = (&self.head, self.holds_ok);
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
