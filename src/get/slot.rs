//! What a slot of the journal says, and its bytes.

use super::scale::scaled;
use crate::proto::digest::{Algorithm, Hasher, STATE_LEN};
use crate::proto::tree::{PIECE_LEN, Prefix, SUBTREE_LEN, SUBTREES_MAX, Tree};
use crate::proto::{NAME_MAX, VERSION_LEN, Version};

/// The beginning of a slot.
const MAGIC: &[u8; 8] = b"xferpart";

/// The form of a slot, that of the saved MD5 state in it included.
pub const FORMAT: u16 = 2;

/// The form of version 0.2.0: an MD5 state without a digest that would tell whether the part still has those bytes. The
/// rest of such a slot counts; its state is ignored.
const FORMAT_1: u16 = 1;

/// Bytes in format 1 for when the part had changed last.
const CLOSED_LEN: usize = 16;

/// Bytes of a slot at most, and between the beginnings of the two.
pub const SLOT_LEN: usize = 8192;

/// Bytes of the checksum behind a slot.
const CHECKSUM_LEN: usize = 32;

/// Bytes of the server's name that are kept at most.
pub const ORIGIN_MAX: usize = 1024;

/// Bytes of a boot id at most; Linux has 36.
pub const BOOT_MAX: usize = 64;

/// Bytes of the pieces that a checkpoint covers: each of them is one or more.
pub const PIECE: u64 = scaled(PIECE_LEN);

/// A slot was waited for until it was on the disk.
const SYNCED: u8 = 1;

/// The MD5 state in a slot is one.
const HAS_MD5: u8 = 2;

/// All flags of format 1; the third said when the part had changed last.
const FLAGS_1: u8 = 7;

/// Of what a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name as the server was asked for it.
    pub name: Vec<u8>,
    /// The server, as it was named.
    pub origin: String,
    /// Bytes in the whole file.
    pub size: u64,
    /// Which content of it.
    pub version: Version,
    /// How it is digested.
    pub algorithm: Algorithm,
}

/// The digests of a part's first pieces: what is compared with the part, and what is continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The BLAKE3 digest of them.
    pub prefix: Prefix,
    /// The MD5 state behind them, if the transfer has one.
    pub md5: Option<[u8; STATE_LEN]>,
}

impl Checkpoint {
    /// Bytes that it covers: the part can be resumed behind them without reading them before.
    pub fn end(&self) -> u64 {
        self.prefix.len
    }

    /// The digest of a file of `size` bytes, continued behind this; `None` if it has none of this algorithm.
    pub fn hasher(&self, algorithm: Algorithm, size: u64) -> Option<Hasher> {
        match algorithm {
            Algorithm::Md5 => Hasher::restore(self.md5.as_ref()?),
            Algorithm::Blake3 => Some(Hasher::Blake3(Box::new(Tree::resume(&self.prefix, PIECE, size)?))),
        }
    }
}

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of what the part is.
    pub about: About,
    /// Bytes of the part that are good; at most the size.
    pub offset: u64,
    /// Of the first bytes, at most `offset`, and less than the size.
    pub checkpoint: Option<Checkpoint>,
    /// Later slots have higher numbers.
    pub sequence: u64,
    /// Whether it was waited for until it was on the disk.
    pub is_synced: bool,
    /// The boot of the machine that it was written under.
    pub boot: Vec<u8>,
}

impl Entry {
    /// Writes a slot.
    pub fn encode(&self) -> Vec<u8> {
        let prefix = self.checkpoint.as_ref().map(|checkpoint| &checkpoint.prefix);
        let md5 = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.md5);
        let mut flags = if self.is_synced { SYNCED } else { 0 };
        flags |= if md5.is_some() { HAS_MD5 } else { 0 };
        let mut out = Vec::with_capacity(SLOT_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&[self.about.algorithm.number(), flags]);
        for number in [self.sequence, self.about.size, self.offset, prefix.map_or(0, |prefix| prefix.len)] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.about.version.0);
        out.extend_from_slice(&md5.unwrap_or([0; STATE_LEN]));
        let subtrees = prefix.map_or(&[][..], |prefix| &prefix.subtrees);
        // One for each bit of a number of 64 bits.
        out.push(u8::try_from(subtrees.len()).unwrap_or(u8::MAX));
        subtrees.iter().for_each(|subtree| out.extend_from_slice(subtree));
        let texts =
            [(&self.boot[..], BOOT_MAX), (&self.about.name[..], NAME_MAX), (self.about.origin.as_bytes(), ORIGIN_MAX)];
        for (text, max) in texts {
            let text = text.get(..max).unwrap_or(text);
            // Each limit is below 2^16.
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(text);
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// Reads a slot of this format or the one before; `None` if it is none that we have written, or was not written to its
    /// end.
    pub fn decode(slot: &[u8]) -> Option<Entry> {
        let mut rest = slot;
        if take::<8>(&mut rest)? != *MAGIC {
            return None;
        }
        let format = u16::from_be_bytes(take(&mut rest)?);
        let known_flags = match format {
            FORMAT => SYNCED | HAS_MD5,
            FORMAT_1 => FLAGS_1,
            _ => return None,
        };
        let [algorithm, flags] = take(&mut rest)?;
        let algorithm = Algorithm::from_number(algorithm)?;
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (sequence, size, offset, covered) = (number()?, number()?, number()?, number()?);
        if format == FORMAT_1 {
            take::<CLOSED_LEN>(&mut rest)?;
        }
        let version = Version(take::<VERSION_LEN>(&mut rest)?);
        let md5 = take::<STATE_LEN>(&mut rest)?;
        let subtrees = if format == FORMAT { take_subtrees(&mut rest)? } else { Vec::new() };
        let boot = take_text(&mut rest, BOOT_MAX)?;
        let name = take_text(&mut rest, NAME_MAX)?;
        let origin = String::from_utf8(take_text(&mut rest, ORIGIN_MAX)?).ok()?;
        let used = slot.len() - rest.len();
        if take::<CHECKSUM_LEN>(&mut rest)? != *blake3::hash(slot.get(..used)?).as_bytes() {
            return None;
        }
        if flags & !known_flags != 0 || offset > size || covered > offset {
            return None;
        }
        let prefix = Prefix { len: covered, subtrees };
        let md5 = (flags & HAS_MD5 != 0).then_some(md5);
        let checkpoint = match (format, covered) {
            (FORMAT_1, _) => None,
            (_, 0) if md5.is_none() && prefix.subtrees.is_empty() => None,
            _ if covered < size && prefix.is_of_pieces(PIECE) => Some(Checkpoint { prefix, md5 }),
            _ => return None,
        };
        let about = About { name, origin, size, version, algorithm };
        let entry = Entry { about, offset, checkpoint, sequence, is_synced: flags & SYNCED != 0, boot };
        // What we would have written otherwise is of another version, whatever it calls itself.
        (format == FORMAT_1 || slot.starts_with(&entry.encode())).then_some(entry)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*field)
}

fn take_subtrees(rest: &mut &[u8]) -> Option<Vec<[u8; SUBTREE_LEN]>> {
    let [count] = take(rest)?;
    let count = usize::from(count);
    if count > SUBTREES_MAX {
        return None;
    }
    (0..count).map(|_| take(rest)).collect()
}

/// A text behind its length, at most `max` bytes.
fn take_text(rest: &mut &[u8], max: usize) -> Option<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes(take(rest)?));
    let (text, behind) = rest.split_at_checked(len).filter(|_| len <= max)?;
    *rest = behind;
    Some(text.to_vec())
}
