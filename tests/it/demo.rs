//! `make demo`: one screen, a transfer that resumes, and nothing left behind.

use std::fs;
use std::path::Path;

use crate::harness::{Outcome, Program, Scratch};

/// Of a terminal as people have it.
const LINES: std::ops::RangeInclusive<usize> = 24..=30;
const COLUMNS: usize = 100;

fn demo(scratch: &Scratch, binary: &str) -> Outcome {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/demo.sh");
    fs::create_dir_all(scratch.path("tmp")).unwrap();
    let program = Program::xfer(scratch).called(Path::new("/bin/sh")).own_log();
    program.env("TMPDIR", scratch.path("tmp")).args([script, binary]).run()
}

fn assert_nothing_left(scratch: &Scratch, outcome: &Outcome) {
    let left = scratch.names("tmp");
    outcome.assert(left.is_empty(), &format!("nothing is left behind: {left:?}"));
}

#[test]
fn shows_a_resume_on_one_screen() {
    let scratch = Scratch::new();
    let outcome = demo(&scratch, env!("CARGO_BIN_EXE_xfer"));
    outcome.exits(0).assert(outcome.stderr.is_empty(), "no trouble expected");
    let stdout = String::from_utf8(outcome.stdout.clone()).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    outcome.assert(LINES.contains(&lines.len()), &format!("{} lines:\n{stdout}", lines.len()));
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
    outcome.assert(widest <= COLUMNS, &format!("{widest} columns:\n{stdout}"));
    let begins = |start: &str| lines.iter().any(|line| line.starts_with(start));
    outcome.assert(begins("xfer: stopped by Ctrl-C"), "an interrupted transfer");
    outcome.assert(begins("resuming 'disk.img' at "), "a resumed transfer");
    outcome.assert(lines.last().is_some_and(|line| line.starts_with("verified: ")), "`verified` at the end");
    let next = "next: sudo make install, then the quick start in README.md";
    outcome.assert(lines.iter().rev().nth(1) == Some(&next), "what is next, above it");
    outcome.assert(!stdout.contains(" - INFO - "), "no lines of the log");
    assert_nothing_left(&scratch, &outcome);
}

#[test]
fn says_what_failed() {
    let scratch = Scratch::new();
    let outcome = demo(&scratch, "/bin/false");
    outcome.exits(1).stderr_has("demo: the server ended before it listened");
    assert_nothing_left(&scratch, &outcome);
}
