//! How many files of a run have ended, and how, and how many bytes of them are here.

use std::collections::HashMap;
use std::time::Instant;

use crate::get::saved::Saved;

/// What is known of all files of a run.
pub struct Totals {
    /// Files in the run, so far as they are known, and whether no further ones can follow.
    pub files_known: u64,
    pub files_final: bool,
    /// Files that ended well: in each way, a number.
    pub new: u64,
    pub replaced: u64,
    pub unchanged: u64,
    pub kept: u64,
    /// Files that did not.
    pub failed: u64,
    pub not_tried: u64,
    /// Bytes that came over the network.
    pub received: u64,
    /// When the run began.
    pub started: Instant,
    /// Bytes in the files that ended well.
    saved_bytes: u64,
    /// Of files that have begun and not ended, but for the one at hand: bytes that are here, and bytes in the whole file.
    begun: HashMap<Vec<u8>, (u64, u64)>,
}

impl Totals {
    /// Before the first file.
    pub fn new(files: u64, started: Instant) -> Totals {
        Totals {
            files_known: files,
            files_final: true,
            new: 0,
            replaced: 0,
            unchanged: 0,
            kept: 0,
            failed: 0,
            not_tried: 0,
            received: 0,
            started,
            saved_bytes: 0,
            begun: HashMap::new(),
        }
    }

    /// Takes out a file that is at hand from now on.
    pub fn take(&mut self, name: &[u8]) {
        self.begun.remove(name);
    }

    /// Puts back a file that is not at hand any more.
    pub fn put(&mut self, name: &[u8], done: u64, total: u64) {
        self.begun.insert(name.to_vec(), (done, total));
    }

    /// A file ended well. A kept one has bytes that nobody has asked for.
    pub fn add(&mut self, name: &[u8], saved: Saved, size: Option<u64>) {
        self.begun.remove(name);
        let count = match saved {
            Saved::New | Saved::Written => &mut self.new,
            Saved::Replaced => &mut self.replaced,
            Saved::UpToDate => &mut self.unchanged,
            Saved::Kept => &mut self.kept,
        };
        *count += 1;
        if saved != Saved::Kept {
            self.saved_bytes += size.unwrap_or(0);
        }
    }

    /// A file failed: no more of it comes, and none of it counts.
    pub fn fail(&mut self, name: &[u8]) {
        self.begun.remove(name);
        self.failed += 1;
    }

    /// Files that are here.
    pub fn files_done(&self) -> u64 {
        self.new + self.replaced + self.unchanged + self.kept
    }

    /// Files of which nothing more comes.
    pub fn files_ended(&self) -> u64 {
        self.files_done() + self.failed + self.not_tried
    }

    /// Bytes that are here, and bytes in all files whose size is known, with those of the file at hand.
    pub fn bytes(&self, at_hand: Option<(u64, u64)>) -> (u64, u64) {
        let begun = self.begun.values().copied().chain(at_hand);
        let start = (self.saved_bytes, self.saved_bytes);
        begun.fold(start, |(done, known), (more, total)| (done.saturating_add(more), known.saturating_add(total)))
    }

    /// Whether the size of every file is known.
    pub fn bytes_final(&self, has_file_at_hand: bool) -> bool {
        let sized = self.files_ended() + self.begun.len() as u64 + u64::from(has_file_at_hand);
        self.files_final && sized >= self.files_known
    }

    /// `97 of 100 saved (4 replaced), 2 failed, 1 not tried`
    pub fn summary(&self) -> String {
        let mut line = format!("{} of {} saved", self.files_done(), self.files_known);
        let list = |counts: &[(u64, &str)]| {
            let some = counts.iter().filter(|(count, _)| *count > 0);
            some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        };
        let kinds = list(&[(self.replaced, "replaced"), (self.unchanged, "already up to date"), (self.kept, "kept")]);
        if !kinds.is_empty() {
            line.push_str(&format!(" ({kinds})"));
        }
        let rest = list(&[(self.failed, "failed"), (self.not_tried, "not tried")]);
        if !rest.is_empty() {
            line.push_str(&format!(", {rest}"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_each_file_to_its_end() {
        let mut totals = Totals::new(4, Instant::now());
        assert_eq!((totals.bytes(Some((10, 100))), totals.bytes_final(true)), ((10, 100), false));
        // It waits for its next attempt, another one ends well, and a third one fails.
        totals.put(b"a", 10, 100);
        totals.add(b"b", Saved::New, Some(5));
        totals.put(b"c", 7, 70);
        assert_eq!(totals.bytes(None), (22, 175));
        totals.fail(b"c");
        assert_eq!((totals.bytes(Some((1, 2))), totals.bytes_final(true)), ((16, 107), true));
        totals.take(b"a");
        assert_eq!(totals.bytes(None), (5, 5));
    }

    #[test]
    fn the_summary_names_what_there_is() {
        let mut totals = Totals::new(3, Instant::now());
        (0..3).for_each(|_| totals.add(b"a", Saved::New, Some(1)));
        assert_eq!(totals.summary(), "3 of 3 saved");
        let counts = Totals { replaced: 4, unchanged: 2, kept: 1, failed: 2, not_tried: 1, files_known: 13, ..totals };
        assert_eq!(
            counts.summary(),
            "10 of 13 saved (4 replaced, 2 already up to date, 1 kept), 2 failed, 1 not tried"
        );
    }
}
