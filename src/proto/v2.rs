//! Version 2 of the wire: frames, so that a transfer can start before the file is hashed, go on where it stopped,
//! report an error in the middle, and share a connection with others (xfer-protocol(5), VERSION 2).
//!
//! ```text
//! frame     u8 type | u24 length of payload | payload
//! GET       u8 algorithm | u8 flags | u16 zero | u64 offset | 16 bytes version | name
//! FILE      u64 size | u64 offset | i64 mtime, s | u32 mtime, ns | u32 mode | 16 bytes version | u8 algorithm | u8 flags | u16 zero | digest, if known
//! DATA      bytes of the file
//! WAIT      u64 bytes done | u64 bytes in all
//! DIGEST    digest of the whole file
//! ERROR     u16 code | message, UTF-8
//! ```

use super::digest::{Algorithm, DIGEST_MAX, Digest};
use super::{
    MESSAGE_MAX, Malformed, Mtime, NAME_MAX, Request, SIZE_MAX, VERSION_LEN, Version, Wanted, check_name, u32_at,
};

/// Asks for a file.
pub const GET: u8 = 0x01;
/// Describes a file; the beginning of a reply.
pub const FILE: u8 = 0x10;
/// Brings bytes of a file.
pub const DATA: u8 = 0x11;
/// Says that the server is busy for its client.
pub const WAIT: u8 = 0x12;
/// Ends a reply well.
pub const DIGEST: u8 = 0x13;
/// Ends a reply otherwise.
pub const ERROR: u8 = 0x1f;

/// Types of requests; those that are not known are skipped.
const REQUESTS: std::ops::RangeInclusive<u8> = 0x01..=0x0f;

/// Types of what a server says; an old server's `ERROR` is none of them.
const REPLIES: std::ops::RangeInclusive<u8> = 0x10..=0x1f;

/// Bytes of a frame before its payload.
pub const HEADER_LEN: usize = 4;

/// Bytes of a GET before the name.
const GET_LEN: usize = 28;

/// Bytes of a request's payload at most.
pub const REQUEST_MAX: usize = GET_LEN + NAME_MAX;

/// Bytes of a FILE before the digest.
const FILE_LEN: usize = 52;

/// Bytes of a WAIT.
const WAIT_LEN: usize = 16;

/// Bytes of a DATA frame's payload at most, whoever sends it: what a client may have to take in one piece.
pub const DATA_MAX: u32 = 1 << 20;

/// GET: no bytes of the file, only its digest, if its size is the one in `offset`.
const NO_DATA: u8 = 1;
/// GET: do not trust a digest that was kept.
const REHASH: u8 = 2;
/// FILE: the sizes differ, and this is the whole reply.
const SIZES_DIFFER: u8 = 1;

/// The field names of [`Malformed::Field`].
const ALGORITHM: &str = "digest algorithm";
const FLAGS: &str = "flag";
const ZERO: &str = "reserved field";

/// Why a request brings no file, or no more of it (xfer-protocol(5), VERSION 2, Errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// There is no such file for this client, whatever the true reason.
    NotFound,
    /// The request can never become one.
    BadRequest,
    /// The server lacks descriptors or memory.
    Busy,
    /// The file changed while it was sent.
    Changed,
    /// The file cannot be read.
    ReadError,
    /// The server ends.
    ShuttingDown,
    /// The server does not know how to do this.
    Unsupported,
    /// A code of a later version.
    Other(u16),
}

