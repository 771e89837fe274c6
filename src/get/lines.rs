//! Lines for standard error, gathered while there is something better to do: a write for each costs as much as a file.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::console;
#[cfg(test)]
use crate::simulation::machine;

/// Bytes that are gathered at most.
const WAITING_MAX: usize = 16 * 1024;

/// Where lines go. Clones share what waits; whatever is left goes out with the last of them.
#[derive(Clone, Default)]
pub struct Lines(Rc<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: RefCell<Vec<u8>>,
    /// Whether standard error did not take some that were printed, although somebody has it open.
    is_any_lost: Cell<bool>,
}

impl Lines {
    /// Has a line printed before the next wait.
    pub fn print(&self, line: &str) {
        let mut waiting = self.0.bytes.borrow_mut();
        waiting.extend_from_slice(line.as_bytes());
        waiting.push(b'\n');
        if waiting.len() >= WAITING_MAX {
            drop(waiting);
            self.flush();
        }
    }

    /// Prints all that waits.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Whether any of what was printed so far is lost. What nobody wants to read is not.
    pub fn is_any_lost(&self) -> bool {
        self.0.is_any_lost.get()
    }
}

impl Waiting {
    fn flush(&self) {
        let waiting = self.bytes.take();
        #[cfg(test)]
        if machine::print(&waiting) {
            return;
        }
        let is_lost = console::with(|console| {
            let is_lost = console.print(&waiting) < waiting.len() && !console.is_closed();
            // A line of the log may have taken its place, too.
            console.show_bar();
            is_lost
        });
        self.is_any_lost.set(is_lost || self.is_any_lost.get());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.flush();
    }
}
