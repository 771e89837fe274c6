//! A small file's bytes, held in memory until they are verified: threads and blocks would cost more than they bring. One that
//! takes its time goes the way of a large one.

use std::time::Instant;

use super::clock;
use super::journal::KEPT_AFTER;
use super::receive::Room;
use super::scale::scaled;
use super::wait::{Stop, Waits};
use crate::pages::Pages;

/// Bytes of a file that is held at most: less than a block, which it would fill for nobody to work on meanwhile, and two
/// milliseconds of MD5. One of a MiB or more has a part and a journal from its first byte on.
pub const HELD_MAX: usize = scaled(1 << 20) as usize - 1;

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
    /// When what has come is to leave memory.
    until: Option<Instant>,
}

/// What has come has been in memory for long enough.
pub struct Late;

impl Held {
    /// Room for the first file.
    pub fn new() -> Held {
        Held { buffer: Pages::new(HELD_MAX), len: 0, border: 0, until: None }
    }

    /// Lets go of the last file. What comes next is not kept, however long it takes.
    pub fn clear(&mut self) {
        (self.len, self.border, self.until) = (0, 0, None);
    }

    /// Lets go of the last file, and begins one.
    pub fn begin(&mut self) {
        self.clear();
        self.until = Some(clock::now() + KEPT_AFTER);
    }

    /// All that came.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Where in it the last whole frame ends: up to there it is what the server meant to send.
    pub fn frame_end(&self) -> usize {
        self.border
    }
}

impl Room for Held {
    type Late = Late;

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

    fn due(&self) -> Option<Instant> {
        self.until.filter(|_| self.len > 0)
    }

    fn write_out(&mut self) -> Result<(), Late> {
        Err(Late)
    }
}
