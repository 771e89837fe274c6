//! Bytes to values and back, without a socket, a file or a clock.
//!
//! Parsers take all bytes that have arrived and answer one of three: `Ok(None)`, more bytes please; `Ok(Some((used,
//! value)))`; or `Err`, never to become right. The wire is specified in xfer-protocol(5), whose section names the
//! comments here repeat.

pub mod digest;
pub mod v1;

use std::fmt;

/// Bytes in a name at most: PATH_MAX of Linux. (HTTP servers allow 8 KiB for a whole request line.)
pub const NAME_MAX: usize = 4096;

/// Bytes in the message of a refusal at most: what the first client reads, in one `recv(1024)`.
pub const MESSAGE_MAX: usize = 1024;

/// The largest size of a file: what a signed 64-bit file offset can say.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// What a client asks for, whichever protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name as asked for: 1 to [`NAME_MAX`] bytes, no NUL. Not yet safe to open.
    pub name: Vec<u8>,
}

/// The protocol that the first byte of a connection announces (xfer-protocol(5), FIRST BYTE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The length of a version 1 request, which is below 2^24.
    V1,
    /// Not ours; 0x01 to 0x0F, upper-case letters and 0x16 are kept free for version 2, HTTP and TLS.
    Unknown,
}

impl Dialect {
    /// The protocol of a connection that begins with this byte.
    pub fn of(first: u8) -> Dialect {
        match first {
            0x00 => Dialect::V1,
            _ => Dialect::Unknown,
        }
    }
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
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::EmptyName => f.write_str("the name is empty"),
            Malformed::LongName(length) => write!(f, "the name has {length} bytes, at most {NAME_MAX} are allowed"),
            Malformed::NulInName => f.write_str("the name contains a NUL byte"),
            Malformed::NotUtf8 => f.write_str("the name is not UTF-8"),
            Malformed::Status => f.write_str("the reply begins with neither OK nor ERROR"),
            Malformed::LongMessage => write!(f, "the error message has more than {MESSAGE_MAX} bytes"),
            Malformed::Size(size) => write!(f, "the file size {size} is above {SIZE_MAX}"),
            Malformed::Digest => f.write_str("the digest is not 32 lower-case hexadecimal digits"),
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
