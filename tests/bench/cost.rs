//! What a process has cost so far, as the kernel counts it.

use std::fs;
use std::time::Duration;

use super::trouble::{Doing, Trouble};

/// Time on a core, user and system, of all its threads.
///
/// From schedstat, which counts nanoseconds; the times in /proc/PID/stat have steps of 10 ms.
pub fn cpu(pid: u32) -> Result<Duration, Trouble> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).doing("cannot see the threads of a server")?;
    let mut nanos = 0;
    for task in tasks {
        let path = task.doing("cannot see the threads of a server")?.path().join("schedstat");
        let text = fs::read_to_string(&path).doing(format_args!("cannot read {}", path.display()))?;
        let first = text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        nanos += first.ok_or("no number").doing(path.display())?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Bytes resident now.
pub fn resident(pid: u32) -> Result<u64, Trouble> {
    status(pid, "VmRSS:")
}

/// Bytes resident at most so far.
pub fn peak(pid: u32) -> Result<u64, Trouble> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> Result<u64, Trouble> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).doing("cannot read the status of a process")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.ok_or("no such field").doing(field)? * 1024)
}

/// Bytes that had to be read from the disk for it.
pub fn read_from_disk(pid: u32) -> Result<u64, Trouble> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).doing("cannot see what a server reads")?;
    let number = text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    number.ok_or("no such field").doing("read_bytes")
}

/// Descriptors that it has open.
pub fn descriptors(pid: u32) -> Result<usize, Trouble> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).doing("cannot see the descriptors of a server")?.count())
}

/// The one process that `parent` has started.
pub fn child_of(parent: u32) -> Result<u32, Trouble> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(&path).doing(format_args!("cannot read {path}"))?;
    children.trim().parse().doing(format_args!("process {parent} has other children than one: {children:?}"))
}
