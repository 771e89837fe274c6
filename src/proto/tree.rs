//! BLAKE3 in pieces of equal length, so that the digest of a file's first pieces can be kept, compared, and continued
//! without reading them again.
//!
//! BLAKE3 is a tree of chunks (the BLAKE3 paper, 2.1 and 5.3): pieces whose length is a power of two are whole subtrees of
//! it. Of `n` whole pieces as many chaining values are kept as `n` has bits set, the largest subtree first.

use blake3::hazmat::{self, ChainingValue, HasherExt as _, Mode};

/// Bytes of a piece in a real file: from here on BLAKE3 is as fast as in one go, and 2^39 of them are 2^64 bytes.
pub const PIECE_LEN: u64 = 32 << 20;

/// Bytes of a chaining value.
pub const SUBTREE_LEN: usize = 32;

/// Chaining values of a prefix at most: one for each bit of the number of pieces in 2^64 bytes.
pub const SUBTREES_MAX: usize = 64;

/// The digest of the first pieces of a file, `len` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes that it covers: whole pieces.
    pub len: u64,
    /// The chaining values of its subtrees, the largest one first: as many as `len / piece` has bits set.
    pub subtrees: Vec<[u8; SUBTREE_LEN]>,
}

impl Prefix {
    /// Whether it can be the digest of pieces of this length, at least one.
    pub fn is_of_pieces(&self, piece_len: u64) -> bool {
        let pieces = self.len / piece_len;
        pieces > 0 && pieces * piece_len == self.len && pieces.count_ones() as usize == self.subtrees.len()
    }
}

/// A BLAKE3 digest in the making.
#[derive(Clone)]
pub struct Tree {
    piece_len: u64,
    /// Whole pieces in `subtrees`.
    pieces: u64,
    subtrees: Vec<ChainingValue>,
    /// The piece behind them: it may be whole, but is merged only when more comes, since the root is made otherwise.
    piece: blake3::Hasher,
    /// Bytes in it; 0 <= filled <= piece_len.
    filled: u64,
}

impl Tree {
    /// A digest of nothing yet, in pieces of so many bytes: a power of two, and at least a chunk (1024).
    pub fn new(piece_len: u64) -> Tree {
        debug_assert!(piece_len.is_power_of_two() && piece_len >= 1024);
        Tree { piece_len, pieces: 0, subtrees: Vec::new(), piece: blake3::Hasher::new(), filled: 0 }
    }

    /// Continues behind a prefix of a file of `size` bytes. `None` if it cannot be one of pieces of this length, or is
    /// the whole file: the root of a tree is made otherwise than the subtrees that are kept.
    pub fn resume(prefix: &Prefix, piece_len: u64, size: u64) -> Option<Tree> {
        if prefix.len >= size || !prefix.is_of_pieces(piece_len) {
            return None;
        }
        let pieces = prefix.len / piece_len;
        let mut tree = Tree::new(piece_len);
        (tree.pieces, tree.subtrees) = (pieces, prefix.subtrees.clone());
        tree.begin_piece();
        Some(tree)
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == self.piece_len {
                self.end_piece();
            }
            let room = usize::try_from(self.piece_len - self.filled).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.piece.update(now);
            self.filled += now.len() as u64;
            bytes = later;
        }
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.pieces * self.piece_len + self.filled
    }

    /// The digest of the bytes taken, if they are whole pieces and at least one.
    pub fn prefix(&self) -> Option<Prefix> {
        let mut whole = self.clone();
        if whole.filled == whole.piece_len {
            whole.end_piece();
        }
        let is_whole = whole.filled == 0 && whole.pieces > 0;
        is_whole.then(|| Prefix { len: whole.taken(), subtrees: whole.subtrees })
    }

    /// The BLAKE3 digest of all bytes taken. Behind a prefix that was resumed, at least one byte must have been.
    pub fn finish(mut self) -> [u8; SUBTREE_LEN] {
        if self.subtrees.is_empty() {
            return self.piece.finalize().into();
        }
        let mut right = self.piece.finalize_non_root();
        while let Some(left) = self.subtrees.pop() {
            if self.subtrees.is_empty() {
                return hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into();
            }
            right = hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        right
    }

    /// Puts the piece, which is whole, to those before it.
    fn end_piece(&mut self) {
        let mut subtree = self.piece.finalize_non_root();
        self.pieces += 1;
        // As often as the number of pieces is even, two subtrees of one size have become one of twice the size.
        for _ in 0..self.pieces.trailing_zeros() {
            if let Some(left) = self.subtrees.pop() {
                subtree = hazmat::merge_subtrees_non_root(&left, &subtree, Mode::Hash);
            }
        }
        self.subtrees.push(subtree);
        self.begin_piece();
    }

    fn begin_piece(&mut self) {
        self.piece = blake3::Hasher::new();
        self.piece.set_input_offset(self.pieces * self.piece_len);
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest piece: one chunk. The tree above it is that of large files.
    const PIECE: u64 = 1024;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|at| (at % 251 + at / 251) as u8).collect()
    }

    fn tree_of(bytes: &[u8]) -> Tree {
        let mut tree = Tree::new(PIECE);
        tree.update(bytes);
        tree
    }

    /// Around each number of whole pieces, however the bytes come, and however few of them come again.
    #[test]
    fn it_is_blake3_whole_or_resumed() {
        for pieces in 0..20 {
            for size in [pieces * PIECE, pieces * PIECE + 1, (pieces + 1) * PIECE - 1] {
                let bytes = bytes(size);
                let expected = *blake3::hash(&bytes).as_bytes();
                assert_eq!(tree_of(&bytes).finish(), expected, "{size} bytes at once");
                let mut by_parts = Tree::new(PIECE);
                bytes.chunks(700).for_each(|part| by_parts.update(part));
                assert_eq!((by_parts.taken(), by_parts.finish()), (size, expected), "{size} bytes in parts");
                for at in 1..=size / PIECE {
                    let (before, behind) = bytes.split_at((at * PIECE) as usize);
                    let prefix = tree_of(before).prefix().expect("whole pieces");
                    assert_eq!((prefix.len, prefix.is_of_pieces(PIECE)), (at * PIECE, true));
                    match Tree::resume(&prefix, PIECE, size) {
                        Some(mut tree) => {
                            tree.update(behind);
                            assert_eq!(tree.finish(), expected, "{size} bytes, resumed at {}", prefix.len);
                        }
                        None => assert_eq!(prefix.len, size, "only of the whole file none can be resumed"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_of_whole_pieces_and_of_each_of_their_bits() {
        assert_eq!(tree_of(&[]).prefix(), None);
        assert_eq!(tree_of(&bytes(PIECE + 1)).prefix(), None);
        let content = bytes(6 * PIECE);
        let prefix = tree_of(&content).prefix().expect("whole pieces");
        assert_eq!(prefix.subtrees.len(), 2, "four pieces and two");
        for at in (0..content.len()).step_by(97) {
            let mut other = content.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(tree_of(&other).prefix().expect("whole pieces"), prefix, "byte {at}");
        }
    }

    #[test]
    fn what_can_be_no_prefix_is_none() {
        let prefix = tree_of(&bytes(3 * PIECE)).prefix().expect("whole pieces");
        let size = 10 * PIECE;
        assert!(Tree::resume(&prefix, PIECE, size).is_some());
        for len in [0, 1, PIECE, 4 * PIECE, 3 * PIECE + 1, u64::MAX] {
            assert!(Tree::resume(&Prefix { len, ..prefix.clone() }, PIECE, size).is_none(), "{len}");
        }
    }
}
