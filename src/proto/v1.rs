//! Version 1 of the wire, the one of the first system (xfer-protocol(5), VERSION 1).
//!
//! ```text
//! request   u32 name length | name, UTF-8
//! found     "OK" | u32 length | base name, UTF-8 | u64 size | 32 bytes, MD5 in lower-case hex | bytes of file | close
//! refused   "ERROR" | message, UTF-8, at most 1024 bytes | close
//! ```

use super::digest::{Algorithm, Digest, HEX_LEN};
use super::{MESSAGE_MAX, Malformed, NAME_MAX, Request, SIZE_MAX, Wanted, base_name, u32_at, u64_at};

/// The status of a reply that brings a file.
pub const OK: &[u8] = b"OK";

/// The status of a refusal; its message follows until the end of input.
pub const ERROR: &[u8] = b"ERROR";

/// Bytes of a length field.
const LENGTH_LEN: usize = 4;

/// Bytes of the size field.
const SIZE_LEN: usize = 8;

/// Reads a request: partial, `(used, request)`, or malformed. The limits come before any byte of the name.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(usize, Request<'_>)>, Malformed> {
    let Some(length) = u32_at(bytes, 0) else { return Ok(None) };
    let Some(name) = name_at(bytes, LENGTH_LEN, length)? else { return Ok(None) };
    Ok(Some((LENGTH_LEN + name.len(), whole(name))))
}

/// All that version 1 can ask for.
fn whole(name: &[u8]) -> Request<'_> {
    Request { name, algorithm: Algorithm::Md5, wanted: Wanted::ALL, rehash: false }
}

/// The name of `length` bytes at an offset, once it is whole; a length that no name may have is refused at once.
fn name_at(bytes: &[u8], at: usize, length: u32) -> Result<Option<&[u8]>, Malformed> {
    let len = usize::try_from(length).unwrap_or(usize::MAX);
    match len {
        0 => return Err(Malformed::EmptyName),
        1..=NAME_MAX => {}
        _ => return Err(Malformed::LongName(length)),
    }
    let Some(name) = bytes.get(at..at + len) else { return Ok(None) };
    super::check_name(name)?;
    match std::str::from_utf8(name) {
        Ok(_) => Ok(Some(name)),
        Err(_) => Err(Malformed::NotUtf8),
    }
}

/// Writes a request. The name must pass [`check_name`].
pub fn encode_request(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(LENGTH_LEN + name.len());
    push_text(&mut out, name.as_bytes());
    out
}

/// Whether a name can be asked for in version 1.
pub fn check_name(name: &[u8]) -> Result<&str, Malformed> {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    name_at(name, 0, length)?;
    std::str::from_utf8(name).map_err(|_| Malformed::NotUtf8)
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    // Callers pass names of at most NAME_MAX bytes.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

/// Everything of a reply before the digest, and where it may be cut so that each part can go out alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `OK`, length, name and size; then, once it is known, the digest.
    pub bytes: Vec<u8>,
    /// Where `OK`, the length, the name and the size end.
    pub cuts: [usize; 4],
}

impl Head {
    /// The head of the reply to a request for `name`.
    pub fn new(name: &[u8], size: u64) -> Head {
        let base = base_name(name);
        let mut bytes = Vec::with_capacity(OK.len() + LENGTH_LEN + base.len() + SIZE_LEN + HEX_LEN);
        bytes.extend_from_slice(OK);
        push_text(&mut bytes, base);
        bytes.extend_from_slice(&size.to_be_bytes());
        let length_end = OK.len() + LENGTH_LEN;
        let cuts = [OK.len(), length_end, length_end + base.len(), bytes.len()];
        Head { bytes, cuts }
    }

    /// Completes the head.
    pub fn push_digest(&mut self, digest: &Digest) {
        self.bytes.extend_from_slice(digest.to_string().as_bytes());
    }
}

/// How the message of a refusal ends that may pass; version 1 has no codes. The servers of the first system say no such
/// thing.
pub const PASSES: &[u8] = b", try again later";

/// Whether a refusal with this message may pass.
pub fn passes(message: &[u8]) -> bool {
    message.ends_with(PASSES)
}

/// A refusal with its message, cut at a character's border to [`MESSAGE_MAX`] bytes.
pub fn encode_error(message: &str) -> Vec<u8> {
    let end = message.floor_char_boundary(MESSAGE_MAX);
    let mut out = Vec::with_capacity(ERROR.len() + end);
    out.extend_from_slice(ERROR);
    out.extend_from_slice(message.get(..end).unwrap_or(message).as_bytes());
    out
}

/// The message of the first system for a file that is not there; a long name is cut so that the sentence stays whole.
pub fn not_found(name: &str) -> String {
    const AROUND: usize = "File '...' not found on server".len();
    if name.len() <= MESSAGE_MAX - AROUND {
        return format!("File '{name}' not found on server");
    }
    let end = name.floor_char_boundary(MESSAGE_MAX - AROUND);
    format!("File '{}...' not found on server", name.get(..end).unwrap_or(name))
}

/// How a reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Metadata and the file follow.
    Ok,
    /// A message follows, until the end of input.
    Error,
}

/// Reads the status of a reply: partial, `(used, status)`, or malformed.
pub fn parse_status(bytes: &[u8]) -> Result<Option<(usize, Status)>, Malformed> {
    for (word, status) in [(OK, Status::Ok), (ERROR, Status::Error)] {
        if bytes.starts_with(word) {
            return Ok(Some((word.len(), status)));
        }
        if word.starts_with(bytes) {
            return Ok(None);
        }
    }
    Err(Malformed::Status)
}

/// What a server says of a file before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The base name, as the server has it.
    pub name: Vec<u8>,
    /// Bytes in the file, at most [`SIZE_MAX`].
    pub size: u64,
    /// The digest of the whole file.
    pub digest: Digest,
}

