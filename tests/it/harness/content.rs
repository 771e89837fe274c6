//! File contents that are the same in every run, and their digests.

use md5::{Digest, Md5};

/// `len` bytes that look random (splitmix64) and depend on `seed` alone.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// The digest of an algorithm of version 2: 1 is MD5 and 2 BLAKE3.
pub fn digest(algorithm: u8, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        1 => Md5::digest(bytes).to_vec(),
        2 => blake3::hash(bytes).as_bytes().to_vec(),
        other => panic!("no digest has the number {other}"),
    }
}

pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn digests_of_the_published_vectors() {
    assert_eq!(md5_hex(b"abc"), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(hex(&digest(2, b"")), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
}

#[test]
fn content_has_the_length_asked_for_and_depends_on_the_seed() {
    assert_eq!(content(1, 13).len(), 13);
    assert_eq!(content(1, 13), content(1, 13));
    assert_ne!(content(1, 13), content(2, 13));
}
