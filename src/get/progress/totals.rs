//! How many files of a run have ended, and how, and how many bytes of them are here.

use std::collections::HashMap;
use std::time::Instant;

use crate::get::clock;
use crate::get::saved::Saved;
use crate::text;

/// Files that failed, of which the summary has the names; each has a line of its own above.
const FAILED_SHOWN: usize = 3;

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
    /// The first few that failed.
    failed_names: Vec<Vec<u8>>,
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
            failed_names: Vec::new(),
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
        if self.failed_names.len() < FAILED_SHOWN {
            self.failed_names.push(name.to_vec());
        }
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

    /// `97 of 100 saved (4 replaced): 9.5 MiB, 0.8 s, 11.9 MiB/s; 2 failed: 'a', 'b'; 1 not tried`
    pub fn summary(&self) -> String {
        let mut line = format!("{} of {} saved", self.files_done(), self.files_known);
        let kinds = [(self.replaced, "replaced"), (self.unchanged, "already up to date"), (self.kept, "kept")];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<String> = kinds.map(|(count, what)| format!("{count} {what}")).collect();
        if !kinds.is_empty() {
            line.push_str(&format!(" ({})", kinds.join(", ")));
        }
        let seconds = clock::since(self.started).as_secs_f64();
        if self.received > 0 {
            let (size, speed) = (text::size(self.received), text::speed(self.received, seconds));
            line.push_str(&format!(": {size}, {seconds:.1} s, {speed}"));
        }
        if self.failed > 0 {
            let names: Vec<String> = self.failed_names.iter().map(|name| text::quoted(name)).collect();
            line.push_str(&format!("; {} failed: {}", self.failed, names.join(", ")));
            match self.failed - names.len() as u64 {
                0 => {}
                more => line.push_str(&format!(" and {more} more")),
            }
        }
        if self.not_tried > 0 {
            line.push_str(&format!("; {} not tried", self.not_tried));
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
        // A run of a second: the moment in which it is asked is less than a tenth more.
        let second_ago = || Instant::now() - std::time::Duration::from_secs(1);
        let mut totals = Totals::new(3, second_ago());
        (0..3).for_each(|_| totals.add(b"a", Saved::UpToDate, Some(1)));
        assert_eq!(totals.summary(), "3 of 3 saved (3 already up to date)");
        let mut totals = Totals { replaced: 4, new: 3, kept: 1, received: 5 << 20, ..Totals::new(13, second_ago()) };
        [&b"a"[..], b"b", b"c\n"].iter().for_each(|name| totals.fail(name));
        let begin = "8 of 13 saved (4 replaced, 1 kept): 5.0 MiB, 1.0 s, ";
        let summary = totals.summary();
        assert!(summary.starts_with(begin) && summary.ends_with(" MiB/s; 3 failed: 'a', 'b', 'c\\n'"), "{summary}");
        (0..2).for_each(|_| totals.fail(b"d"));
        totals.not_tried = 1;
        assert!(totals.summary().ends_with("; 5 failed: 'a', 'b', 'c\\n' and 2 more; 1 not tried"));
        let mut totals = Totals { not_tried: 1, ..Totals::new(2, second_ago()) };
        totals.fail(b"a");
        assert_eq!(totals.summary(), "0 of 2 saved; 1 failed: 'a'; 1 not tried");
    }
}
