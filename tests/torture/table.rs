//! What came of it, as a table.

use super::trial::Verdict;

/// A kind of fault, and how often it was tried.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub fault: String,
    pub tried: u64,
    /// How many there are, where they can be counted.
    pub of: Option<u64>,
    pub lost: u64,
    pub wrong: u64,
    /// Why it was not tried.
    pub missing: Option<String>,
    /// What else one should know, below the table.
    pub notes: Vec<String>,
}

impl Line {
    pub fn of(fault: impl Into<String>) -> Line {
        Line { fault: fault.into(), ..Line::default() }
    }

    pub fn missing(fault: impl Into<String>, why: impl Into<String>) -> Line {
        Line { missing: Some(why.into()), ..Line::of(fault) }
    }

    pub fn count(&mut self, verdict: Verdict) {
        self.tried += 1;
        self.lost += u64::from(verdict == Verdict::Lost);
        self.wrong += u64::from(verdict == Verdict::Wrong);
    }

    pub fn note(mut self, note: impl Into<String>) -> Line {
        self.notes.push(note.into());
        self
    }

    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.wrong == 0
    }

    /// In one line.
    pub fn said(&self) -> String {
        match &self.missing {
            Some(why) => format!("{}: not tried: {why}", self.fault),
            None => format!("{}: tried {}, lost {}, wrong {}", self.fault, self.times(), self.lost, self.wrong),
        }
    }

    fn times(&self) -> String {
        match self.of {
            Some(of) if of != self.tried => format!("{} of {}", number(self.tried), number(of)),
            _ => number(self.tried),
        }
    }
}

pub fn markdown(lines: &[Line]) -> String {
    let mut text = String::from("| fault | times tried | lost | wrong |\n|---|---:|---:|---:|\n");
    for line in lines {
        text += &match &line.missing {
            Some(why) => format!("| {} | not tried: {why} | | |\n", line.fault),
            None => format!("| {} | {} | {} | {} |\n", line.fault, line.times(), number(line.lost), number(line.wrong)),
        };
    }
    for line in lines.iter().filter(|line| !line.notes.is_empty()) {
        text += &format!("\n{}: {}\n", line.fault, line.notes.join(" "));
    }
    text
}

/// With commas between thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
