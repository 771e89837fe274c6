//! The line that shows how far a transfer is, fitted into a number of columns: the only file that knows pbr.

use std::time::Duration;

use pbr::ProgressBar;

use crate::text;
use crate::text::columns::{columns, shortened};

/// Columns of the longest percentage and speed, `100%` and `1023.9 KiB/s`, and of the shortest bar that shows anything.
const PERCENT_COLUMNS: usize = 4;
const PACE_COLUMNS: usize = 12;
const BAR_COLUMNS_MIN: usize = 10;

/// Columns of the longest times: `119 min left`, `119 min elapsed`, and `119 min` where there is no room to say that it
/// is left.
const LEFT_COLUMNS: usize = 12;
const ELAPSED_COLUMNS: usize = 15;
const SHORT_TIME_COLUMNS: usize = 7;

/// What the line says, in the order in which it is shown.
pub struct Fields {
    /// `3 of 1200`, of several files.
    pub count: Option<String>,
    /// The file at hand.
    pub name: String,
    /// What is done with it, unless it is received: the numbers behind it are of that.
    pub activity: Option<String>,
    /// How much is done, and how much that is when all is done.
    pub done: (u64, u64),
    /// Bytes done, and bytes in all, if that is known.
    pub bytes: (u64, Option<u64>),
    /// `11.2 MiB/s`, or for how long nothing has come; none where no speed is shown.
    pub pace: Option<String>,
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
    /// Whether it says what is done with the file.
    activity: bool,
    bytes: Bytes,
    bar: bool,
    pace: bool,
    /// Columns of the time; 0 without it.
    time: usize,
}

/// How the bytes are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bytes {
    Not,
    /// `2.9 GiB of 3.0 GiB`
    Short,
    /// `2.93 GiB of 3.00 GiB`
    Exact,
}

impl Bytes {
    /// Columns of the longest number below 1 TiB.
    fn columns(self) -> usize {
        if self == Bytes::Exact { "1023.99 GiB".len() } else { "1023.9 KiB".len() }
    }

    fn text(self, bytes: u64) -> String {
        if self == Bytes::Exact { text::exact_size(bytes) } else { text::size(bytes) }
    }
}

const fn layout(name: usize, bytes: Bytes, bar: bool, pace: bool, time: usize) -> Layout {
    Layout { name, activity: true, bytes, bar, pace, time }
}

/// The last resort.
const COUNT_ONLY: Layout = Layout { name: 0, activity: false, bytes: Bytes::Not, bar: false, pace: false, time: 0 };

