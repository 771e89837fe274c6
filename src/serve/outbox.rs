//! What is to be counted and logged of the bytes that were gathered for a peer, once the kernel has taken them.

use super::answer::Answer;

/// Where pieces end among the gathered bytes that the kernel has not taken, in order. A turn answers a few requests, so
/// that there are a few of them.
#[derive(Default)]
pub struct Outbox(Vec<Mark>);

struct Mark {
    /// Bytes to be taken up to the end of the piece.
    left: usize,
    piece: Piece,
}

/// What ends with a gathered byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of a file; with a line for the log, if one is due.
    File(usize, Option<String>),
    /// A reply; with what it answers, unless it is a refusal, of which the log has a line already.
    Reply(Option<Answer>),
}

impl Outbox {
    /// Notes that a piece ends with the last of the gathered bytes, of which there are so many now.
    pub fn push(&mut self, gathered: usize, piece: Piece) {
        self.0.push(Mark { left: gathered, piece });
    }

    /// The kernel takes so many bytes. How many of them are a file's.
    pub fn take(&mut self, bytes: usize) -> u64 {
        let before = self.file_bytes();
        self.0.iter_mut().for_each(|mark| mark.left = mark.left.saturating_sub(bytes));
        before - self.file_bytes()
    }

    /// The first piece, if the kernel has all of it.
    pub fn pop_taken(&mut self) -> Option<Piece> {
        if self.0.first()?.left > 0 {
            return None;
        }
        let mark = self.0.remove(0);
        if self.0.is_empty() {
            // A connection may be kept for long: it holds no memory that it does not need.
            self.0 = Vec::new();
        }
        Some(mark.piece)
    }

    /// Bytes of files that the kernel has not taken.
    pub fn file_bytes(&self) -> u64 {
        self.0.iter().map(Mark::file_bytes).sum()
    }

    /// The same of the reply that has not ended: those behind the last one that has.
    pub fn last_file_bytes(&self) -> u64 {
        let is_of_last = |mark: &&Mark| matches!(mark.piece, Piece::File(..));
        self.0.iter().rev().take_while(is_of_last).map(Mark::file_bytes).sum()
    }

    /// The replies that have ended and that the kernel has not taken to their end, each with the bytes of its file that are
    /// left.
    pub fn replies(&self) -> impl Iterator<Item = (&Answer, u64)> {
        let mut left = 0;
        self.0.iter().filter_map(move |mark| match &mark.piece {
            Piece::File(..) => {
                left += mark.file_bytes();
                None
            }
            Piece::Reply(answer) => {
                let left = std::mem::take(&mut left);
                answer.as_ref().map(|answer| (answer, left))
            }
        })
    }
}

impl Mark {
    /// Bytes of its file that the kernel has not taken.
    fn file_bytes(&self) -> u64 {
        match self.piece {
            Piece::File(len, _) => len.min(self.left) as u64,
            Piece::Reply(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::serve::answer::Brings;

    #[test]
    fn only_what_the_kernel_took_counts() {
        let mut outbox = Outbox::default();
        let first = Piece::Reply(Some(Answer {
            name: b"first"[..].into(),
            size: 5,
            brings: Brings::Bytes { from: 0 },
            asked: Instant::now(),
            has_line: true,
        }));
        // A header of 10 bytes, 5 of a file, 20 that end the reply; then a refusal of 7.
        outbox.push(15, Piece::File(5, None));
        outbox.push(35, first.clone());
        outbox.push(42, Piece::Reply(None));
        let left = |outbox: &Outbox| outbox.replies().map(|(_, left)| left).collect::<Vec<_>>();
        assert_eq!((left(&outbox), outbox.last_file_bytes()), (vec![5], 0));
        let steps = [(10, 0), (3, 3), (0, 0), (2, 2), (19, 0)];
        assert_eq!(steps.map(|(bytes, _)| (bytes, outbox.take(bytes))), steps);
        assert_eq!(outbox.pop_taken(), Some(Piece::File(5, None)));
        assert_eq!(outbox.pop_taken(), None, "the last byte of the reply is still here");
        // Another file behind them.
        outbox.push(8 + 4, Piece::File(4, None));
        assert_eq!((left(&outbox), outbox.last_file_bytes()), (vec![0], 4));
        assert_eq!((outbox.file_bytes(), outbox.take(8), outbox.take(2), outbox.file_bytes()), (4, 0, 2, 2));
        assert_eq!([outbox.pop_taken(), outbox.pop_taken()], [Some(first), Some(Piece::Reply(None))]);
        assert_eq!((outbox.pop_taken(), outbox.take(2)), (None, 2));
        assert_eq!([outbox.pop_taken(), outbox.pop_taken()], [Some(Piece::File(4, None)), None]);
        assert_eq!((outbox.0.capacity(), outbox.file_bytes()), (0, 0));
    }
}
