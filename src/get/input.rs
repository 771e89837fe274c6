//! Bytes that have come from the server and are not used yet.

use crate::pages::Pages;

/// Bytes that are kept at most: the replies about many small files come out of one call.
const LEN: usize = 256 * 1024;

/// A buffer that is filled behind and used from the front.
pub struct Input {
    buffer: Pages,
    /// Where in the buffer the bytes lie: `start <= end <= LEN`.
    start: usize,
    end: usize,
}

impl Input {
    /// Nothing yet.
    pub fn new() -> Input {
        Input { buffer: Pages::new(LEN), start: 0, end: 0 }
    }

    /// What is here.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Says that so many bytes are used.
    pub fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Room for more. What is left is moved to the front for it: less than a reply, or nothing would be missing.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that so many bytes were put into the room.
    pub fn add(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.buffer.len());
    }

    /// Takes these bytes, as far as there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room().get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.add(bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_behind_comes_out_in_front() {
        let mut input = Input::new();
        input.push(b"abc");
        input.consume(1);
        assert_eq!(input.bytes(), b"bc");
        input.push(b"de");
        assert_eq!(input.bytes(), b"bcde");
        input.consume(9);
        assert_eq!(input.bytes(), b"");
        assert_eq!(input.room().len(), LEN);
        input.add(LEN);
        assert_eq!(input.room().len(), 0, "all of it is waiting");
    }
}
