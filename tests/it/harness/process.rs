//! What the kernel says about a running process.

use std::fs;
use std::time::Duration;

/// The unit of the times in /proc/PID/stat, the same on every Linux: USER_HZ in proc(5).
const TICKS_PER_SECOND: u64 = 100;

pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Whether its main thread waits for something, and not for its turn or for a disk.
pub fn is_asleep(pid: u32) -> bool {
    // `PID (NAME) STATE ...`: proc_pid_stat(5).
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The largest resident set so far, in KiB.
pub fn peak_resident_kib(pid: u32) -> u64 {
    status_field(pid, "VmHWM:").trim_end_matches(" kB").trim().parse().unwrap()
}

/// The permission bits that this process takes from every file that it, or a child of it, makes.
pub fn umask() -> u32 {
    u32::from_str_radix(&status_field(std::process::id(), "Umask:"), 8).unwrap()
}

/// Time on a core in user mode, where digests are computed.
pub fn user_time(pid: u32) -> Duration {
    ticks(pid, 0)
}

/// The same of a process that may be ending.
pub fn try_user_time(pid: u32) -> Option<Duration> {
    Some(Duration::from_millis(try_ticks(pid, 0)? * 1000 / TICKS_PER_SECOND))
}

/// Time on a core, in user mode and in the kernel.
pub fn cpu_time(pid: u32) -> Duration {
    ticks(pid, 0) + ticks(pid, 1)
}

/// The same of a process that may be ending: then there is nothing to see any more.
pub fn try_peak_resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn ticks(pid: u32, which: usize) -> Duration {
    Duration::from_millis(try_ticks(pid, which).unwrap() * 1000 / TICKS_PER_SECOND)
}

fn try_ticks(pid: u32, which: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces, so fields are counted from behind it: utime is the 12th from there.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(11 + which)?.parse().ok()
}

fn status_field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in the status of process {pid}:\n{status}")).trim().to_owned()
}

#[test]
fn reads_about_this_process() {
    let pid = std::process::id();
    assert!(threads(pid) >= 1 && open_files(pid) >= 1 && peak_resident_kib(pid) > 100);
    assert!(cpu_time(pid) >= user_time(pid));
}
