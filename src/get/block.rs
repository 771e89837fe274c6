//! A block: room for the next bytes of a file on their way from the network to the threads, and then these bytes.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use mio::Waker;

use super::scale::scaled;
use super::workers::wake;
use crate::pages::Pages;

/// Bytes of a block: small writes cost twice as much CPU on ext4.
pub const BLOCK_LEN: usize = scaled(1 << 20) as usize;

/// Room for the next bytes of a file, and then these bytes; its buffer goes home when the last thread lets go of it.
pub struct Block {
    pub buffer: Pages,
    pub len: usize,
    /// Where in the file it begins.
    pub offset: u64,
    /// Where in it the last whole frame ends, if one does.
    pub frame_end: Option<usize>,
    pub home: Sender<Pages>,
    pub waker: Arc<Waker>,
}

impl Block {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Where in the file they begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where in the file the last whole frame in it ends, if one does.
    pub fn frame_end(&self) -> Option<u64> {
        self.frame_end.map(|end| self.offset + end as u64)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody takes it back at the end of the process.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
        wake(&self.waker);
    }
}
