//! The digest that verifies a file: MD5 (RFC 1321), which finds accidents and not attackers.

use std::fmt;

use md5::{Digest as _, Md5};

/// Hexadecimal digits of a digest on the version 1 wire.
pub const HEX_LEN: usize = 32;

/// The digest of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Reads [`HEX_LEN`] lower-case hexadecimal digits; anything else is `None`.
    pub fn from_hex(hex: &[u8; HEX_LEN]) -> Option<Digest> {
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Digest(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A digest in the making.
#[derive(Clone, Default)]
pub struct Hasher(Md5);

impl Hasher {
    /// A digest of nothing yet.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        // RFC 1321, A.5.
        let cases = [("", "d41d8cd98f00b204e9800998ecf8427e"), ("abc", "900150983cd24fb0d6963f7d28e17f72")];
        for (text, hex) in cases {
            let mut hasher = Hasher::new();
            hasher.update(text.as_bytes());
            assert_eq!(hasher.finish().to_string(), hex);
        }
    }

    #[test]
    fn hex_goes_both_ways_and_only_in_lower_case() {
        let hex = b"0123456789abcdef00ff7f80a5b6c7d8";
        let digest = Digest::from_hex(hex).map(|d| d.to_string());
        assert_eq!(digest.as_deref().map(str::as_bytes), Some(&hex[..]));
        for bad in [b'A', b'g', b' ', b'/', b':', b'`', 0, 0xff] {
            for at in 0..HEX_LEN {
                let mut hex = *hex;
                hex[at] = bad;
                assert_eq!(Digest::from_hex(&hex), None, "byte {bad:#x} at {at}");
            }
        }
    }
}
