//! What `make install` refuses to install.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::harness::Scratch;

/// A copy of what `make install` reads, with a binary that is newer than all of it.
struct Tree {
    scratch: Scratch,
}

impl Tree {
    fn new() -> Tree {
        let scratch = Scratch::new();
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in ["Makefile", "contrib/xfer.service", "contrib/xfer.sysusers", "contrib/xfer.logrotate"] {
            scratch.write(file, &std::fs::read(project.join(file)).unwrap());
        }
        for page in ["xfer.1", "xfer-get.1", "xfer-serve.8", "xfer-protocol.5"] {
            scratch.write(format!("man/{page}"), b"a page");
        }
        for source in ["src/main.rs", "src/get/mod.rs", "Cargo.toml", "Cargo.lock", "target/release/xfer"] {
            scratch.write(source, b"old");
        }
        let tree = Tree { scratch };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(tree.binary(), mode).unwrap();
        tree.age("target/release/xfer", 0);
        tree
    }

    fn binary(&self) -> PathBuf {
        self.scratch.path("target/release/xfer")
    }

    /// Makes a file so many seconds newer than they all are.
    fn age(&self, file: &str, newer: u64) {
        let time = SystemTime::now() + Duration::from_secs(60 + newer);
        std::fs::File::options().append(true).open(self.scratch.path(file)).unwrap().set_modified(time).unwrap();
    }

    fn install(&self) -> Output {
        let mut make = Command::new("make");
        make.arg("install").arg(format!("DESTDIR={}", self.scratch.path("image").display()));
        make.current_dir(self.scratch.path("")).env_remove("CARGO_TARGET_DIR").env_remove("MAKEFLAGS");
        make.output().unwrap()
    }
}

/// An update that was not built would look installed.
#[test]
fn a_binary_that_is_older_than_a_source_is_not_installed() {
    if Command::new("make").arg("--version").output().is_err() {
        eprintln!("not tried: make is not installed");
        return;
    }
    for source in ["src/main.rs", "src/get/mod.rs", "Cargo.toml", "Cargo.lock"] {
        let tree = Tree::new();
        tree.age(source, 60);
        let output = tree.install();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = format!("make install: {source} is newer than target/release/xfer: run 'make' first (as yourself");
        assert!(!output.status.success() && said.starts_with(&line), "{output:?}");
        assert!(!tree.scratch.path("image").exists(), "nothing is installed");
    }
    let tree = Tree::new();
    let output = tree.install();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(tree.scratch.text("image/usr/local/bin/xfer"), "old");
}
