//! File systems that the kernel makes up: their files have no true size, or do something when they are read.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a device that holds true files is not asked again. An unmounted device gives its number to the next one that
/// is mounted, so that no answer is true for ever. A file system may have to be waited for (FUSE, NFS): it is asked once
/// in this time, beside the look-ups, which wait for it each.
const KNOWN_TIME: Duration = Duration::from_secs(600);

/// Devices remembered at most. One volume may have thousands (the subvolumes of btrfs).
const KNOWN_MAX: usize = 64;

/// What statfs(2) calls them, and how mount(8) does (linux/magic.h; mqueue, configfs, fusectl, nfsd, rpc_pipefs and
/// functionfs have theirs in the kernel's own sources).
///
/// Most of these files have size 0 or 4096, whatever is in them. Those of pstore, efivarfs, mqueue and xenfs can have
/// true ones; but reading them asks the firmware or the hypervisor, or shows what is no file of anybody.
const PSEUDO: [(u32, &str); 25] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x7363_6673, "securityfs"),
    (0x5a3c_69f0, "apparmorfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x6265_6570, "configfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6573_5543, "fusectl"),
    (0x6e73_6673, "nsfs"),
    (0x1980_0202, "mqueue"),
    (0x0765_5821, "resctrl"),
    (0xabba_1974, "xenfs"),
    (0x0000_9fa1, "openpromfs"),
    (0x6c6f_6f70, "binder"),
    (0x6e66_7364, "nfsd"),
    (0x6759_6969, "rpc_pipefs"),
    (0x0a64_7361, "functionfs"),
];

/// Tells files of such file systems from true ones.
#[derive(Default)]
pub struct PseudoFiles {
    /// Devices with true files, and until when they are not asked again; at most [`KNOWN_MAX`]. The others are asked each
    /// time, for which nobody waits.
    known: HashMap<u64, Instant>,
}

impl PseudoFiles {
    /// What the file system of an open file is called, if it is one of those. `device` is that of the file. It may be
    /// open as O_PATH only, and is not read: that may wait for ever, or have an effect.
    pub fn kind_of(&mut self, file: &impl AsFd, device: u64, now: Instant) -> Option<&'static str> {
        if self.known.get(&device).is_some_and(|until| now < *until) {
            return None;
        }
        // What cannot be told (a seccomp filter, a mount that fails) may be served: its size is still held against what
        // is read.
        let stat = rustix::fs::fstatfs(file).ok()?;
        // A number of 32 bits, which some machines extend by its sign.
        let kind = PSEUDO.iter().find(|(magic, _)| *magic == stat.f_type as u32);
        if kind.is_none() {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(device, now + KNOWN_TIME);
        }
        kind.map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn open(path: &str) -> (File, u64) {
        let file = File::open(path).expect("every Linux has it");
        let device = file.metadata().expect("it is open").dev();
        (file, device)
    }

    #[test]
    fn each_is_told_by_its_type() {
        let now = Instant::now();
        let mut files = PseudoFiles::default();
        for (path, kind) in [("/proc/cpuinfo", Some("proc")), ("/proc/self/status", Some("proc")), ("/", None)] {
            let (file, device) = open(path);
            assert_eq!(files.kind_of(&file, device, now), kind, "{path}");
        }
        for (number, (magic, name)) in PSEUDO.iter().enumerate() {
            assert!(!PSEUDO[..number].iter().any(|(other, _)| other == magic), "{name} stands there twice");
        }
    }

    /// A FUSE mount is asked once, and not by each look-up; and what takes its number is not trusted for ever.
    #[test]
    fn a_device_is_asked_once_and_not_trusted_for_ever() {
        let start = Instant::now();
        let mut files = PseudoFiles::default();
        let (file, device) = open("/proc/cpuinfo");
        // As if a file system with true files had had this number before.
        files.known.insert(device, start + KNOWN_TIME);
        assert_eq!(files.kind_of(&file, device, start), None, "it is not asked");
        assert_eq!(files.kind_of(&file, device, start + KNOWN_TIME), Some("proc"), "it is asked again");
        let (root, device) = open("/");
        assert_eq!(files.kind_of(&root, device, start), None);
        assert_eq!(files.known[&device], start + KNOWN_TIME);
        // One device after another takes no more memory.
        for number in 0..10_000 {
            files.kind_of(&root, number, start);
            assert!(files.known.len() <= KNOWN_MAX);
        }
    }
}