impl ErrorCode {
    /// The code's number on the wire.
    pub fn number(self) -> u16 {
        match self {
            ErrorCode::NotFound => 1,
            ErrorCode::BadRequest => 2,
            ErrorCode::Busy => 3,
            ErrorCode::Changed => 4,
            ErrorCode::ReadError => 5,
            ErrorCode::ShuttingDown => 6,
            ErrorCode::Unsupported => 8,
            ErrorCode::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> ErrorCode {
        use ErrorCode::*;
        let known = [NotFound, BadRequest, Busy, Changed, ReadError, ShuttingDown, Unsupported];
        known.into_iter().find(|code| code.number() == number).unwrap_or(Other(number))
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A whole GET.
    Get(Request<'a>),
    /// A frame that is answered with an error, and what follows it is read all the same.
    Refused(ErrorCode, Malformed),
}

/// Reads what a client sends: partial, `(used, what)`, or malformed so that nothing behind it can be understood.
pub fn parse_asked(bytes: &[u8]) -> Result<Option<(usize, Asked<'_>)>, Malformed> {
    let Some(kind) = bytes.first().copied() else { return Ok(None) };
    if !REQUESTS.contains(&kind) {
        return Err(Malformed::FrameType(kind));
    }
    let Some(Header { len, .. }) = header(bytes, REQUEST_MAX)? else { return Ok(None) };
    let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN + len) else { return Ok(None) };
    let asked = match kind {
        GET => parse_get(payload).unwrap_or_else(|malformed| Asked::Refused(code_of(malformed), malformed)),
        _ => Asked::Refused(ErrorCode::Unsupported, Malformed::FrameType(kind)),
    };
    Ok(Some((HEADER_LEN + len, asked)))
}

/// What a later version may give a meaning to is unsupported; the rest is a mistake.
fn code_of(malformed: Malformed) -> ErrorCode {
    match malformed {
        Malformed::Field(..) => ErrorCode::Unsupported,
        _ => ErrorCode::BadRequest,
    }
}

fn parse_get(payload: &[u8]) -> Result<Asked<'_>, Malformed> {
    let mut fields = Fields(payload);
    let too_short = Malformed::FrameLength(GET, u32::try_from(payload.len()).unwrap_or(u32::MAX));
    let [algorithm, flags] = fields.take().ok_or(too_short)?;
    let zero = fields.u16().ok_or(too_short)?;
    let offset = fields.u64().ok_or(too_short)?;
    let version = fields.version().ok_or(too_short)?;
    let Fields(name) = fields;
    check_name(name)?;
    let algorithm = Algorithm::from_number(algorithm).ok_or(Malformed::Field(GET, ALGORITHM))?;
    if flags & !(NO_DATA | REHASH) != 0 {
        return Err(Malformed::Field(GET, FLAGS));
    }
    if zero != 0 {
        return Err(Malformed::Field(GET, ZERO));
    }
    let wanted = match flags & NO_DATA {
        0 => Wanted::Bytes { offset, version },
        _ => Wanted::Digest { size: offset },
    };
    Ok(Asked::Get(Request { name, algorithm, wanted, rehash: flags & REHASH != 0 }))
}

/// Writes a GET. The name must pass [`check_name`].
pub fn encode_get(request: &Request<'_>) -> Vec<u8> {
    let (flag, offset, version) = match request.wanted {
        Wanted::Bytes { offset, version } => (0, offset, version),
        Wanted::Digest { size } => (NO_DATA, size, Version::UNKNOWN),
    };
    let flags = flag | if request.rehash { REHASH } else { 0 };
    let mut out = Vec::with_capacity(HEADER_LEN + GET_LEN + request.name.len());
    begin(GET, GET_LEN + request.name.len(), &mut out);
    out.extend_from_slice(&[request.algorithm.number(), flags, 0, 0]);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&version.0);
    out.extend_from_slice(request.name);
    out
}

/// What a server says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Bytes in the file, at most [`SIZE_MAX`].
    pub size: u64,
    /// Where the bytes that follow belong; at most the size.
    pub offset: u64,
    /// When it was modified.
    pub mtime: Mtime,
    /// Its permission bits (stat(2)), of which a client takes what it trusts.
    pub mode: u32,
    /// What tells this content from another.
    pub version: Version,
    /// What the digest will be made with.
    pub algorithm: Algorithm,
    /// Whether this is the whole reply to a client that wanted only a digest, since its file has another size.
    pub sizes_differ: bool,
    /// The digest, if it is known already.
    pub digest: Option<Digest>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The file that was asked for.
    File(File),
    /// So many bytes of it follow, from 1 to [`DATA_MAX`].
    Data(u32),
    /// The server is busy for this client.
    Wait {
        /// Bytes done.
        done: u64,
        /// Bytes to do in all.
        total: u64,
    },
    /// The digest of the whole file, which ends the reply.
    Digest(Digest),
    /// Why there is no file, or no more of it, which ends the reply.
    Error(ErrorCode, Vec<u8>),
}

