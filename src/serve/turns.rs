//! Who has something to do, and whose turn is next.

use std::collections::VecDeque;

use mio::Token;

/// Connections that have something to do, each once.
///
/// Those from which something has just come, most often a small request, take turns with the others, which may be busy
/// with large files: so a request waits for one turn of those for each request before it, and not for one of each of them.
#[derive(Default)]
pub struct Turns {
    asking: VecDeque<Token>,
    others: VecDeque<Token>,
    /// Whether the last turn was one of those that ask.
    asked_last: bool,
}

impl Turns {
    /// Puts a connection behind those of its kind.
    pub fn push(&mut self, token: Token, asks: bool) {
        if asks { self.asking.push_back(token) } else { self.others.push_back(token) }
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Token> {
        self.asked_last = !self.asking.is_empty() && (!self.asked_last || self.others.is_empty());
        if self.asked_last { self.asking.pop_front() } else { self.others.pop_front() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.asking.len() + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_kinds_take_turns() {
        let mut turns = Turns::default();
        for number in 0..3 {
            turns.push(Token(number), false);
            turns.push(Token(10 + number), true);
        }
        turns.push(Token(3), false);
        assert_eq!(turns.len(), 7);
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).map(|Token(number)| number).collect();
        assert_eq!(order, [10, 0, 11, 1, 12, 2, 3]);
        assert!(turns.is_empty());
        turns.push(Token(4), true);
        turns.push(Token(5), true);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(Token(4)), Some(Token(5)), None]);
    }
}
