//! Which files are kept open for the next request, and for how long: real files, and a time that the tests set.

use std::fs;

use super::*;

/// A shared directory, and what counts its open files.
struct Shared {
    path: PathBuf,
    root: Root,
    counter: Rc<()>,
}

impl Shared {
    fn new(test: &str) -> Shared {
        let path = std::env::temp_dir().join(format!("xfer-root-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory can be made");
        let counter = Rc::new(());
        let root = Root::open(&path, false, None, &counter).expect("it can be served");
        Shared { path, root, counter }
    }

    /// Puts a new file in place, and asks for it.
    fn replace(&mut self, name: &str, now: Instant) {
        let new = self.path.join(".new");
        fs::write(&new, b"body").and_then(|()| fs::rename(&new, self.path.join(name))).expect("a file can be made");
        self.root.file(name.as_bytes(), now).expect("it is there");
    }

    fn open_files(&self) -> usize {
        // One share is this one's, and one the root's.
        Rc::strong_count(&self.counter) - 2
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[test]
fn a_file_under_a_name_known_before_is_kept_for_its_own_time() {
    let mut shared = Shared::new("again");
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    shared.replace("a", at(0));
    shared.replace("a", at(3));
    assert_eq!(shared.open_files(), 1, "the one that was replaced is closed");
    shared.root.close_old(at(5));
    assert_eq!(shared.open_files(), 1, "found at 3 s, and closed at 5 s");
    assert_eq!(shared.root.next_at(), Some(at(8)));
    shared.root.close_old(at(8));
    assert_eq!((shared.open_files(), shared.root.next_at()), (0, None));
}

/// One name that is replaced again and again takes one place, and not those of others.
#[test]
fn a_file_that_is_replaced_again_and_again_closes_no_other() {
    let mut shared = Shared::new("storm");
    let start = Instant::now();
    shared.replace("a", start);
    for _ in 0..2 * KEPT_MAX {
        shared.replace("b", start);
    }
    assert_eq!((shared.open_files(), shared.root.kept_until.len()), (2, 2));
    assert!(shared.root.kept.contains_key(&b"a"[..]));
    assert!(shared.root.close_kept() && !shared.root.close_kept());
    assert_eq!(shared.open_files(), 0);
}

/// The log tells a disk that fails from a name that leads to nothing; the peer is told the same.
#[test]
fn a_failing_disk_is_a_fault_and_a_missing_file_is_none() {
    for errno in [Errno::IO, Errno::NOTCONN, Errno::STALE] {
        assert!(matches!(Refusal::from(errno), Refusal::Fault(_)), "{errno}");
    }
    for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOTDIR, Errno::LOOP, Errno::XDEV] {
        assert!(matches!(Refusal::from(errno), Refusal::NotFound(_)), "{errno}");
    }
}
