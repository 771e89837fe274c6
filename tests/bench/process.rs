//! Programs that the comparison starts: waited for to the microsecond, and none of them outlives it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::trouble::{Doing, Trouble, ensure};

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a program may take to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(5);

/// Descriptors of the programs that were started, each there until its [`Process`] is dropped.
static STARTED: Mutex<Vec<Weak<OwnedFd>>> = Mutex::new(Vec::new());

/// A program that runs; ended on drop.
pub struct Process {
    child: Child,
    pidfd: Arc<OwnedFd>,
    shown: String,
    errors: PathBuf,
    pub started: Instant,
}

/// A command line with nothing from the environment that could change what it does. It runs in `dir`.
pub fn command(program: impl AsRef<Path>, dir: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    let variables = ["XFER_HOST", "XFER_PORT", "XFER_DOWNLOAD_DIR", "XFER_LOG_DIR", "RSYNC_PROXY", "RSYNC_RSH"];
    for name in variables {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Process {
    /// Starts it, with its standard error in a file of this name.
    pub fn start(mut command: Command, errors: PathBuf) -> Result<Process, Trouble> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let shown = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        command.stderr(File::create(&errors).doing(format_args!("cannot make {}", errors.display()))?);
        let mut all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let child = command.spawn().doing(format_args!("cannot start {shown}"))?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).doing("cannot watch a process")?;
        let pidfd = Arc::new(pidfd);
        all.push(Arc::downgrade(&pidfd));
        Ok(Process { child, pidfd, shown, errors, started })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, where that is a pipe, for the next program of a pipeline.
    pub fn take_stdout(&mut self) -> Option<Stdio> {
        self.child.stdout.take().map(Stdio::from)
    }

    /// What it said on standard error so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.errors).unwrap_or_default()).into_owned()
    }

    /// Waits for its end, which must be a success, and says when that was.
    pub fn succeed(&mut self) -> Result<Instant, Trouble> {
        ensure(self.ends_within(PATIENCE), || format!("{} still runs after {PATIENCE:?}", self.shown))?;
        let ended = Instant::now();
        let status = self.child.wait().doing(format_args!("cannot wait for {}", self.shown))?;
        ensure(status.success(), || self.complaint(&format!("ended with {status}")))?;
        Ok(ended)
    }

    /// What it did wrong, in its own words.
    pub fn complaint(&self, what: &str) -> String {
        let said = self.said();
        format!("{} {what}: {}", self.shown, said.lines().last().unwrap_or_default())
    }

    pub fn ends_within(&self, limit: Duration) -> bool {
        ends_within(&self.pidfd, limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&self.pidfd);
        // Nobody wants to know any more how it ended.
        let _ = self.child.wait();
    }
}

/// Ends every program that runs, for good: the lock is kept, so that no other starts.
pub fn end_all() {
    let all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).for_each(|pidfd| end(&pidfd));
    std::mem::forget(all);
}

/// Does nothing to a program that has ended: its descriptor never means another one.
fn end(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::TERM);
    if !ends_within(pidfd, ENDING) {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}

fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|count| count > 0),
        }
    }
}
