//! How large things are.

/// A number of bytes; in this crate's own tests a 4096th of it, so that a simulated file of some KiB has as many blocks,
/// slots and syncs as a large one. The tests of the real binary know only the real sizes.
pub const fn scaled(bytes: u64) -> u64 {
    if cfg!(test) { bytes / 4096 } else { bytes }
}
