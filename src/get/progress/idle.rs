//! The line that says what a run waits for while no file comes: `large.bin  waiting for nas:9999 to answer, 3 s`.

use crate::text::columns::{columns, shortened};

/// Columns of a shortened name that still says something.
const NAME_COLUMNS_MIN: usize = 8;

/// What the line says.
pub struct Idle {
    /// `3 of 1200`, of several files.
    pub count: Option<String>,
    /// The file that is waited for, if it is one.
    pub name: Option<String>,
    /// What is waited for, and the same in fewer words.
    pub what: [String; 2],
}

impl Idle {
    /// The line, in at most so many columns: what is waited for comes before the count, and that before the name.
    pub fn line(&self, limit: usize) -> String {
        let [long, short] = &self.what;
        let what = if columns(long) <= limit { long } else { short };
        let room = limit.saturating_sub(columns(what) + 2);
        let mut before = self.count.clone().filter(|count| columns(count) <= room).unwrap_or_default();
        if let Some(name) = &self.name {
            let space = usize::from(!before.is_empty());
            let name_columns = columns(name).min(room.saturating_sub(columns(&before) + space));
            if name_columns >= NAME_COLUMNS_MIN.min(columns(name)) {
                before.push_str(&" ".repeat(space));
                before.push_str(&shortened(name, name_columns));
            }
        }
        let space = if before.is_empty() { "" } else { "  " };
        shortened(&format!("{before}{space}{what}"), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_part_comes_first() {
        let idle = |count: Option<&str>, name: Option<&str>| Idle {
            count: count.map(String::from),
            name: name.map(String::from),
            what: [String::from("waiting for nas:9999 to answer, 3 s"), String::from("waiting 3 s")],
        };
        let cases = [
            (idle(None, Some("large.bin")), 79, "large.bin  waiting for nas:9999 to answer, 3 s"),
            (idle(None, Some("large.bin")), 45, "...e.bin  waiting for nas:9999 to answer, 3 s"),
            (idle(None, Some("large.bin")), 39, "waiting for nas:9999 to answer, 3 s"),
            (idle(None, Some("large.bin")), 19, "waiting 3 s"),
            (idle(Some("  0 of 300"), Some("a")), 49, "  0 of 300 a  waiting for nas:9999 to answer, 3 s"),
            (idle(Some("  0 of 300"), None), 47, "  0 of 300  waiting for nas:9999 to answer, 3 s"),
            (idle(None, None), 5, "... s"),
        ];
        for (idle, limit, shown) in cases {
            assert_eq!(idle.line(limit), shown);
        }
        for limit in 0..100 {
            let line = idle(Some("  0 of 300"), Some("測定結果測定結果.csv")).line(limit);
            assert!(columns(&line) <= limit, "{limit} columns: {line:?}");
        }
    }
}
