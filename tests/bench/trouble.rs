//! What keeps a row, or the whole comparison, from being measured, said for a reader.

use std::fmt;

#[derive(Debug)]
pub enum Trouble {
    /// The machine lacks this program, or so much of something; the row says so, and the others go on.
    Missing(String),
    /// Something that should have worked did not.
    Failed(String),
}

impl Trouble {
    /// `what` failed, and `why`.
    pub fn failed(what: impl fmt::Display, why: impl fmt::Display) -> Trouble {
        Trouble::Failed(format!("{what}: {why}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Missing(what) => write!(f, "missing: {what}"),
            Trouble::Failed(what) => f.write_str(what),
        }
    }
}

/// Says what was being done when an error came.
pub trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Trouble>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Trouble> {
        self.map_err(|why| Trouble::failed(what, why))
    }
}

/// Fails with `what` unless `condition`.
pub fn ensure(condition: bool, what: impl FnOnce() -> String) -> Result<(), Trouble> {
    if condition { Ok(()) } else { Err(Trouble::Failed(what())) }
}