/// Whether a server's first byte is one of version 2.
pub fn begins_reply(first: u8) -> bool {
    REPLIES.contains(&first)
}

/// Reads what a server says: partial, `(used, what)`, or malformed. Of a DATA frame only the header is used.
pub fn parse_reply(bytes: &[u8]) -> Result<Option<(usize, Reply)>, Malformed> {
    let Some(kind) = bytes.first().copied() else { return Ok(None) };
    let max = match kind {
        FILE => FILE_LEN + DIGEST_MAX,
        DATA => DATA_MAX as usize,
        WAIT => WAIT_LEN,
        DIGEST => DIGEST_MAX,
        ERROR => 2 + MESSAGE_MAX,
        _ => return Err(Malformed::FrameType(kind)),
    };
    let Some(Header { len, length }) = header(bytes, max)? else { return Ok(None) };
    if kind == DATA {
        return match length {
            0 => Err(Malformed::FrameLength(kind, length)),
            _ => Ok(Some((HEADER_LEN, Reply::Data(length)))),
        };
    }
    let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN + len) else { return Ok(None) };
    let wrong_length = Malformed::FrameLength(kind, length);
    let reply = match kind {
        FILE => parse_file(payload, wrong_length)?,
        WAIT => parse_wait(payload).ok_or(wrong_length)?,
        DIGEST => parse_digest(payload).ok_or(wrong_length)?,
        _ => parse_error(payload).ok_or(wrong_length)?,
    };
    Ok(Some((HEADER_LEN + len, reply)))
}

fn parse_file(payload: &[u8], wrong_length: Malformed) -> Result<Reply, Malformed> {
    let mut fields = Fields(payload);
    let size = fields.u64().ok_or(wrong_length)?;
    let offset = fields.u64().ok_or(wrong_length)?;
    let seconds = fields.take().map(i64::from_be_bytes).ok_or(wrong_length)?;
    let nanos = fields.u32().ok_or(wrong_length)?;
    let mode = fields.u32().ok_or(wrong_length)?;
    let version = fields.version().ok_or(wrong_length)?;
    let [algorithm, flags] = fields.take().ok_or(wrong_length)?;
    // Room for later versions, which a client of this one need not understand.
    fields.u16().ok_or(wrong_length)?;
    if size > SIZE_MAX {
        return Err(Malformed::Size(size));
    }
    if offset > size {
        return Err(Malformed::Field(FILE, "offset"));
    }
    if nanos >= 1_000_000_000 {
        return Err(Malformed::Field(FILE, "time"));
    }
    let algorithm = Algorithm::from_number(algorithm).ok_or(Malformed::Field(FILE, ALGORITHM))?;
    let digest = match fields.0 {
        [] => None,
        bytes => Some(Digest::from_bytes(algorithm, bytes).ok_or(wrong_length)?),
    };
    let (mtime, sizes_differ) = (Mtime { seconds, nanos }, flags & SIZES_DIFFER != 0);
    Ok(Reply::File(File { size, offset, mtime, mode, version, algorithm, sizes_differ, digest }))
}

fn parse_wait(payload: &[u8]) -> Option<Reply> {
    let mut fields = Fields(payload);
    let (done, total) = (fields.u64()?, fields.u64()?);
    fields.0.is_empty().then_some(Reply::Wait { done, total })
}

