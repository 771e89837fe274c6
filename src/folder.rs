//! The folder that holds a path.

use std::path::Path;

/// The folder that holds a path; of a bare name, the one that the process is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
