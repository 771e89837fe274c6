//! The line that shows how far a transfer is, fitted into a number of columns: the only file that knows pbr.

use std::time::Duration;

use pbr::ProgressBar;

use crate::text;
use crate::text::columns::{columns, shortened};

/// Columns of the longest percentage and speed, `100%` and `1023.9 KiB/s`, and of the shortest bar that shows anything.
const PERCENT_COLUMNS: usize = 4;
const PACE_COLUMNS: usize = 12;
const BAR_COLUMNS_MIN: usize = 10;

/// Columns of the longest times: `119 min left`, and `119 min` where there is no room to say that it is left.
const TIME_COLUMNS: usize = 12;
const SHORT_TIME_COLUMNS: usize = 7;

/// What the line says, in the order in which it is shown.
pub struct Fields {
    /// `3 of 1200`, of several files.
    pub count: Option<String>,
    /// The file at hand.
    pub name: String,
    /// How much is done, and how much that is when all is done.
    pub done: (u64, u64),
    /// Bytes done, and bytes in all, if that is known.
    pub bytes: (u64, Option<u64>),
    /// `11.2 MiB/s`, or what happens in place of it.
    pub pace: String,
    /// The time.
    pub time: Time,
}

/// A time at the end of the line.
#[derive(Clone, Copy)]
pub enum Time {
    /// Until all is done.
    Left(Duration),
    /// Since the run began.
    Elapsed(Duration),
    /// None that says anything.
    Unknown,
}

/// Which fields a line has.
struct Layout {
    /// Columns that the name gets before anything with a lower rank has a place; a shorter name takes what it needs.
    name: usize,
    bytes: bool,
    bar: bool,
    pace: bool,
    /// Columns of the time; 0 without it.
    time: usize,
}

const fn layout(name: usize, bytes: bool, bar: bool, pace: bool, time: usize) -> Layout {
    Layout { name, bytes, bar, pace, time }
}

/// From the richest to the poorest: the first one that fits is used. The second list is for several files, of which the
/// count says what the percentage says of one, and the bytes say more than a bar.
const OF_ONE_FILE: [Layout; 7] = [
    layout(32, true, true, true, TIME_COLUMNS),
    layout(32, false, true, true, TIME_COLUMNS),
    layout(16, false, true, true, TIME_COLUMNS),
    layout(13, false, false, true, SHORT_TIME_COLUMNS),
    layout(12, false, false, true, 0),
    layout(4, false, false, false, 0),
    layout(0, false, false, false, 0),
];
const OF_SEVERAL: [Layout; 6] = [
    layout(16, true, true, true, TIME_COLUMNS),
    layout(12, true, false, true, TIME_COLUMNS),
    layout(9, true, false, true, SHORT_TIME_COLUMNS),
    layout(9, false, false, true, 0),
    layout(8, false, false, false, 0),
    layout(0, false, false, false, 0),
];

impl Fields {
    /// The line, in at most so many columns. What does not fit is left out; what is shown keeps its place and its width
    /// while the numbers change.
    pub fn line(&self, limit: usize) -> String {
        let layouts: &[Layout] = if self.count.is_some() { &OF_SEVERAL } else { &OF_ONE_FILE };
        let fitting =
            layouts.iter().find_map(|layout| limit.checked_sub(self.least(layout)).map(|left| (layout, left)));
        let Some((layout, left)) = fitting else { return String::new() };
        let name_least = self.name_least(layout);
        let name_columns = match name_least {
            0 => 0,
            least => least + left.min(self.name_most(limit).saturating_sub(least)),
        };
        let bar_columns = BAR_COLUMNS_MIN + left - (name_columns - name_least);
        let mut parts = Vec::new();
        match &self.count {
            Some(count) => {
                parts.push(count.clone());
                parts.push(padded(&shortened(&self.name, name_columns), name_columns));
            }
            None => {
                parts.push(padded(&shortened(&self.name, name_columns), name_columns));
                parts.push(format!("{:>PERCENT_COLUMNS$}", format!("{}%", self.percent())));
            }
        }
        if layout.bytes {
            parts.push(padded(&self.bytes_text(), self.bytes_columns()));
        }
        if layout.bar {
            parts.push(bar(self.done, bar_columns));
        }
        if layout.pace {
            parts.push(format!("{:>PACE_COLUMNS$}", self.pace));
        }
        if layout.time > 0 {
            parts.push(format!("{:>width$}", self.time.text(layout.time == TIME_COLUMNS), width = layout.time));
        }
        // A name without a place is no field.
        parts.retain(|part| !part.is_empty());
        parts.join(" ").trim_end().to_string()
    }

    /// Columns that the line takes at least with these fields.
    fn least(&self, layout: &Layout) -> usize {
        let first = self.count.as_deref().map_or(PERCENT_COLUMNS, columns);
        let fields = [
            self.name_least(layout),
            if layout.bytes { self.bytes_columns() } else { 0 },
            if layout.bar { BAR_COLUMNS_MIN } else { 0 },
            // Longer than any speed: `server hashing`.
            if layout.pace { PACE_COLUMNS.max(columns(&self.pace)) } else { 0 },
            layout.time,
        ];
        first + fields.iter().filter(|field| **field > 0).map(|field| field + 1).sum::<usize>()
    }

