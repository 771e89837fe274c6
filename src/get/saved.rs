//! How a file ended where it should be.

/// What was done to the target, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There was no target before.
    New,
    /// The target was overwritten.
    Replaced,
    /// The bytes went to standard output, a pipe or a device.
    Written,
    /// The target already had the content of the server's file.
    UpToDate,
    /// Another program created the target during the transfer, and `--no-clobber` keeps that file.
    Kept,
}
