//! What stands in the way of a target's name: a directory, a mount, a name that is too long; and, for `--no-clobber`, all
//! that is no file.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::disk;
use crate::error::reason;
use crate::text;

/// What to say where a file cannot have its name, since a directory has it.
fn directory_in_the_way(target: &Path) -> String {
    format!("cannot save {}: it is a directory; use -o or -d", text::path(target))
}

/// Why a file of this name can never be saved, whatever comes, if that is so and known before.
pub fn permanent_obstacle(target: &Path) -> Option<String> {
    match disk::stat(target) {
        Ok(stat) if stat.is_dir => Some(directory_in_the_way(target)),
        Ok(_) if disk::is_mount_point(target) => name_cannot_be_had(target, &Errno::BUSY.into()),
        Ok(_) => None,
        Err(error) => name_cannot_be_had(target, &error),
    }
}

/// What an error says about the target's name, if it does.
pub fn name_cannot_be_had(target: &Path, error: &io::Error) -> Option<String> {
    let shown = text::path(target);
    match Errno::from_io_error(error)? {
        Errno::ISDIR => Some(directory_in_the_way(target)),
        // A single file that was given to a container is one.
        Errno::BUSY => Some(format!(
            "cannot replace {shown}: something is mounted there; save to another path with -o and copy it there, or write \
             into it: -o - > {shown}"
        )),
        Errno::NAMETOOLONG => {
            Some(format!("cannot save {shown}: its name is too long for this file system; give it another with -o"))
        }
        _ => None,
    }
}

/// Bytes in the file that --no-clobber keeps, if there is one; what to say where something else has its name, which no
/// program would take for the file.
pub fn kept_size(target: &Path) -> Result<Option<u64>, String> {
    let shown = text::path(target);
    let is_missing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let is_other = |what: &str| {
        Err(format!("cannot save {shown}: it is {what}, and --no-clobber keeps that; remove it, or use -o or -d"))
    };
    match disk::stat_behind_links(target) {
        Ok(stat) if stat.is_file => Ok(Some(stat.len)),
        Ok(stat) if stat.is_dir => Err(directory_in_the_way(target)),
        Ok(_) => is_other("a pipe, a socket or a device"),
        Err(error) if !is_missing(&error) => Err(name_cannot_be_had(target, &error)
            .unwrap_or_else(|| format!("cannot tell whether {shown} is there: {}; use -o or -d", reason(&error)))),
        Err(_) if disk::stat(target).is_ok() => is_other("a link to nothing"),
        Err(_) => Ok(None),
    }
}
