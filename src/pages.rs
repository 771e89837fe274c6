//! Memory that begins where a page does, for what the kernel copies in large pieces.

use std::ops::{Deref, DerefMut};

/// What `malloc` aligns large blocks to, before its own 16 bytes.
const PAGE: usize = 4096;

/// Bytes, all zero at first, whose first one lies at the beginning of a page.
///
/// The kernel copies from pages. Where it copies to a few bytes behind the beginning of one, which is where `malloc` puts
/// large blocks, some processors (AMD Zen, `rep movsb`) take four times as long.
#[derive(Debug, Default)]
pub struct Pages {
    /// Never grows, so that it stays where it is.
    memory: Vec<u8>,
    /// Where the first page begins.
    start: usize,
    len: usize,
}

impl Pages {
    /// So many bytes; none of their pages takes memory before it is written to.
    pub fn new(len: usize) -> Pages {
        let memory = vec![0; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Pages { memory, start, len }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // start <= PAGE and memory.len() == len + PAGE, or all are 0.
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // As above.
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_is_as_long_as_asked_for() {
        for len in [0, 1, 4095, 4096, 1 << 20] {
            let mut pages = Pages::new(len);
            assert_eq!((pages.len(), pages.as_ptr().addr() % PAGE), (len, 0));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
    }
}
