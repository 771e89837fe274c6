//! Local files read again: a block at a time, and a part's first bytes while the rest of it arrives.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::block::BLOCK_LEN;
use super::disk::File;
use super::slot::PIECE;
use super::wait::Stop;
use super::workers::{Pending, Worker};
use crate::pages::Pages;
use crate::proto::tree::{Prefix, Tree};

/// Reads what a file holds there, a block at a time, with its place. A file that ends before is an error.
pub fn each_block(
    file: &File,
    range: Range<u64>,
    mut take: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Pages::new(BLOCK_LEN);
    let mut offset = range.start;
    while offset < range.end {
        let len = usize::try_from(range.end - offset).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
        match file.read_at(buffer.get_mut(..len).unwrap_or_default(), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                take(buffer.get(..n).unwrap_or_default(), offset)?;
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The comparison of a part's first bytes with the digest that its journal has of them.
pub struct Check {
    pending: Pending<io::Result<bool>>,
    done: Arc<AtomicU64>,
    len: u64,
}

impl Check {
    /// Begins to read them.
    pub fn start(worker: &Worker, file: Arc<File>, prefix: Prefix) -> Check {
        let (done, len) = (Arc::new(AtomicU64::new(0)), prefix.len);
        let progress = Arc::clone(&done);
        let pending = worker.run(move || {
            let mut tree = Tree::new(PIECE);
            each_block(&file, 0..len, |bytes, _| {
                // Nobody waits for it any more.
                if Arc::strong_count(&progress) == 1 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                tree.update(bytes);
                progress.store(tree.taken(), Ordering::Relaxed);
                Ok(())
            })?;
            Ok(tree.prefix().is_some_and(|read| read == prefix))
        });
        Check { pending, done, len }
    }

    /// Bytes to compare.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes compared so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The outcome, once all of it is compared: whether the part holds what was written to it, or why it cannot be read.
    pub fn poll(&self) -> Result<Option<io::Result<bool>>, Stop> {
        self.pending.poll()
    }
}
