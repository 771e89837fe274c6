//! Which signals may be caught, not those that this process was told to ignore when it was started, and which must not kill.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGUSR1, SIGXFSZ};

/// Arranges that two signals do not kill this process, before it does anything else: SIGXFSZ, since a write at a limit on
/// the size of files (ulimit -f) is to fail as on a full disk (setrlimit(2)); and SIGUSR1, with which people ask a transfer
/// how far it is, perhaps a moment before it listens or after it is done. Where that cannot be arranged, they kill.
pub fn outlive() -> io::Result<()> {
    for signal in [SIGXFSZ].into_iter().chain(not_ignored(&[SIGUSR1])) {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// Those of these signals that are not ignored.
///
/// Whoever starts a program with a signal ignored wants it to live through that signal: nohup(1) ignores SIGHUP, and a
/// shell without job control SIGINT for what it starts with `&` (POSIX, 2.11). A handler would undo that.
pub fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored();
    signals.iter().copied().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect()
}

/// The mask of ignored signals, bit 0 for signal 1 (proc(5), SigIgn); without /proc, none.
fn ignored() -> u64 {
    mask(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn mask(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read() {
        assert_eq!(mask("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n"), 0x1001);
        assert_eq!(mask("Name:\txfer\n"), 0);
    }
}
