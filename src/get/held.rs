//! A small file's bytes, held in memory until they are verified: threads and blocks would cost more than they bring.

use super::receive::Room;
use super::scale::scaled;
use super::wait::{Stop, Waits};
use crate::pages::Pages;

/// Bytes of a file that is held at most: what our server sends in one frame, and less than a millisecond of MD5.
pub const HELD_MAX: usize = scaled(256 * 1024) as usize;

// A block takes all of them at once, when a small file goes the way of a large one.
const _: () = assert!(HELD_MAX <= super::block::BLOCK_LEN);

/// The bytes of one file after the other.
#[derive(Default)]
pub struct Held {
    /// [`HELD_MAX`] bytes, so that no file has to wait for memory; none while another has taken them.
    buffer: Pages,
    len: usize,
    /// Where the last whole frame ends.
    border: usize,
}

impl Held {
    /// Room for the first file.
    pub fn new() -> Held {
        Held { buffer: Pages::new(HELD_MAX), len: 0, border: 0 }
    }

    /// Lets go of the last file.
    pub fn clear(&mut self) {
        (self.len, self.border) = (0, 0);
    }

    /// All that came.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// What the server meant to send, as far as it came.
    pub fn whole_frames(&self) -> &[u8] {
        self.buffer.get(..self.border).unwrap_or_default()
    }
}

impl Room for Held {
    fn received(&self) -> u64 {
        self.len as u64
    }

    /// As much as is asked for, up to [`HELD_MAX`] in all.
    fn room(&mut self, len: u64, _: &mut Waits) -> Result<&mut [u8], Stop> {
        let left = HELD_MAX.saturating_sub(self.len);
        let end = self.len + usize::try_from(len).unwrap_or(left).min(left);
        Ok(self.buffer.get_mut(self.len..end).unwrap_or_default())
    }

    fn add(&mut self, n: usize) {
        self.len = self.len.saturating_add(n).min(self.buffer.len());
    }

    fn end_frame(&mut self) {
        self.border = self.len;
    }
}
