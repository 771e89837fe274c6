//! The environment, where no option says otherwise.

use std::path::PathBuf;

use super::host::{Server, parse_port};
use super::usage;
use super::values::{host_mistake, split_host};
use crate::error::Error;
use crate::logging::LogTarget;
use crate::proto::DEFAULT_PORT;
use crate::text;

/// A variable of the environment; an empty one counts as absent. A variable that an option overrides is not read, so that
/// a bad value in it fails no run.
pub fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn env_text(name: &str) -> Result<Option<String>, Error> {
    match env_path(name).map(|value| value.into_os_string().into_string()) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(usage(format!("the environment variable {name} is not valid UTF-8"))),
        None => Ok(None),
    }
}

/// The port that XFER_PORT says, or the default one.
pub fn env_port(least: u16) -> Result<u16, Error> {
    let Some(value) = env_text("XFER_PORT")? else { return Ok(DEFAULT_PORT) };
    port_in("XFER_PORT", &value, least)
}

/// The host that XFER_HOST says, with its port if that is wanted.
pub fn env_host(wants_port: bool) -> Result<Option<Server>, Error> {
    let Some(value) = env_text("XFER_HOST")? else { return Ok(None) };
    if let Some(mistake) = host_mistake(&value) {
        let meant: Vec<String> = mistake.meant.iter().map(Server::typed).collect();
        let right = if meant.is_empty() { String::new() } else { format!("; set it to {}", meant.join(" or ")) };
        let shown = text::quoted(value.as_bytes());
        return Err(usage(format!("bad host {shown} in XFER_HOST: {}{right}", mistake.why)));
    }
    // Every text without a mistake splits.
    let (host, port) = split_host(&value).unwrap_or((&value, None));
    let port = port.filter(|_| wants_port).map(|port| port_in("XFER_HOST", port, 1)).transpose()?;
    Ok(Some(Server::new(host, port)))
}

/// Where logs go if no option says so. Set and empty means nowhere.
pub fn env_log(default: &str) -> LogTarget {
    match std::env::var_os("XFER_LOG_DIR") {
        Some(dir) if dir.is_empty() => LogTarget::Off,
        Some(dir) => LogTarget::Dir(PathBuf::from(dir)),
        None => LogTarget::Default(PathBuf::from(default)),
    }
}

fn port_in(variable: &str, value: &str, least: u16) -> Result<u16, Error> {
    parse_port(value).ok().filter(|port| *port >= least).ok_or_else(|| {
        let shown = text::quoted(value.as_bytes());
        usage(format!("bad port {shown} in {variable}: give a number from {least} to 65535"))
    })
}
