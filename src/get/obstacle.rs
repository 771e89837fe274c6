//! What keeps a file from being saved: something under its name, or its directory, disk or file system; and what to do.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use super::disk;
use crate::error::{no_room, reason};
use crate::folder::folder_of;
use crate::text::{self, shell};

/// What a user can do about most failures of a disk.
const SAVE_ELSEWHERE: &str = "save elsewhere with -d";

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
        Errno::BUSY => {
            let quoted = shell::word(target.as_os_str().as_bytes());
            Some(format!(
                "cannot replace {shown}: something is mounted there; save elsewhere with -o, or write to it with -o - > {quoted}"
            ))
        }
        Errno::NAMETOOLONG => {
            Some(format!("cannot save {shown}: the name is too long for this file system; choose another with -o"))
        }
        _ => None,
    }
}

/// Why something cannot be done to a target, its part or its directory, and what to do: the end of an error line.
pub fn why(error: &io::Error, target: &Path) -> String {
    if let Some(why) = no_room(error) {
        return match Errno::from_io_error(error) {
            Some(Errno::NOSPC) if disk::has_no_inodes(folder_of(target)) => {
                format!("the file system has no free inodes (see df -i); remove some files, or {SAVE_ELSEWHERE}")
            }
            _ => format!("{why}; free some space, or {SAVE_ELSEWHERE}"),
        };
    }
    let why = reason(error);
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => format!("the file system is read-only; {SAVE_ELSEWHERE}"),
        Some(Errno::ACCESS) => {
            let folder = text::path(folder_of(target));
            format!("{why}; check the permissions of the directory {folder}, or {SAVE_ELSEWHERE}")
        }
        // In a sticky directory, or with an attribute that only ext4 and its like have (rename(2), chattr(1)).
        Some(Errno::PERM) => {
            format!("{why}: the file or its directory may be immutable (see lsattr), or belong to another user")
        }
        Some(Errno::IO) => format!("{why}; check the disk (see dmesg)"),
        Some(Errno::FBIG) => String::from("the file is larger than the limit on file sizes (see ulimit -f)"),
        Some(_) => format!("{why}; {SAVE_ELSEWHERE}"),
        None => why,
    }
}

/// Bytes in the file that --no-clobber keeps, if there is one; what to say where something else has its name, which no
/// program would take for the file.
pub fn kept_size(target: &Path) -> Result<Option<u64>, String> {
    let shown = text::path(target);
    let is_missing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let is_other = |what: &str| {
        Err(format!("cannot save {shown}: it is {what}, which --no-clobber keeps; remove it, or use -o or -d"))
    };
    match disk::stat_behind_links(target) {
        Ok(stat) if stat.is_file => Ok(Some(stat.len)),
        Ok(stat) if stat.is_dir => Err(directory_in_the_way(target)),
        Ok(_) => is_other("a pipe, a socket or a device"),
        Err(error) if !is_missing(&error) => Err(name_cannot_be_had(target, &error)
            .unwrap_or_else(|| format!("cannot tell whether {shown} exists: {}", why(&error, target)))),
        Err(_) if disk::stat(target).is_ok() => is_other("a dangling symbolic link"),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path has the name that the user asked for, which may come from a list.
    #[test]
    fn a_command_to_type_is_quoted() {
        let why = name_cannot_be_had(Path::new("out/a $(rm b).iso"), &Errno::BUSY.into()).expect("it is in the way");
        assert!(why.ends_with(" -o - > 'out/a $(rm b).iso'"), "{why}");
    }
}
