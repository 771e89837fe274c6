//! A directory of its own for every test, shown on failure and removed at the end.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of a log file is worth showing when a test fails.
const SHOWN_BYTES: usize = 16 * 1024;

pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// With `files` in it, the directory that a server serves.
    pub fn new() -> Scratch {
        Scratch::beneath(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// On tmpfs where the system has one at the usual place.
    pub fn in_memory() -> Scratch {
        let tmpfs = Path::new("/dev/shm");
        if tmpfs.is_dir() { Scratch::beneath(tmpfs) } else { Scratch::new() }
    }

    /// Where every user may do all.
    pub fn for_everybody() -> Scratch {
        let scratch = Scratch::beneath(&std::env::temp_dir());
        fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o777)).unwrap();
        scratch
    }

    fn beneath(parent: &Path) -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("xfer-test-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("files")).unwrap();
        Scratch { path }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// What the server shares.
    pub fn files(&self) -> PathBuf {
        self.path("files")
    }

    /// Where `get` saves, unless a test says otherwise.
    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A file in the shared directory.
    pub fn share(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        self.write(Path::new("files").join(name), bytes)
    }

    /// A shared file of zeros that takes no room on the disk.
    pub fn share_sparse(&self, name: &str, len: u64) -> PathBuf {
        let path = self.share(name, b"");
        File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        path
    }

    /// The names in a directory, sorted; empty if there is no such directory.
    pub fn names(&self, dir: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(dir)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The text of a log file, empty while there is none.
    pub fn text(&self, name: impl AsRef<Path>) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn show(&self) {
        let mut waiting = vec![self.path.clone()];
        while let Some(path) = waiting.pop() {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            eprintln!("{} ({} bytes)", path.display(), meta.len());
            if meta.is_dir() {
                waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            } else if meta.is_file() && path.extension().is_some_and(|ext| ext == "log") {
                let bytes = fs::read(&path).unwrap_or_default();
                let tail = &bytes[bytes.len().saturating_sub(SHOWN_BYTES)..];
                eprintln!("{}", String::from_utf8_lossy(tail));
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        // Best effort: a test that already failed must not fail again here.
        let _ = fs::remove_dir_all(&self.path);
    }
}
