//! A folder for everything that is served, fetched and logged, removed at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::trouble::{Doing, Trouble};

/// Tries to remove a folder.
const REMOVALS_MAX: usize = 20;

pub struct Scratch {
    path: PathBuf,
    names: AtomicUsize,
}

impl Scratch {
    pub fn beneath(parent: &Path) -> Result<Scratch, Trouble> {
        fs::create_dir_all(parent).doing(format_args!("cannot make {}", parent.display()))?;
        // Servers run elsewhere, and want the whole path.
        let parent = fs::canonicalize(parent).doing(format_args!("cannot find {}", parent.display()))?;
        let scratch =
            Scratch { path: parent.join(format!("scratch-{}", std::process::id())), names: AtomicUsize::new(0) };
        fs::create_dir_all(scratch.files()).doing(format_args!("cannot make {}", scratch.path.display()))?;
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the servers share.
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// A new folder for a server's own files.
    pub fn home(&self, stem: &str) -> Result<PathBuf, Trouble> {
        let home = self.path.join(format!("{stem}-{}", self.names.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&home).doing(format_args!("cannot make {}", home.display()))?;
        Ok(home)
    }

    /// Bytes that still fit.
    pub fn room(&self) -> Result<u64, Trouble> {
        let about = rustix::fs::statvfs(&self.path).doing("cannot see how much room there is")?;
        Ok(about.f_bavail * about.f_frsize)
    }

    /// Writes out all that was changed so far: it must not cost the next run anything.
    pub fn settle_disk(&self) -> Result<(), Trouble> {
        let folder = File::open(&self.path).doing("cannot open the scratch folder")?;
        rustix::fs::syncfs(&folder).doing("cannot sync the scratch folder")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a scratch folder, into which another thread may still write when a signal ends the comparison.
pub fn remove(path: &Path) {
    for _ in 0..REMOVALS_MAX {
        if fs::remove_dir_all(path).is_ok() || !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("bench: cannot remove {}; please remove it", path.display());
}
