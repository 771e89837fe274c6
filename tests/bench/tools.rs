//! The head of the report: when, on what machine, beside which programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::trouble::Trouble;

/// Each program to compare with, and how it is asked for its version.
const KNOWN: [(&str, &str); 6] = [
    ("nginx", "-v"),
    ("curl", "--version"),
    ("rsync", "--version"),
    ("md5sum", "--version"),
    ("tee", "--version"),
    ("python3", "--version"),
];

/// Their versions; None for what is missing.
pub struct Tools(Vec<(&'static str, Option<String>)>);

impl Tools {
    /// Looks for them where PATH says.
    pub fn look() -> Tools {
        Tools(KNOWN.into_iter().map(|(name, flag)| (name, version(Path::new(name), flag))).collect())
    }

    /// What to start, or that it is missing.
    pub fn need(&self, name: &'static str) -> Result<PathBuf, Trouble> {
        let found = self.0.iter().any(|(tool, version)| *tool == name && version.is_some());
        found.then(|| PathBuf::from(name)).ok_or_else(|| Trouble::Missing(name.to_owned()))
    }

    /// Two lines: the machine, and the programs.
    pub fn head(&self) -> String {
        let xfer = version(Path::new(env!("CARGO_BIN_EXE_xfer")), "--version");
        let versions = self.0.iter().map(|(name, version)| (*name, version));
        let versions = [("xfer", &xfer)].into_iter().chain(versions).map(|(name, version)| match version {
            Some(version) => format!("{name} {version}"),
            None => format!("{name} is missing"),
        });
        format!(
            "{}, Linux {}, {} cores of {}, {} GiB of memory, load average before the run {}.\n{}.",
            jiff::Zoned::now().strftime("%Y-%m-%d %H:%M"),
            read("/proc/sys/kernel/osrelease").trim(),
            std::thread::available_parallelism().map_or(0, usize::from),
            field("/proc/cpuinfo", "model name"),
            field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0).div_ceil(1 << 20),
            read("/proc/loadavg").split(' ').next().unwrap_or_default(),
            versions.collect::<Vec<_>>().join(", "),
        )
    }
}

/// What is like a number in the first line that it prints, wherever it prints it: `nginx version: nginx/1.22.1`.
fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).env("LC_ALL", "C").output().ok().filter(|out| out.status.success())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let number = text.lines().next()?.split([' ', '/']).find(is_number);
    Some(number.unwrap_or("of an unknown version").to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "unknown".to_owned())
}

/// What stands behind the colon of the first line that begins with `name`.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
}
