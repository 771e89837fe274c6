//! Results as Markdown tables.

use super::row::{Goal, Measured, Row};
use super::statistics::Spread;
use super::trouble::Trouble;

/// A spread above this share of the median is told in the table: one should not trust the ratio to the last digit.
const WIDE: f64 = 0.25;

pub const EXPLANATION: &str = "\
The two programs of a row run in turn, over loopback. Their columns are medians. The ratio is the median of the ratios \
of all pairs of runs, xfer to the other program, and the spread is the smallest and the largest of these ratios. Less is \
better.";

/// A row with what was measured.
pub struct Outcome {
    pub row: Row,
    pub measured: Result<Measured, Trouble>,
}

impl Outcome {
    pub fn ratio(&self) -> Option<Spread> {
        self.measured.as_ref().ok()?.ratio()
    }

    /// None without a goal, or without what it is about.
    pub fn reached(&self) -> Option<bool> {
        match self.row.goal {
            Goal::Ratio(goal) => Some(self.ratio()?.median <= goal),
            Goal::AtMost(goal) => {
                let ours = self.measured.as_ref().ok()?.ours.iter().copied();
                Some(Spread::of(ours)?.median <= goal)
            }
            Goal::Interest => None,
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.row.work.clone(), self.row.against.to_owned()];
        let measured = match &self.measured {
            Ok(measured) => measured,
            Err(trouble) => {
                cells.push(trouble.to_string().replace('|', "\\|").replace('\n', " "));
                cells.resize(HEAD.len(), String::new());
                return cells;
            }
        };
        let unit = measured.unit;
        let median = |values: &[f64]| {
            let spread = Spread::of(values.iter().copied());
            spread.map_or_else(String::new, |spread| unit.show(spread.median))
        };
        cells.push(median(&measured.ours));
        cells.push(match &measured.theirs {
            Ok(theirs) => median(theirs),
            Err(program) => format!("missing: {program}"),
        });
        let ratio = measured.ratio();
        cells.push(ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)));
        cells.push(ratio.map_or_else(String::new, spread));
        cells.push(match self.row.goal {
            Goal::Ratio(goal) => format!("≤ {goal:.2}"),
            Goal::AtMost(goal) => format!("≤ {}", unit.show(goal)),
            Goal::Interest => "none".to_owned(),
        });
        cells.push(self.reached().map_or("", |reached| if reached { "yes" } else { "**no**" }).to_owned());
        cells
    }
}

const HEAD: [&str; 8] = ["task", "compared with", "xfer", "other", "ratio", "spread", "goal", "reached"];

fn spread(ratio: Spread) -> String {
    let share = (ratio.most - ratio.least) / ratio.median.abs();
    let wide = if share > WIDE { format!(" (wide: {:.0} %)", share * 100.0) } else { String::new() };
    format!("{:.2}–{:.2}{wide}", ratio.least, ratio.most)
}

pub fn comparison(outcomes: &[Outcome]) -> String {
    markdown(&HEAD, &outcomes.iter().map(Outcome::cells).collect::<Vec<_>>())
}

pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: String = rows.iter().map(|cells| line(cells)).collect();
    format!("{}|{}\n{rows}", line(&head), "---|".repeat(head.len()))
}
