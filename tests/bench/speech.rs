//! What the harness says to each server, and how it finds the replies in what comes.

use xfer::proto::digest::{Algorithm, Digest, Hasher};
use xfer::proto::{Request, Wanted, v2};

use super::trouble::{Doing, Trouble, ensure};

/// Bytes of a reply's head at most; an ERROR of version 2 is the longest.
const HEAD_MAX: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Version 2 of our own protocol, with MD5.
    Xfer,
    /// HTTP/1.1 with keep-alive.
    Http,
}

impl Speech {
    pub fn request(self, name: &str) -> Vec<u8> {
        match self {
            Speech::Xfer => {
                let (name, algorithm) = (name.as_bytes(), Algorithm::Md5);
                v2::encode_get(&Request { name, algorithm, wanted: Wanted::ALL, rehash: false })
            }
            Speech::Http => format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        }
    }
}

/// Follows the replies of one connection and keeps no byte of them.
pub struct Decoder {
    speech: Speech,
    /// The beginning of a head that has not come whole.
    held: Vec<u8>,
    /// Bytes of a file still to come before the next head.
    body_left: u64,
    /// Whole replies so far.
    pub replies: u64,
    /// Bytes of files so far.
    pub body: u64,
    /// Where somebody wants the digest of what comes.
    hasher: Option<Hasher>,
}

impl Decoder {
    pub fn new(speech: Speech) -> Decoder {
        Decoder { speech, held: Vec::new(), body_left: 0, replies: 0, body: 0, hasher: None }
    }

    /// From here on, takes the digest of what comes.
    pub fn hash(&mut self) {
        self.hasher = Some(Hasher::new(Algorithm::Md5));
    }

    /// The digest of what has come since.
    pub fn hashed(&mut self) -> Option<Digest> {
        self.hasher.take().map(Hasher::finish)
    }

    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            let used = if self.body_left > 0 { self.take_body(bytes) } else { self.take_head(bytes)? };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn take_body(&mut self, bytes: &[u8]) -> usize {
        let used = self.body_left.min(bytes.len() as u64) as usize;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..used]);
        }
        self.body += used as u64;
        self.body_left -= used as u64;
        if self.speech == Speech::Http && self.body_left == 0 {
            self.replies += 1;
        }
        used
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut held = std::mem::take(&mut self.held);
        let before = held.len();
        let more = bytes.len().min(HEAD_MAX - before);
        held.extend_from_slice(&bytes[..more]);
        let parsed = match self.speech {
            Speech::Xfer => self.parse_frame(&held)?,
            Speech::Http => self.parse_http(&held)?,
        };
        ensure(parsed.is_some() || held.len() < HEAD_MAX, || "a reply's head has no end".to_owned())?;
        if parsed.is_some() {
            held.clear();
        }
        self.held = held;
        // What was held before was no whole head: the head ends behind it.
        Ok(parsed.map_or(more, |used| used - before))
    }

    fn parse_frame(&mut self, bytes: &[u8]) -> Result<Option<usize>, Trouble> {
        let Some((used, reply)) = v2::parse_reply(bytes).doing("xfer answers with nonsense")? else { return Ok(None) };
        match reply {
            v2::Reply::Data(len) => self.body_left = u64::from(len),
            v2::Reply::Digest(_) => self.replies += 1,
            v2::Reply::File(_) | v2::Reply::Wait { .. } => {}
            v2::Reply::Error(_, message) => {
                return Err(Trouble::failed("xfer refuses", String::from_utf8_lossy(&message)));
            }
        }
        Ok(Some(used))
    }

    fn parse_http(&mut self, bytes: &[u8]) -> Result<Option<usize>, Trouble> {
        let Some(len) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head = String::from_utf8_lossy(&bytes[..len]);
        ensure(head.starts_with("HTTP/1.1 200 "), || format!("nginx refuses: {head}"))?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        self.body_left = length.ok_or("no Content-Length").doing("nginx answers with nonsense")?;
        Ok(Some(len + 4))
    }
}
