//! Whether what a path leads to was put there by somebody else, in a folder like `/tmp` where everybody may.
//!
//! Whoever types `-o /tmp/out` or `--log-file /tmp/log` means a file of theirs. A pipe that a stranger has left there
//! would hand them what is written, and a link would have it written to whatever they choose. Linux refuses both where
//! fs.protected_fifos, fs.protected_regular and fs.protected_symlinks say so (proc_sys_fs(5)), and not everywhere do they.

use std::fs::{Metadata, symlink_metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::folder::folder_of;
use crate::text;

/// Links that are followed at most, as Linux does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// In such a folder only the owner of a file may remove or rename it.
const STICKY: u32 = 0o1000;

/// Who beside the owner may put files into a folder: its group, or everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder that holds what bytes would be written to.
pub struct Parent {
    path: PathBuf,
    mode: u32,
    owner: u32,
}

/// Follows a path to the folder of what bytes would be written to, if that is known by a name; or why not to write. There
/// may be nothing yet in that folder.
pub fn follow(path: &Path) -> io::Result<Option<Parent>> {
    let mut path = path.to_path_buf();
    for links in 0..LINKS_MAX {
        let folder = folder_of(&path).to_path_buf();
        // What is behind these links is open already, whoever has made it: `/dev/stdout` is one.
        if rustix::fs::statfs(&folder).is_ok_and(|there| there.f_type == rustix::fs::PROC_SUPER_MAGIC) {
            return Ok(None);
        }
        let about = std::fs::metadata(&folder)?;
        let (mode, owner) = (about.mode(), about.uid());
        let folder = Parent { path: folder, mode, owner };
        let there = match symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(folder)),
            there => there?,
        };
        folder.check(&there).map_err(|why| match links {
            0 => why,
            _ => io::Error::other(format!("it is a link to {}: {why}", text::path(&path))),
        })?;
        if !there.is_symlink() {
            return Ok(Some(folder));
        }
        path = folder.path.join(std::fs::read_link(&path)?);
    }
    Err(rustix::io::Errno::LOOP.into())
}

impl Parent {
    /// Whether something in it may be trusted; if not, why.
    pub fn check(&self, there: &Metadata) -> io::Result<()> {
        if self.trusts(there.uid(), rustix::process::geteuid().as_raw()) {
            return Ok(());
        }
        let folder = text::path(&self.path);
        Err(io::Error::other(format!("it belongs to another user, and others may write to its directory {folder}")))
    }

    /// As Linux has it (may_create_in_sticky in fs/namei.c), and for folders that only a group may write to, too.
    fn trusts(&self, owner: u32, us: u32) -> bool {
        let is_shared = self.mode & STICKY != 0 && self.mode & WRITABLE_BY_OTHERS != 0;
        !is_shared || owner == us || owner == self.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_shared_folder_only_our_own_and_its_owners_are_trusted() {
        let (root, us, stranger) = (0, 1000, 1001);
        let trusts = |mode, owner| Parent { path: PathBuf::new(), mode, owner: root }.trusts(owner, us);
        for mode in [0o1777, 0o1775, 0o1773, 0o41777] {
            assert_eq!([us, root, stranger].map(|owner| trusts(mode, owner)), [true, true, false], "{mode:o}");
        }
        // Not shared, or, as in Linux, without any rule.
        for mode in [0o755, 0o1755, 0o777, 0o775] {
            assert!(trusts(mode, stranger), "{mode:o}");
        }
    }
}
