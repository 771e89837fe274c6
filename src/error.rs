//! What a failed run tells its user: one sentence, and the exit code that goes with it.

use std::fmt;

use rustix::io::Errno;

/// How a run ends, as a number that scripts can rely on (EXIT STATUS in xfer-get(1) and xfer-serve(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// All that was asked for is done.
    Done,
    /// `get`: the server refused; `serve`: a failure.
    Refused,
    /// The command line cannot be meant.
    Usage,
    /// The network failed, after all retries.
    Network,
    /// The bytes or the peer's protocol are wrong.
    Integrity,
    /// A local file, directory or disk failed.
    Local,
    /// Whoever read our standard output closed it (what a shell reports for SIGPIPE).
    ClosedPipe,
    /// A signal ended the run: 128 and the signal's number.
    Signal(u8),
}

impl ExitCode {
    /// The number for the operating system.
    pub fn number(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Refused => 1,
            ExitCode::Usage => 2,
            ExitCode::Network => 3,
            ExitCode::Integrity => 4,
            ExitCode::Local => 5,
            ExitCode::ClosedPipe => 141,
            ExitCode::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
}

/// A failure, ready to be read: what failed, on what, why, and what to do.
#[derive(Clone, Debug)]
pub struct Error {
    /// The exit code that this failure decides.
    pub exit: ExitCode,
    message: String,
}

impl Error {
    /// A failure with its sentence, which begins in lower case and ends without a full stop.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Error {
        Error { exit, message: message.into() }
    }

    /// The same failure, with more at the end of its sentence.
    pub fn with(mut self, more: &str) -> Error {
        self.message.push_str(more);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The reason inside an I/O error, without Rust's `(os error 2)` behind it, in lower case as error lines have it.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    lower_case(text.split(" (os error").next().unwrap_or(&text))
}

/// Why there is no room, if that is why a call failed: `df` does not show a quota.
pub fn no_room(error: &std::io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::NOSPC => Some("the disk is full"),
        Errno::DQUOT => Some("your disk quota is used up"),
        _ => None,
    }
}

/// A sentence as the end of an error line: its first letter in lower case.
pub fn lower_case(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::from("unknown error"),
    }
}
