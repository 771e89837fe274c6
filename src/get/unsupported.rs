//! What a file system cannot do: the errors that say so, and one warning a run in the log for each.
//!
//! FAT, NFS, SMB, FUSE and others lack calls that xfer would like to make. None of these makes a saved file wrong, so none
//! is a reason not to save it. Errors that mean a loss (EIO, ENOSPC, EDQUOT, EROFS) are never among them.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use crate::error::reason;

/// Something that not every file system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// To sync a file (fsync(2)).
    SyncFile,
    /// To sync the names in a folder, which has to be opened for reading.
    SyncFolder,
    /// To lock a file (flock(2)).
    Lock,
    /// To set permission bits (chmod(2)).
    SetMode,
    /// To set when a file was modified (utimensat(2)).
    SetTime,
    /// To rename only where nothing has the new name (rename(2), RENAME_NOREPLACE).
    ExclusiveRename,
    /// To give a file a second name (link(2)).
    HardLink,
}

/// The features that the log has a warning about.
static WARNED: AtomicU32 = AtomicU32::new(0);

impl Feature {
    /// Whether an error says that the feature is missing here, and not that its use has failed.
    pub fn is_missing(self, errno: Errno) -> bool {
        match errno {
            // The file system or the kernel has no such call: fsync(2), flock(2), rename(2), and what FUSE answers for a
            // server without it. `dd conv=fsync` lets the first two pass as well.
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => true,
            // A folder that may be written to and not read (mode 1733), and file systems that open or sync no folders:
            // PostgreSQL (fsync_fname in fd.c) lets the same errors pass.
            Errno::ACCESS | Errno::PERM | Errno::ISDIR | Errno::BADF if self == Feature::SyncFolder => true,
            // NFS without its lock daemon (flock(2), fcntl(2)).
            Errno::NOLCK => self == Feature::Lock,
            // FAT for bits that it does not have, and mounts on which every file belongs to somebody else (chmod(2), utimensat(2)).
            Errno::PERM | Errno::ACCESS if matches!(self, Feature::SetMode | Feature::SetTime) => true,
            // FAT has no hard links (link(2)).
            Errno::PERM => self == Feature::HardLink,
            _ => false,
        }
    }

    /// The same of the error of a call.
    pub fn is_missing_by(self, error: &io::Error) -> bool {
        Errno::from_io_error(error).is_some_and(|errno| self.is_missing(errno))
    }

    /// Lets an error pass that says that the feature is missing, with a warning about what `shown` names; whether the
    /// feature is there.
    pub fn tolerate(self, result: io::Result<()>, shown: impl FnOnce() -> String) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if self.is_missing_by(&error) => {
                self.warn(&error, shown);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn warn(self, error: &io::Error, shown: impl FnOnce() -> String) {
        let bit = 1 << self as u32;
        if WARNED.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let (what, consequence) = self.words();
            log::warn!(target: "main", "cannot {what} {}: {}; {consequence}", shown(), reason(error));
        }
    }

    /// What cannot be done, and what follows from that.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Feature::SyncFile => ("sync files in", "a power failure can damage files that were just saved"),
            Feature::SyncFolder => ("sync the directory", "a power failure can remove files that were just saved"),
            Feature::Lock => ("lock", "interrupted transfers cannot be resumed here"),
            Feature::SetMode => {
                ("set the permissions of", "files here get the permissions that the file system gives them")
            }
            Feature::SetTime => ("set the time of", "files here get the time of the download"),
            Feature::ExclusiveRename | Feature::HardLink => (
                "prevent a rename from replacing",
                "with --no-clobber, a file that is created at the last moment is replaced",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Feature; 7] = [
        Feature::SyncFile,
        Feature::SyncFolder,
        Feature::Lock,
        Feature::SetMode,
        Feature::SetTime,
        Feature::ExclusiveRename,
        Feature::HardLink,
    ];

    fn tolerates(feature: Feature, errno: Errno) -> bool {
        feature.tolerate(Err(errno.into()), || String::from("a file")).is_ok_and(|is_there| !is_there)
    }

    #[test]
    fn what_is_missing_passes_and_what_fails_does_not() {
        for feature in ALL {
            assert!(feature.tolerate(Ok(()), String::new).is_ok_and(|is_there| is_there), "{feature:?}");
            for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
                assert!(tolerates(feature, errno), "{feature:?}: {errno}");
            }
            for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::NOENT, Errno::WOULDBLOCK] {
                assert!(!tolerates(feature, errno), "{feature:?}: {errno}");
            }
        }
        let only = |errno: Errno| ALL.into_iter().filter(|feature| tolerates(*feature, errno)).collect::<Vec<_>>();
        assert_eq!(only(Errno::NOLCK), [Feature::Lock]);
        assert_eq!(only(Errno::ACCESS), [Feature::SyncFolder, Feature::SetMode, Feature::SetTime]);
        assert_eq!(only(Errno::PERM), [Feature::SyncFolder, Feature::SetMode, Feature::SetTime, Feature::HardLink]);
        assert_eq!(only(Errno::BADF), [Feature::SyncFolder]);
    }
}