/// The length tells the algorithm; whether it is the one asked for is for the client to see.
fn parse_digest(payload: &[u8]) -> Option<Reply> {
    let [md5, blake3] = [Algorithm::Md5, Algorithm::Blake3].map(|algorithm| Digest::from_bytes(algorithm, payload));
    md5.or(blake3).map(Reply::Digest)
}

fn parse_error(payload: &[u8]) -> Option<Reply> {
    let mut fields = Fields(payload);
    let code = ErrorCode::from_number(fields.u16()?);
    Some(Reply::Error(code, fields.0.to_vec()))
}

/// Writes a FILE.
pub fn encode_file(file: &File, out: &mut Vec<u8>) {
    let digest = file.digest.as_ref().map_or(&[][..], Digest::as_bytes);
    begin(FILE, FILE_LEN + digest.len(), out);
    out.extend_from_slice(&file.size.to_be_bytes());
    out.extend_from_slice(&file.offset.to_be_bytes());
    out.extend_from_slice(&file.mtime.seconds.to_be_bytes());
    out.extend_from_slice(&file.mtime.nanos.to_be_bytes());
    out.extend_from_slice(&file.mode.to_be_bytes());
    out.extend_from_slice(&file.version.0);
    out.extend_from_slice(&[file.algorithm.number(), if file.sizes_differ { SIZES_DIFFER } else { 0 }, 0, 0]);
    out.extend_from_slice(digest);
}

/// Writes the header of a DATA frame with `len` bytes, from 1 to [`DATA_MAX`].
pub fn encode_data_header(len: usize, out: &mut Vec<u8>) {
    begin(DATA, len, out);
}

/// Writes a WAIT.
pub fn encode_wait(done: u64, total: u64, out: &mut Vec<u8>) {
    begin(WAIT, WAIT_LEN, out);
    out.extend_from_slice(&done.to_be_bytes());
    out.extend_from_slice(&total.to_be_bytes());
}

/// Writes a DIGEST.
pub fn encode_digest(digest: &Digest, out: &mut Vec<u8>) {
    begin(DIGEST, digest.as_bytes().len(), out);
    out.extend_from_slice(digest.as_bytes());
}

/// Writes an ERROR; the message is cut at a character's border to [`MESSAGE_MAX`] bytes.
pub fn encode_error(code: ErrorCode, message: &str, out: &mut Vec<u8>) {
    let message = message.get(..message.floor_char_boundary(MESSAGE_MAX)).unwrap_or(message);
    begin(ERROR, 2 + message.len(), out);
    out.extend_from_slice(&code.number().to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// Writes the header of a frame. Every payload that we write is shorter than 2^24 bytes.
fn begin(kind: u8, payload_len: usize, out: &mut Vec<u8>) {
    let [_, length @ ..] = u32::try_from(payload_len).unwrap_or(u32::MAX).to_be_bytes();
    out.push(kind);
    out.extend_from_slice(&length);
}

/// The length of a frame's payload, twice.
struct Header {
    len: usize,
    length: u32,
}

/// Reads the header of a frame whose payload may have up to `max` bytes: the limit comes before any byte of it.
fn header(bytes: &[u8], max: usize) -> Result<Option<Header>, Malformed> {
    let Some(word) = u32_at(bytes, 0) else { return Ok(None) };
    let [kind, high, mid, low] = word.to_be_bytes();
    let length = u32::from_be_bytes([0, high, mid, low]);
    match usize::try_from(length) {
        Ok(len) if len <= max => Ok(Some(Header { len, length })),
        _ => Err(Malformed::FrameLength(kind, length)),
    }
}

/// Fields of a payload that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn version(&mut self) -> Option<Version> {
        self.take::<VERSION_LEN>().map(Version)
    }
}

#[cfg(test)]
#[path = "v2_tests.rs"]
mod tests;
