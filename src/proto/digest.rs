//! The digests that verify a file: MD5 (RFC 1321), which finds accidents and not attackers, and BLAKE3.

use std::fmt;

use md5::digest::common::hazmat::{SerializableState, SerializedState};
use md5::{Digest as _, Md5};

use super::tree::{PIECE_LEN, Prefix, Tree};

/// Hexadecimal digits of a digest on the version 1 wire.
pub const HEX_LEN: usize = 32;

/// Bytes of an MD5 and of a BLAKE3 digest.
const MD5_LEN: usize = 16;
const BLAKE3_LEN: usize = 32;

/// Bytes of a digest at most.
pub const DIGEST_MAX: usize = BLAKE3_LEN;

/// Bytes of a saved MD5 state: chaining value, length and the bytes of the block that is not full yet.
pub const STATE_LEN: usize = 88;

/// How a file is digested (xfer-protocol(5), VERSION 2, Digests).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// What the first system promised; the only one in version 1.
    Md5,
    /// Many times as fast.
    Blake3,
}

impl Algorithm {
    /// The algorithm of a number on the wire.
    pub fn from_number(number: u8) -> Option<Algorithm> {
        match number {
            1 => Some(Algorithm::Md5),
            2 => Some(Algorithm::Blake3),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Algorithm::Md5 => 1,
            Algorithm::Blake3 => 2,
        }
    }

    /// Bytes of its digests.
    pub fn digest_len(self) -> usize {
        match self {
            Algorithm::Md5 => MD5_LEN,
            Algorithm::Blake3 => BLAKE3_LEN,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Md5 => "md5",
            Algorithm::Blake3 => "blake3",
        })
    }
}

/// The digest of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// MD5.
    Md5([u8; MD5_LEN]),
    /// BLAKE3 with its usual output length.
    Blake3([u8; BLAKE3_LEN]),
}

impl Digest {
    /// Reads [`HEX_LEN`] lower-case hexadecimal digits of MD5; anything else is `None`.
    pub fn from_hex(hex: &[u8; HEX_LEN]) -> Option<Digest> {
        let mut bytes = [0; MD5_LEN];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Digest::Md5(bytes))
    }

    /// A digest of this algorithm from exactly its bytes.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Digest> {
        match algorithm {
            Algorithm::Md5 => bytes.try_into().ok().map(Digest::Md5),
            Algorithm::Blake3 => bytes.try_into().ok().map(Digest::Blake3),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Md5(bytes) => bytes,
            Digest::Blake3(bytes) => bytes,
        }
    }

    /// What made it.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Md5(_) => Algorithm::Md5,
            Digest::Blake3(_) => Algorithm::Blake3,
        }
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
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A digest in the making.
#[derive(Clone)]
pub enum Hasher {
    /// MD5.
    Md5(Md5),
    /// BLAKE3, whose state has some 2 KB.
    Blake3(Box<Tree>),
}

impl Hasher {
    /// A digest of nothing yet.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher::in_pieces(algorithm, PIECE_LEN)
    }

    /// A digest of nothing yet; BLAKE3 in pieces of so many bytes, which changes nothing but [`Hasher::prefix`].
    pub fn in_pieces(algorithm: Algorithm, piece_len: u64) -> Hasher {
        match algorithm {
            Algorithm::Md5 => Hasher::Md5(Md5::new()),
            Algorithm::Blake3 => Hasher::Blake3(Box::new(Tree::new(piece_len))),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Md5(state) => state.update(bytes),
            Hasher::Blake3(tree) => tree.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Md5(state) => Digest::Md5(state.finalize().into()),
            Hasher::Blake3(tree) => Digest::Blake3(tree.finish()),
        }
    }

    /// The state of MD5, to continue with in another process; BLAKE3 has its [`Hasher::prefix`] for that.
    pub fn save(&self) -> Option<[u8; STATE_LEN]> {
        match self {
            Hasher::Md5(state) => state.serialize().as_slice().try_into().ok(),
            Hasher::Blake3(_) => None,
        }
    }

    /// The digest of the bytes taken that BLAKE3 can continue with, if they are whole pieces.
    pub fn prefix(&self) -> Option<Prefix> {
        match self {
            Hasher::Md5(_) => None,
            Hasher::Blake3(tree) => tree.prefix(),
        }
    }

    /// Continues with a saved MD5 state; `None` if it can be none.
    pub fn restore(state: &[u8; STATE_LEN]) -> Option<Hasher> {
        let state = SerializedState::<Md5>::try_from(state.as_slice()).ok()?;
        Md5::deserialize(&state).ok().map(Hasher::Md5)
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

    fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn known_digests() {
        // RFC 1321, A.5, and the BLAKE3 paper's test vectors.
        let cases = [
            (Algorithm::Md5, "", "d41d8cd98f00b204e9800998ecf8427e"),
            (Algorithm::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Blake3, "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        ];
        for (algorithm, text, hex) in cases {
            let digest = digest_of(algorithm, text.as_bytes());
            assert_eq!(digest.to_string(), hex);
            assert_eq!(digest.as_bytes().len(), algorithm.digest_len());
            assert_eq!(Digest::from_bytes(algorithm, digest.as_bytes()), Some(digest));
            assert_eq!(Digest::from_bytes(algorithm, &digest.as_bytes()[1..]), None);
            assert_eq!(Algorithm::from_number(algorithm.number()), Some(algorithm));
        }
    }

    #[test]
    fn a_saved_state_goes_on() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for cut in [0, 1, 63, 64, 65, 500, 1000] {
            let mut hasher = Hasher::new(Algorithm::Md5);
            hasher.update(&bytes[..cut]);
            let state = hasher.save().expect("MD5 can be saved");
            let mut hasher = Hasher::restore(&state).expect("what was saved can be restored");
            hasher.update(&bytes[cut..]);
            assert_eq!(hasher.finish(), digest_of(Algorithm::Md5, &bytes), "cut at {cut}");
        }
        assert!(Hasher::new(Algorithm::Blake3).save().is_none());
        assert!(Hasher::restore(&[0xff; STATE_LEN]).is_none(), "a block of 255 bytes");
    }

    #[test]
    fn the_form_of_a_saved_state_is_fixed() {
        // It lies in journals: an update of the library that changes it needs another format number there.
        let mut hasher = Hasher::new(Algorithm::Md5);
        hasher.update(&[7; 65]);
        let state = hasher.save().expect("MD5 can be saved");
        let shown: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
        // Chaining value, full blocks, bytes behind them, these bytes.
        let expected = ["dd9900092056f63699323aca253dc337", "0100000000000000", "01", "07", &"00".repeat(62)].concat();
        assert_eq!(shown, expected);
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