    fn name_least(&self, layout: &Layout) -> usize {
        // The place of the names of several files has one width, whatever the name at hand.
        if self.count.is_some() { layout.name } else { layout.name.min(columns(&self.name)) }
    }

    fn name_most(&self, limit: usize) -> usize {
        if self.count.is_some() { limit / 4 } else { columns(&self.name) }
    }

    fn bytes_text(&self) -> String {
        match self.bytes {
            (done, Some(total)) => format!("{} of {}", text::size(done), text::size(total)),
            (done, None) => text::size(done),
        }
    }

    /// Columns of the longest of these texts: `1023.9 KiB of 95.4 MiB`, or `16384.0 PiB of 16384.0 PiB`, which a server may
    /// claim.
    fn bytes_columns(&self) -> usize {
        let done = text::size(self.bytes.0).len().max("1023.9 KiB".len());
        self.bytes.1.map_or(done, |total| done + " of ".len() + text::size(total).len())
    }

    fn percent(&self) -> u128 {
        let (done, total) = self.done;
        u128::from(done) * 100 / u128::from(total.max(1))
    }
}

impl Time {
    fn text(self, is_long: bool) -> String {
        match self {
            Time::Left(time) if is_long => format!("{} left", duration(time)),
            Time::Left(time) | Time::Elapsed(time) => duration(time),
            Time::Unknown => String::new(),
        }
    }

    /// The time for a line that is printed once.
    pub fn for_line(self) -> Option<String> {
        Some(self.text(true)).filter(|text| !text.is_empty())
    }
}

/// A time in its largest unit of which there are at least two.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", (seconds / 86_400).min(999)),
    }
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// `[====>-----]`, with its brackets. pbr takes a width that includes the places of what we turn off; what it writes to a
/// Vec cannot fail.
fn bar((done, total): (u64, u64), width: usize) -> String {
    let mut bytes = Vec::new();
    let mut bar = ProgressBar::on(&mut bytes, total.max(1));
    (bar.show_percent, bar.show_speed, bar.show_time_left) = (false, false, false);
    (bar.show_counter, bar.show_message, bar.show_tick) = (false, false, false);
    // pbr keeps two columns behind the bar.
    bar.set_width(Some(width + 2));
    bar.set(done.min(total));
    String::from_utf8_lossy(&bytes).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(name: &str) -> Fields {
        Fields {
            count: None,
            name: name.to_string(),
            done: (42 << 20, 100 << 20),
            bytes: (42 << 20, Some(100 << 20)),
            pace: String::from("11.2 MiB/s"),
            time: Time::Left(Duration::from_secs(5)),
        }
    }

    fn of_several(name: &str) -> Fields {
        Fields {
            count: Some(String::from("   3 of 1200")),
            done: (3, 1200),
            bytes: (12_300, None),
            time: Time::Elapsed(Duration::from_secs(12)),
            ..of_one(name)
        }
    }

    #[test]
    fn no_line_is_too_long_and_each_has_what_fits() {
        for name in ["a", "large.bin", &"x".repeat(300), &"測".repeat(50), &"👩\u{200d}🚀".repeat(20)] {
            for limit in 0..250 {
                for fields in [of_one(name), of_several(name)] {
                    let line = fields.line(limit);
                    assert!(columns(&line) <= limit, "{limit} columns: {line:?}");
                    assert!(!line.is_empty() || limit < 12, "nothing in {limit} columns");
                }
            }
        }
    }

    #[test]
    fn no_size_makes_a_line_too_long() {
        for (done, total) in [(u64::MAX, u64::MAX), (u64::MAX - 1, u64::MAX), (1, u64::MAX)] {
            for fields in [of_one("a"), of_several("a")] {
                let fields = Fields { done: (done, total), bytes: (done, Some(total)), ..fields };
                for limit in 0..250 {
                    let line = fields.line(limit);
                    assert!(columns(&line) <= limit, "{limit} columns: {line:?}");
                }
            }
        }
    }

    #[test]
    fn the_bar_takes_what_is_left() {
        let line = of_one("large.bin").line(79);
        assert_eq!(line, "large.bin  42% 42.0 MiB of 100.0 MiB   [=====>------]   11.2 MiB/s     5 s left");
        assert_eq!(columns(&of_one("large.bin").line(199)), 199);
        assert_eq!(bar((0, 5), 12), "[----------]");
        assert_eq!(bar((5, 5), 12), "[==========]");
        assert_eq!(bar((0, 0), 12), "[----------]");
    }

    #[test]
    fn times_are_in_the_unit_that_says_enough() {
        let cases = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (400_000, "4 d")];
        for (seconds, shown) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), shown);
        }
    }
}
