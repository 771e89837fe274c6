//! The system calls of a program, counted by name and thread.

use std::collections::BTreeMap;

/// Calls that are not failed, and why.
pub const LEFT_OUT: &[(&[&str], &str)] = &[
    (&["execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall"], "they do not return"),
    (
        &["brk", "mmap", "munmap", "mprotect", "mremap", "madvise"],
        "memory: Rust ends a process that gets none, with SIGABRT",
    ),
    (
        &[
            "arch_prctl",
            "fcntl",
            "geteuid",
            "getpid",
            "gettid",
            "poll",
            "prctl",
            "prlimit64",
            "rseq",
            "rt_sigaction",
            "rt_sigprocmask",
            "sched_getaffinity",
            "set_robust_list",
            "set_tid_address",
            "sigaltstack",
        ],
        "libc, Rust's standard library and rustix set up processes, threads and descriptors with them; on Linux they fail \
         only for arguments that are never given",
    ),
    (&["close"], "Linux frees the descriptor whatever close returns, and a call that strace fails does not happen"),
    (&["futex"], "a wake-up that strace swallows is one that no kernel swallows: whoever waits for it waits for ever"),
];

/// Calls that Rust's library relies on for these errors alone: it ends the process at any other, which Linux never gives.
const ONLY: &[(&str, &[&str])] = &[("getrandom", &["EINTR"])];

/// Whether a call is failed with this error.
pub fn can_fail_with(name: &str, error: &str) -> bool {
    ONLY.iter().all(|(only, errors)| *only != name || errors.contains(&error))
}

/// How often each thread has called each name, the main thread first.
#[derive(Default)]
pub struct Calls {
    /// Of each name, the count of each thread, by its number; and how many of the main thread's came before `main`.
    counts: BTreeMap<String, (BTreeMap<u32, usize>, usize)>,
}

impl Calls {
    /// Reads a report of strace (`PID name(arguments) = result`).
    pub fn of(report: &str) -> Calls {
        let mut calls = Calls::default();
        let main = report.split(' ').next().and_then(|pid| pid.parse().ok());
        let mut is_loading = report.contains(" poll(");
        for (pid, name) in report.lines().filter_map(call) {
            // The first thing that Rust's library does: it looks whether the standard streams are open.
            if name == "poll" {
                is_loading = false;
            }
            let (counts, loading) = calls.counts.entry(name.to_owned()).or_default();
            *counts.entry(pid).or_insert(0) += 1;
            *loading += usize::from(is_loading && Some(pid) == main);
        }
        calls
    }

    /// The names that are failed, each with the numbers of its calls to be failed, the loader's left out.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, std::ops::RangeInclusive<usize>)> {
        let is_left_out = |name: &str| LEFT_OUT.iter().any(|(names, _)| names.contains(&name));
        self.counts.iter().filter(move |(name, _)| !is_left_out(name)).map(|(name, (counts, loading))| {
            let most = counts.values().copied().max().unwrap_or(0);
            (name.as_str(), loading + 1..=most)
        })
    }

    /// Calls of the names that are failed, in all threads, without the loader's.
    pub fn total(&self) -> usize {
        let is_left_out = |name: &str| LEFT_OUT.iter().any(|(names, _)| names.contains(&name));
        let counts = self.counts.iter().filter(|(name, _)| !is_left_out(name)).map(|(_, counts)| counts);
        counts.map(|(counts, loading)| counts.values().sum::<usize>() - loading).sum()
    }
}

/// Thread and name of a line that begins a call.
fn call(line: &str) -> Option<(u32, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    Some((pid.parse().ok()?, name)).filter(|_| is_name && !name.is_empty())
}
