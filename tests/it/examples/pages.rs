//! The examples that README.md and the manual pages hold.

use std::fs;
use std::path::{Path, PathBuf};

pub const README: &str = "README.md";

/// A literal block, or a command in running text.
pub struct Example {
    /// `FILE:LINE` of the project.
    pub place: String,
    pub section: String,
    pub body: Body,
}

pub enum Body {
    /// What a terminal shows: commands behind a prompt, and their output.
    Session(Vec<Step>),
    /// A block without a prompt: a script, a part of a file, or a sample of output.
    Text(Vec<String>),
    /// A command that is quoted in a sentence.
    Quoted(String),
}

pub struct Step {
    pub command: String,
    pub as_root: bool,
    /// The lines that the page shows below the command.
    pub output: Vec<String>,
}

/// Every page that a user reads.
pub fn all() -> Vec<String> {
    let mut pages = vec![README.to_owned()];
    let manual = fs::read_dir(project().join("man")).unwrap();
    pages.extend(manual.map(|entry| format!("man/{}", entry.unwrap().file_name().to_str().unwrap())));
    pages.sort();
    pages
}

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn examples(page: &str) -> Vec<Example> {
    let text = fs::read_to_string(project().join(page)).unwrap();
    let mut reader = Reader { page, section: String::new(), examples: Vec::new() };
    if page == README {
        reader.markdown(&text)
    } else {
        reader.manual(&text)
    }
    reader.examples
}

struct Reader<'a> {
    page: &'a str,
    section: String,
    examples: Vec<Example>,
}

impl Reader<'_> {
    fn add(&mut self, line: usize, body: Body) {
        let place = format!("{}:{}", self.page, line + 1);
        self.examples.push(Example { place, section: self.section.clone(), body });
    }

    /// Blocks that are indented by four columns, and code in sentences. Fenced blocks are not used: one style is enough.
    fn markdown(&mut self, text: &str) {
        let mut block: Option<(usize, Vec<String>)> = None;
        for (number, line) in text.lines().chain([""]).enumerate() {
            assert!(!line.starts_with("```"), "{}:{}: indent the block instead", self.page, number + 1);
            if let Some(line) = line.strip_prefix("    ") {
                block.get_or_insert((number, Vec::new())).1.push(line.to_owned());
                continue;
            }
            if let Some((first, lines)) = block.take() {
                self.add(first, body(lines));
            }
            if let Some(title) = line.strip_prefix("## ") {
                self.section = title.to_owned();
            }
            for code in line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("xfer ")) {
                self.add(number, Body::Quoted(code.to_owned()));
            }
        }
    }

    /// What stands behind `.Dl`, between `.Bd` and `.Ed`, and behind `.Ql`.
    fn manual(&mut self, text: &str) {
        let mut block: Option<(usize, Vec<String>)> = None;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", self.page, number + 1);
            if line == ".Ed" {
                let (first, lines) = block.take().unwrap_or_else(|| panic!("{place}: no .Bd before"));
                self.add(first, body(lines));
            } else if let Some((_, lines)) = &mut block {
                assert!(!line.starts_with('.'), "{place}: a macro in a literal block");
                lines.push(plain(line, &place));
            } else if line.starts_with(".Bd ") {
                block = Some((number, Vec::new()));
            } else if let Some(title) = line.strip_prefix(".Sh ") {
                self.section = title.to_owned();
            } else if let Some(line) = line.strip_prefix(".Dl ") {
                assert!(!line.contains('"'), "{place}: mandoc takes quotes away; write \\(dq");
                self.add(number, body(vec![plain(line, &place)]));
            } else if let Some(code) = line.strip_prefix(".Ql xfer ") {
                let code = code.trim_end_matches([' ', ',', '.', ';', ':', '?']);
                self.add(number, Body::Quoted(format!("xfer {}", plain(code, &place))));
            }
        }
        assert!(block.is_none(), "{}: a .Bd without .Ed", self.page);
    }
}

/// A line of a manual page as mandoc(1) shows it.
fn plain(line: &str, place: &str) -> String {
    let mut text = line.to_owned();
    for (escape, shown) in [("\\(dq", "\""), ("\\(aq", "'"), ("\\&", ""), ("\\-", "-")] {
        text = text.replace(escape, shown);
    }
    let unknown = text.replace("\\e", "").find('\\');
    assert!(unknown.is_none(), "{place}: an escape that this test does not know: {text}");
    text.replace("\\e", "\\")
}

fn body(lines: Vec<String>) -> Body {
    let prompted = |line: &str| line.starts_with("$ ") || line.starts_with("# ");
    if !lines.first().is_some_and(|line| prompted(line)) {
        return Body::Text(lines);
    }
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match (steps.last_mut(), line.strip_prefix("> ")) {
            (Some(step), Some(more)) if step.output.is_empty() => step.command.push_str(&format!("\n{more}")),
            (Some(step), None) if is_open(&step.command) => step.command.push_str(&format!("\n{line}")),
            _ if prompted(&line) => {
                steps.push(Step { command: line[2..].to_owned(), as_root: line.starts_with('#'), output: Vec::new() })
            }
            (Some(step), _) => step.output.push(line),
            (None, _) => unreachable!("the first line has a prompt"),
        }
    }
    Body::Session(steps)
}

/// Whether a shell waits for another line of this command.
fn is_open(command: &str) -> bool {
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match quote {
            Some(open) if open == char => quote = None,
            None if char == '\'' || char == '"' => quote = Some(char),
            _ if char == '\\' && quote != Some('\'') && chars.next().is_none() => return true,
            _ => {}
        }
    }
    quote.is_some() || command.ends_with('|')
}

#[test]
fn a_command_goes_on_where_a_shell_waits_for_more() {
    assert!(is_open("awk '{ print }") && is_open("a |") && is_open("a \\") && is_open("echo \"it's"));
    assert!(!is_open("awk '\\'") && !is_open("echo \"it's\"") && !is_open("echo \\' b"));
}