/// From the richest to the poorest: the first one that fits is used. The second list is for several files, of which the
/// count says what the percentage says of one, and the bytes say more than a bar.
const OF_ONE_FILE: [Layout; 9] = [
    layout(32, Bytes::Exact, true, true, LEFT_COLUMNS),
    layout(32, Bytes::Short, true, true, LEFT_COLUMNS),
    layout(32, Bytes::Not, true, true, LEFT_COLUMNS),
    layout(16, Bytes::Not, true, true, LEFT_COLUMNS),
    layout(13, Bytes::Not, false, true, SHORT_TIME_COLUMNS),
    layout(12, Bytes::Not, false, true, 0),
    layout(4, Bytes::Not, false, false, 0),
    layout(0, Bytes::Not, false, false, 0),
    COUNT_ONLY,
];
const OF_SEVERAL: [Layout; 8] = [
    layout(16, Bytes::Exact, true, true, ELAPSED_COLUMNS),
    layout(16, Bytes::Short, true, true, ELAPSED_COLUMNS),
    layout(12, Bytes::Short, false, true, ELAPSED_COLUMNS),
    layout(9, Bytes::Short, false, true, SHORT_TIME_COLUMNS),
    layout(9, Bytes::Not, false, true, 0),
    layout(8, Bytes::Not, false, false, 0),
    layout(0, Bytes::Not, false, false, 0),
    COUNT_ONLY,
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
        parts.extend(self.count.clone());
        parts.push(padded(&shortened(&self.name, name_columns), name_columns));
        if let Some(activity) = self.activity_in(layout) {
            // A space more, where a name is before it: it is no part of that.
            parts.push(format!("{}{activity}", if name_columns > 0 { " " } else { "" }));
        }
        if self.count.is_none() {
            parts.push(format!("{:>PERCENT_COLUMNS$}", format!("{}%", self.percent())));
        }
        if layout.bytes != Bytes::Not {
            parts.push(padded(&self.bytes_text(layout.bytes), self.bytes_columns(layout.bytes)));
        }
        if layout.bar {
            parts.push(bar(self.done, bar_columns));
        }
        if let Some(pace) = self.pace.as_ref().filter(|_| layout.pace) {
            parts.push(format!("{pace:>PACE_COLUMNS$}"));
        }
        if layout.time > 0 {
            let text = self.time.text(layout.time > SHORT_TIME_COLUMNS);
            parts.push(format!("{text:>width$}", width = layout.time));
        }
        // A name without a place is no field.
        parts.retain(|part| !part.is_empty());
        parts.join(" ").trim_end().to_string()
    }

    /// Columns that the line takes at least with these fields.
    fn least(&self, layout: &Layout) -> usize {
        let first = self.count.as_deref().map_or(PERCENT_COLUMNS, columns);
        let name = self.name_least(layout);
        let pace = self.pace.as_deref().filter(|_| layout.pace);
        let fields = [
            name,
            self.activity_in(layout).map_or(0, |activity| activity.len() + usize::from(name > 0)),
            if layout.bytes == Bytes::Not { 0 } else { self.bytes_columns(layout.bytes) },
            if layout.bar { BAR_COLUMNS_MIN } else { 0 },
            pace.map_or(0, |pace| PACE_COLUMNS.max(columns(pace))),
            layout.time,
        ];
        first + fields.iter().filter(|field| **field > 0).map(|field| field + 1).sum::<usize>()
    }

    fn activity_in(&self, layout: &Layout) -> Option<&str> {
        self.activity.as_deref().filter(|_| layout.activity)
    }

    fn name_least(&self, layout: &Layout) -> usize {
        // The place of the names of several files has one width, whatever the name at hand.
        if self.count.is_some() { layout.name } else { layout.name.min(columns(&self.name)) }
    }

    fn name_most(&self, limit: usize) -> usize {
        if self.count.is_some() { limit / 4 } else { columns(&self.name) }
    }

    fn bytes_text(&self, shown: Bytes) -> String {
        match self.bytes {
            (done, Some(total)) => format!("{} of {}", shown.text(done), shown.text(total)),
            (done, None) => shown.text(done),
        }
    }

    /// Columns of the longest of these texts: `1023.9 KiB of 95.4 MiB`, or `16384.0 PiB of 16384.0 PiB`, which a server may
    /// claim.
    fn bytes_columns(&self, shown: Bytes) -> usize {
        let (done, total) = self.bytes;
        // Below 1 GiB, both ways to show a number are the same.
        let longest = if total.unwrap_or(done) < 1 << 30 { Bytes::Short.columns() } else { shown.columns() };
        let done = shown.text(done).len().max(longest);
        total.map_or(done, |total| done + " of ".len() + shown.text(total).len())
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
            Time::Left(time) => duration(time),
            Time::Elapsed(time) if is_long => format!("{} elapsed", duration(time)),
            // Without its word it would be taken for the time left.
            Time::Elapsed(_) | Time::Unknown => String::new(),
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
    let drawn = String::from_utf8_lossy(&bytes).trim().to_string();
    // pbr rounds: at 96 % a bar of 15 places is full.
    match drawn.strip_suffix("=]") {
        Some(most) if done < total => format!("{most}>]"),
        _ => drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(name: &str) -> Fields {
        Fields {
            count: None,
            name: name.to_string(),
            activity: None,
            done: (42 << 20, 100 << 20),
            bytes: (42 << 20, Some(100 << 20)),
            pace: Some(String::from("11.2 MiB/s")),
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

    fn checking(name: &str) -> Fields {
        Fields { activity: Some(String::from("checking")), pace: None, ..of_one(name) }
    }

    #[test]
    fn no_line_is_too_long_and_each_has_what_fits() {
        for name in ["a", "large.bin", &"x".repeat(300), &"測".repeat(50), &"👩\u{200d}🚀".repeat(20)] {
            for limit in 0..250 {
                for fields in [of_one(name), of_several(name), checking(name)] {
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
        assert_eq!(bar((96, 100), 12), "[=========>]");
        assert_eq!(bar((0, 0), 12), "[----------]");
    }

    #[test]
    fn what_is_done_with_a_file_is_said_before_its_numbers() {
        let cases = [
            (79, "disk.img  checking  42% 42.0 MiB of 100.0 MiB   [======>---------]     5 s left"),
            (30, "disk.img  checking  42%"),
            (17, "checking  42%"),
            (10, " 42%"),
        ];
        for (limit, shown) in cases {
            assert_eq!(checking("disk.img").line(limit), shown);
        }
    }

    /// Two decimals where there is room for them, and one where there is not.
    #[test]
    fn large_sizes_have_two_decimals() {
        let large = |name: &str| Fields { bytes: (1234 << 20, Some(40 << 30)), ..of_one(name) };
        assert!(large("large.bin").line(79).starts_with("large.bin  42% 1.21 GiB of 40.00 GiB    ["));
        assert!(large("thirteen.data").line(79).starts_with("thirteen.data  42% 1.2 GiB of 40.0 GiB    ["));
    }

    #[test]
    fn times_are_in_the_unit_that_says_enough() {
        let cases = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (400_000, "4 d")];
        for (seconds, shown) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), shown);
        }
    }
}