/// Reads the metadata behind `OK`: partial, `(used, metadata)`, or malformed, each field as soon as it is there.
pub fn parse_metadata(bytes: &[u8]) -> Result<Option<(usize, Metadata)>, Malformed> {
    let Some(length) = u32_at(bytes, 0) else { return Ok(None) };
    let Some(name) = name_at(bytes, LENGTH_LEN, length)? else { return Ok(None) };
    let at = LENGTH_LEN + name.len();
    let Some(size) = u64_at(bytes, at) else { return Ok(None) };
    if size > SIZE_MAX {
        return Err(Malformed::Size(size));
    }
    let at = at + SIZE_LEN;
    let Some(hex) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEX_LEN>()) else { return Ok(None) };
    let digest = Digest::from_hex(hex).ok_or(Malformed::Digest)?;
    Ok(Some((at + HEX_LEN, Metadata { name: name.to_vec(), size, digest })))
}

#[cfg(test)]
mod tests {
    use super::super::every_split;
    use super::*;

    const HEX: &[u8; 32] = b"d41d8cd98f00b204e9800998ecf8427e";

    fn metadata_bytes(name: &[u8], size: u64) -> Vec<u8> {
        let mut head = Head::new(name, size);
        head.push_digest(&Digest::from_hex(HEX).expect("HEX is 32 lower-case digits"));
        head.bytes.split_off(OK.len())
    }

    #[test]
    fn requests_at_every_split() {
        for name in ["a", "small.txt", "dir/größe ✓.bin", "x".repeat(NAME_MAX).leak()] {
            let expected = whole(name.as_bytes());
            every_split(&encode_request(name), parse_request, &expected);
        }
    }

    #[test]
    fn requests_that_no_more_bytes_can_mend() {
        let with_length = |length: u32, name: &[u8]| [&length.to_be_bytes()[..], name].concat();
        assert_eq!(parse_request(&with_length(0, b"")), Err(Malformed::EmptyName));
        // Refused by the length alone, before any byte of the name.
        for length in [4097, 0x00ff_ffff, u32::MAX] {
            assert_eq!(parse_request(&with_length(length, b"")), Err(Malformed::LongName(length)));
        }
        assert_eq!(parse_request(&with_length(3, b"a\0b")), Err(Malformed::NulInName));
        assert_eq!(parse_request(&with_length(2, b"\xc3\x28")), Err(Malformed::NotUtf8));
    }

    #[test]
    fn status_at_every_split() {
        every_split(OK, parse_status, &Status::Ok);
        every_split(ERROR, parse_status, &Status::Error);
        for bad in [&b"X"[..], b"OX", b"EX", b"ERROX", b"ok", b"\0", b"HTTP/1.1"] {
            assert_eq!(parse_status(bad), Err(Malformed::Status), "{bad:?}");
        }
    }

    #[test]
    fn metadata_at_every_split() {
        for (name, size) in [("a", 0), ("dir/b", 1), ("größe ✓.bin", SIZE_MAX), (&"x".repeat(NAME_MAX), 1 << 40)] {
            let expected = Metadata {
                name: base_name(name.as_bytes()).to_vec(),
                size,
                digest: Digest::from_hex(HEX).expect("HEX is 32 lower-case digits"),
            };
            every_split(&metadata_bytes(name.as_bytes(), size), parse_metadata, &expected);
        }
    }

    #[test]
    fn lying_metadata() {
        let good = metadata_bytes(b"a", 5);
        for size in [SIZE_MAX + 1, u64::MAX] {
            let mut bytes = good.clone();
            bytes[5..13].copy_from_slice(&size.to_be_bytes());
            // Refused before the digest arrives.
            assert_eq!(parse_metadata(&bytes[..13]), Err(Malformed::Size(size)));
        }
        let mut bytes = good.clone();
        bytes[13] = b'G';
        assert_eq!(parse_metadata(&bytes), Err(Malformed::Digest));
        assert_eq!(parse_metadata(&[0xff; 4]), Err(Malformed::LongName(u32::MAX)));
        assert_eq!(parse_metadata(&[0; 4]), Err(Malformed::EmptyName));
    }

    #[test]
    fn the_head_can_be_cut_into_its_fields() {
        let head = Head::new(b"dir/name.txt", 7);
        let [ok, length, name, size] = head.cuts;
        assert_eq!(&head.bytes[..ok], b"OK");
        assert_eq!(&head.bytes[ok..length], 8u32.to_be_bytes());
        assert_eq!(&head.bytes[length..name], b"name.txt");
        assert_eq!(&head.bytes[name..size], 7u64.to_be_bytes());
        assert_eq!(size, head.bytes.len());
    }

    #[test]
    fn refusals_fit_the_one_read_of_the_first_client() {
        assert_eq!(encode_error(&not_found("x.txt")), b"ERRORFile 'x.txt' not found on server");
        for name in ["a".repeat(NAME_MAX), "ä".repeat(NAME_MAX / 2), "✓".repeat(NAME_MAX / 3)] {
            let message = not_found(&name);
            assert!(message.len() <= MESSAGE_MAX && message.len() > MESSAGE_MAX - 4, "{} bytes", message.len());
            assert!(message.starts_with("File '") && message.ends_with("...' not found on server"));
        }
        let cut = encode_error(&"ä".repeat(MESSAGE_MAX));
        assert_eq!(cut.len(), ERROR.len() + MESSAGE_MAX);
        assert!(std::str::from_utf8(&cut).is_ok());
        assert_eq!(encode_error(&format!("x{}", "ä".repeat(MESSAGE_MAX))).len(), ERROR.len() + MESSAGE_MAX - 1);
    }
}
