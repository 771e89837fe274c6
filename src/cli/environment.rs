//! The environment, where no option says otherwise.

use std::path::PathBuf;

use super::usage;
use super::values::parse_port;
use crate::error::Error;
use crate::proto::DEFAULT_PORT;
use crate::text;

/// A variable of the environment; an empty one counts as absent.
pub fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The same as text.
pub fn env_text(name: &str) -> Result<Option<String>, Error> {
    match env_path(name).map(|value| value.into_os_string().into_string()) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(usage(format!("the environment variable {name} is not UTF-8"))),
        None => Ok(None),
    }
}

/// The port that XFER_PORT says, or the default one.
pub fn env_port(least: u16) -> Result<u16, Error> {
    let Some(value) = env_text("XFER_PORT")? else { return Ok(DEFAULT_PORT) };
    match parse_port(&value) {
        Ok(port) if port >= least => Ok(port),
        _ => Err(usage(format!(
            "bad port {} in XFER_PORT: give a number from {least} to 65535",
            text::quoted(value.as_bytes())
        ))),
    }
}
