//! Bytes to values and back, without a socket, a file or a clock.
//!
//! Parsers take all bytes that have arrived and answer one of three: `Ok(None)`, more bytes please; `Ok(Some((used,
//! value)))`; or `Err`, never to become right. The wire is specified in xfer-protocol(5), whose section names the
//! comments here repeat.

pub mod digest;
pub mod tree;
pub mod v1;
pub mod v2;

use std::fmt;

use digest::Algorithm;

/// The port of both ends where none is named, as the first system had it.
pub const DEFAULT_PORT: u16 = 9999;

/// Bytes in a name at most: PATH_MAX of Linux. (HTTP servers allow 8 KiB for a whole request line.)
pub const NAME_MAX: usize = 4096;

/// Bytes in the message of a refusal at most: what the first client reads, in one `recv(1024)`.
pub const MESSAGE_MAX: usize = 1024;

/// The largest size of a file: what a signed 64-bit file offset can say.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// What a client asks for, whichever protocol it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name as asked for: 1 to [`NAME_MAX`] bytes, no NUL. Not yet safe to open.
    pub name: &'a [u8],
    /// How the file is to be digested.
    pub algorithm: Algorithm,
    /// What of the file is wanted.
    pub wanted: Wanted,
    /// Whether a digest that the server has kept is not to be trusted.
    pub rehash: bool,
}

/// What of a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its bytes: from `offset` on if the file still has this version, or else all of them.
    Bytes {
        /// Bytes that the client has.
        offset: u64,
        /// What they are of.
        version: Version,
    },
    /// No byte, but the digest, if the file has the size of the client's.
    Digest {
        /// Bytes in the client's file.
        size: u64,
    },
}

impl Wanted {
    /// All bytes of whatever version there is.
    pub const ALL: Wanted = Wanted::Bytes { offset: 0, version: Version::UNKNOWN };
}

/// Bytes of a [`Version`].
pub const VERSION_LEN: usize = 16;

/// What tells two contents of a file apart on every server that has it: a hash of size and time of modification.
///
/// Device, inode and ctime are no part of it: mirrors of one tree agree, and a rename, a hard link or new permissions
/// end no resume (xfer-protocol(5), VERSION 2, Versions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub [u8; VERSION_LEN]);

impl Version {
    /// What a client says that has no bytes yet.
    pub const UNKNOWN: Version = Version([0; VERSION_LEN]);

    /// The version of a file of this size in bytes and this time of modification.
    pub fn of(size: u64, mtime: Mtime) -> Version {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&size.to_be_bytes());
        hasher.update(&mtime.seconds.to_be_bytes());
        hasher.update(&mtime.nanos.to_be_bytes());
        let mut version = [0; VERSION_LEN];
        hasher.finalize_xof().fill(&mut version);
        Version(version)
    }
}

/// A time of modification, since the beginning of 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mtime {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds behind them, below 1,000,000,000.
    pub nanos: u32,
}

/// The protocol that the first byte of a connection announces (xfer-protocol(5), FIRST BYTE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The length of a version 1 request, which is below 2^24.
    V1,
    /// The type of a request frame of version 2.
    V2,
    /// Not ours; upper-case letters and 0x16 are kept free for HTTP and TLS.
    Unknown,
}

impl Dialect {
    /// The protocol of a connection that begins with this byte.
    pub fn of(first: u8) -> Dialect {
        match first {
            0x00 => Dialect::V1,
            0x01..=0x0f => Dialect::V2,
            _ => Dialect::Unknown,
        }
    }
}

/// Whether this can be the name of a file: 1 to [`NAME_MAX`] bytes, no NUL.
pub fn check_name(name: &[u8]) -> Result<(), Malformed> {
    match name.len() {
        0 => Err(Malformed::EmptyName),
        1..=NAME_MAX if name.contains(&0) => Err(Malformed::NulInName),
        1..=NAME_MAX => Ok(()),
        length => Err(Malformed::LongName(u32::try_from(length).unwrap_or(u32::MAX))),
    }
}

/// The part of a name behind its last slash.
pub fn base_name(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'/').next().unwrap_or(name)
}

/// Why bytes from a peer can never become what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A name of no bytes.
    EmptyName,
    /// A name of more than [`NAME_MAX`] bytes; the number is the length announced.
    LongName(u32),
    /// A name with a NUL byte in it.
    NulInName,
    /// Text that is not UTF-8.
    NotUtf8,
    /// Neither `OK` nor `ERROR`.
    Status,
    /// A refusal longer than [`MESSAGE_MAX`].
    LongMessage,
    /// A file size above [`SIZE_MAX`].
    Size(u64),
    /// A digest that is not 32 lower-case hexadecimal digits.
    Digest,
    /// An answer of version 1 where version 2 was spoken before.
    OldServer,
    /// A frame of a type that has no place here.
    FrameType(u8),
    /// A frame with a payload of a length that its type does not have; type and length.
    FrameLength(u8, u32),
    /// A frame with a number in it that means nothing; its type, and which.
    Field(u8, &'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::EmptyName => f.write_str("the name is empty"),
            Malformed::LongName(length) => write!(f, "the name has {length} bytes; at most {NAME_MAX} are allowed"),
            Malformed::NulInName => f.write_str("the name contains a NUL byte"),
            Malformed::NotUtf8 => f.write_str("the name is not UTF-8"),
            Malformed::Status => f.write_str("the reply begins with neither OK nor ERROR"),
            Malformed::LongMessage => write!(f, "the error message has more than {MESSAGE_MAX} bytes"),
            Malformed::Size(size) => write!(f, "the file size {size} is above {SIZE_MAX}"),
            Malformed::Digest => f.write_str("the digest is not 32 lower-case hexadecimal digits"),
            Malformed::OldServer => f.write_str("it now speaks version 1 only; use --v1 to fetch from it"),
            Malformed::FrameType(kind) => write!(f, "unexpected frame of type 0x{kind:02x}"),
            Malformed::FrameLength(kind, length) => {
                write!(f, "invalid length {length} of a frame of type 0x{kind:02x}")
            }
            Malformed::Field(kind, field) => write!(f, "invalid {field} in a frame of type 0x{kind:02x}"),
        }
    }
}

/// The first big-endian u32, if it has arrived.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The big-endian u64 at an offset, if it has arrived.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// Every proper prefix must be partial, and the whole must parse with and without something behind it.
#[cfg(test)]
fn every_split<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    parse: impl Fn(&'static [u8]) -> Result<Option<(usize, T)>, Malformed>,
    expected: &T,
) {
    for end in 0..bytes.len() {
        assert_eq!(parse(bytes[..end].to_vec().leak()), Ok(None), "prefix of {end} bytes");
    }
    for tail in [&b""[..], b"\0", b"more bytes", &[0xff; 100]] {
        let (used, value) = parse([bytes, tail].concat().leak()).expect("well-formed").expect("whole");
        assert_eq!((used, &value), (bytes.len(), expected));
    }
}
