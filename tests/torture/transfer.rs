//! What must hold after any transfer, however it ended.

use std::fs;
use std::path::Path;

use super::harness::{Outcome, md5_hex};

/// What lies under the target's name before.
pub const OLD: &[u8] = b"old body";

/// The name of the file in every trial.
pub const NAME: &str = "a";

/// What may lie in the folder besides.
const BESIDE: [&str; 2] = [".a.xfer-part", ".a.xfer-part.state"];

/// Fails unless the target is absent, old or right, with nothing but part and journal beside it. Whether it is right.
pub fn assert_never_wrong(out: &Path, had_old: bool, body: &[u8], context: &dyn Fn() -> String) -> bool {
    let now = fs::read(out.join(NAME)).ok();
    let is_right = now.as_deref() == Some(body);
    let is_as_before = if had_old { now.as_deref() == Some(OLD) } else { now.is_none() };
    assert!(
        is_right || is_as_before,
        "the target is neither as before nor right: {:?} bytes\n{}",
        now.map(|bytes| bytes.len()),
        context()
    );
    for entry in fs::read_dir(out).into_iter().flatten() {
        let name = entry.expect("the directory can be read").file_name().to_string_lossy().into_owned();
        assert!(name == NAME || BESIDE.contains(&name.as_str()), "{name} lies in the directory\n{}", context());
    }
    is_right
}

/// Fails unless the exit code is one of these and fits what is there, and what is said fits the exit code.
pub fn assert_fits(outcome: &Outcome, codes: &[i32], is_right: bool, body: &[u8]) {
    let code = outcome.status.code();
    outcome
        .assert(code.is_some_and(|code| codes.contains(&code)), &format!("one of the exit codes {codes:?} expected"));
    if code == Some(0) {
        outcome.assert(is_right, "it says that all is well, and the target is not right");
        let digest = format!("md5 {}", md5_hex(body));
        // If the write that fails is that of the one, there is the other.
        let says = outcome.stderr.contains(&digest) || outcome.log.contains(&digest);
        outcome.assert(says, "the digest expected on stderr");
    } else {
        let says = outcome.stderr.lines().any(|line| line.starts_with("xfer: ")) || outcome.log.contains(" - ERROR - ");
        outcome.assert(says, "a line `xfer: what failed: why` expected on stderr");
    }
    outcome.stderr_lacks("internal error").stderr_lacks("panicked");
}
