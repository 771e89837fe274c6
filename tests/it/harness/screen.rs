//! A terminal, and a picture of its screen: what a person sees, as lines of text.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::wait::PATIENCE;
use super::wait::look_until;

const ROWS: u16 = 24;

/// A pseudo terminal, whose output an emulator draws.
pub struct Screen {
    master: File,
    path: std::ffi::OsString,
    state: Arc<Mutex<State>>,
}

struct State {
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Screen {
    pub fn new(columns: u16) -> Screen {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = std::ffi::OsStr::from_bytes(ptsname(&master, Vec::new()).unwrap().as_bytes()).to_owned();
        let master = File::from(master);
        let state = State { parser: vt100::Parser::new(nonzero(ROWS), nonzero(columns), 0), raw: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let screen = Screen { master, path, state };
        screen.set_size(columns);
        screen.draw_what_comes();
        screen
    }

    /// The end of the process.
    pub fn terminal(&self) -> File {
        let flags = OFlags::NOCTTY.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path).unwrap()
    }

    /// As if the window had become wider or narrower.
    pub fn resize(&self, columns: u16) {
        self.state.lock().unwrap().parser.screen_mut().set_size(nonzero(ROWS), nonzero(columns));
        self.set_size(columns);
    }

    pub fn press(&self, keys: &[u8]) {
        (&self.master).write_all(keys).unwrap();
    }

    /// All that was written, with what draws nothing.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().unwrap().raw).into_owned()
    }

    /// The lines that are not empty, those that go over several rows in one; speeds and times have their names in place of
    /// their numbers, and the same width.
    pub fn picture(&self) -> String {
        let state = self.state.lock().unwrap();
        let screen = state.parser.screen();
        let (_, columns) = screen.size();
        let mut picture = String::new();
        for (row, line) in screen.rows(0, columns.into()).enumerate() {
            let is_wrapped = screen.row_wrapped(u16::try_from(row).unwrap());
            picture.push_str(if is_wrapped { &line } else { line.trim_end() });
            if !is_wrapped && !picture.is_empty() && !picture.ends_with('\n') {
                picture.push('\n');
            }
        }
        picture.lines().map(|line| masked(line) + "\n").collect()
    }

    /// Waits until the screen shows this, and nothing else.
    pub fn wait_for_picture(&self, picture: &str) {
        self.wait_until(picture, |shown| shown == picture);
    }

    pub fn wait_for(&self, fragment: &str) {
        self.wait_until(fragment, |shown| shown.contains(fragment));
    }

    /// Waits until the picture is such a one.
    pub fn wait_until(&self, expected: &str, is_such: impl Fn(&str) -> bool) {
        let is_shown = look_until(PATIENCE, || is_such(&self.picture()).then_some(()));
        assert!(is_shown.is_some(), "expected on the screen:\n{expected}\nand there is:\n{}", self.picture());
    }

    fn set_size(&self, columns: u16) {
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    fn draw_what_comes(&self) {
        let (mut master, state) = (self.master.try_clone().unwrap(), Arc::clone(&self.state));
        // Ends with EIO when the last process has closed the terminal; until the first has opened it, too.
        let held = self.terminal();
        std::thread::spawn(move || {
            let _held = held;
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut block) {
                let mut state = state.lock().unwrap();
                state.parser.process(&block[..count]);
                state.raw.extend_from_slice(&block[..count]);
            }
        });
    }
}

fn nonzero(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// `11.2 MiB/s` as `SPEED/s`, and `5 s` as `TIME`, right-aligned in as many columns.
fn masked(line: &str) -> String {
    let mut masked = line.to_owned();
    let units = ["bytes/s", "KiB/s", "MiB/s", "GiB/s", "s", "min", "h", "d"];
    let mut from = 0;
    while let Some(at) = masked[from..].find(|c: char| c.is_ascii_digit()).map(|at| from + at) {
        let number = masked[at..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').count();
        let begins_word = masked[..at].chars().next_back().is_none_or(|c| c == ' ');
        let rest = masked[at + number..].to_owned();
        let word = rest.strip_prefix(' ').map(|rest| rest.split([' ', ',', ';']).next().unwrap_or_default());
        from = at + number;
        let Some(unit) = word.filter(|word| begins_word && units.contains(word)) else { continue };
        let name = if unit.ends_with("/s") { "SPEED/s" } else { "TIME" };
        let end = from + 1 + unit.len();
        // Room is taken from the spaces before it; one stays.
        let spaces = masked[..at].len() - masked[..at].trim_end_matches(' ').len();
        let width = (end - at + spaces).max(if spaces > 0 { name.len() + 1 } else { 0 });
        let name = match masked[..at - spaces].ends_with(',') {
            true => format!(" {name}"),
            false => format!("{name:>width$}"),
        };
        masked.replace_range(at - spaces..end, &name);
        from = at - spaces + name.len();
    }
    masked
}

#[test]
fn numbers_that_differ_from_run_to_run_are_masked() {
    assert_eq!(
        masked("a  42% 42.0 MiB of 100.0 MiB   11.2 MiB/s     5 s left"),
        "a  42% 42.0 MiB of 100.0 MiB      SPEED/s    TIME left"
    );
    assert_eq!(masked("saved a: 4.0 MiB, verified, 0.8 s, 12.5 MiB/s"), "saved a: 4.0 MiB, verified, TIME, SPEED/s");
}
