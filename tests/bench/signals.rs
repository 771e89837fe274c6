//! Ctrl-C and its like: everything that was started ends, and the scratch folder goes.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::trouble::{Doing, Trouble};
use super::{process, scratch};

/// Watches in a thread of its own: whatever the comparison is waiting for, it ends.
pub fn watch(folder: PathBuf) -> Result<(), Trouble> {
    let (mut came, sends) = UnixStream::pair().doing("cannot watch for signals")?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let sends = sends.try_clone().doing("cannot watch for signals")?;
        pipe::register(signal, sends).doing("cannot watch for signals")?;
    }
    std::thread::spawn(move || {
        // Whatever it reads, or why it cannot: a signal or nothing more to wait for.
        let _ = came.read(&mut [0]);
        eprintln!("bench: stopped by a signal");
        process::end_all();
        scratch::remove(&folder);
        std::process::exit(128 + SIGINT);
    });
    Ok(())
}
