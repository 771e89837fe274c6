//! The objects of `--progress json` (PROGRESS FOR PROGRAMS in xfer-get(1)).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

use super::totals::Totals;
use crate::error::ExitCode;
use crate::get::saved::Saved;

/// The version of the objects.
const VERSION: u32 = 1;

/// What is written as `%XX`: all but letters, digits and these (RFC 3986, 2.3), of which the slash parts a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// One object, which is one line.
pub struct Object(Value);

impl Object {
    /// An event of this kind.
    pub fn new(event: &str) -> Object {
        Object(json!({ "v": VERSION, "event": event }))
    }

    /// With one more field.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Object {
        self.0[field] = value.into();
        self
    }

    /// With one more field, if there is a value for it.
    pub fn with_some(self, field: &str, value: Option<impl Into<Value>>) -> Object {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    /// With bytes that are UTF-8 nearly always: JSON has only Unicode, so others have replacement characters in them, and a
    /// second field that loses nothing.
    pub fn with_bytes(self, field: &str, bytes: &[u8]) -> Object {
        let object = self.with(field, String::from_utf8_lossy(bytes));
        match std::str::from_utf8(bytes) {
            Ok(_) => object,
            Err(_) => object.with(&format!("{field}_bytes"), percent_encode(bytes, ESCAPED).to_string()),
        }
    }

    /// With the path of a file that is here, and what became of it.
    pub fn with_saved(self, saved: Saved, path: Option<&Path>) -> Object {
        let object = self.with("result", result(saved));
        match path {
            Some(path) => object.with_bytes("path", path.as_os_str().as_bytes()),
            None => object,
        }
    }

    /// With how far the run is; `at_hand` are the bytes of the file that is being received.
    pub fn with_totals(self, totals: &Totals, at_hand: Option<(u64, u64)>) -> Object {
        let (done, known) = totals.bytes(at_hand);
        self.with("files_done", totals.files_done())
            .with("files_known", totals.files_known)
            .with("files_final", totals.files_final)
            .with("bytes_done", done)
            .with("bytes_known", known)
            .with("bytes_final", totals.bytes_final(at_hand.is_some()))
    }

    /// With how each file of a run ended that ended in this way. Files that nobody came to are not tried either.
    pub fn with_ends(self, totals: &Totals, exit: ExitCode) -> Object {
        let tried = totals.files_done() + totals.failed;
        self.with("files_new", totals.new)
            .with("files_replaced", totals.replaced)
            .with("files_unchanged", totals.unchanged)
            .with("files_kept", totals.kept)
            .with("files_failed", totals.failed)
            .with("files_not_tried", totals.files_known.saturating_sub(tried))
            .with("bytes_received", totals.received)
            .with("code", exit.number())
    }

    /// The line.
    pub fn line(&self) -> String {
        self.0.to_string()
    }
}

fn result(saved: Saved) -> &'static str {
    match saved {
        Saved::New => "saved",
        Saved::Replaced => "replaced",
        Saved::Written => "written",
        Saved::UpToDate => "unchanged",
        Saved::Kept => "kept",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_unicode_loses_nothing() {
        let line = Object::new("note").with_bytes("file", b"gr\xf6\xdfe 1").line();
        assert_eq!(
            line,
            "{\"event\":\"note\",\"file\":\"gr\u{fffd}\u{fffd}e 1\",\"file_bytes\":\"gr%F6%DFe%201\",\"v\":1}"
        );
        assert!(!Object::new("note").with_bytes("file", "größe".as_bytes()).line().contains("file_bytes"));
    }
}
