//! strace: counts and records the system calls of a program, and makes one of them fail.

use std::path::Path;
use std::process::{Command, Stdio};

/// Why there is none that works here, if so.
pub fn missing() -> Option<String> {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace fails: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(why) => Some(format!("strace cannot be started: {why}")),
    }
}

/// A line of sh that goes before a program: strace with these options, its report in a file, the program the child that
/// it would be without (strace(1), -D).
pub fn before(options: &str, report: &Path) -> String {
    format!("exec strace -D -f -qq {options} -o {} \"$0\" \"$@\"", quoted(report))
}

/// What makes the k-th call of this name fail, in each thread, counted from 1 (strace(1), inject).
pub fn failing(name: &str, error: &str, k: usize) -> String {
    format!("--seccomp-bpf -e trace={name} -e inject={name}:error={error}:when={k}")
}

/// Nothing but calls on these paths, and on descriptors of them.
pub fn only_on(paths: &[impl AsRef<Path>]) -> String {
    paths.iter().map(|path| format!("-P {} ", quoted(path.as_ref()))).collect()
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
