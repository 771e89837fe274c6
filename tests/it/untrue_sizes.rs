//! A file system that does not know how long its files are, through FUSE: what it shows is never called verified.
//!
//! Only root can mount it. For everybody else the tests of the connection stand for it (serve/conn_disk_tests.rs).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use rustix::io::Errno;

use crate::harness::{Program, Scratch, Server, get};

/// A file: its name, the size that it is said to have, and the bytes that can be read.
type Entry = (&'static str, u64, u64);

const FILES: [Entry; 5] =
    [("true", 10, 10), ("short", 4096, 23), ("large", 1_000_000, 300_000), ("empty", 0, 23), ("long", 5, 23)];

/// How the file system answers.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Seconds for which the kernel may remember a size.
    remembered: u64,
    /// Whether the kernel passes each read on, also behind the size (FOPEN_DIRECT_IO).
    is_direct: bool,
}

/// The mount, which ends on drop.
struct Mount {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Mount {
    /// `None` for who may not mount, and where the kernel has no FUSE.
    fn of(path: PathBuf, habits: Habits) -> Option<Mount> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        fs::create_dir_all(&path).unwrap();
        // The program that mounts passes its standard input on.
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other,ro", "xfer-test"]);
        let mount = mount.arg(&path).stdin(device.try_clone().unwrap()).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let thread = std::thread::spawn(move || serve(device, habits));
        Some(Mount { path, thread: Some(thread) })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let umount = Command::new("umount").arg("-l").arg(&self.path).status();
        let is_gone = umount.is_ok_and(|status| status.success());
        if let Some(thread) = self.thread.take().filter(|_| is_gone) {
            let _ = thread.join();
        }
    }
}

/// Answers the kernel until the mount has gone (linux/fuse.h).
fn serve(mut device: File, habits: Habits) {
    let mut request = vec![0; 256 * 1024];
    while let Ok(len) = device.read(&mut request) {
        let number = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let operation = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        let (unique, node, body) = (number(8), number(16), &request[40..len]);
        let answer = match operation {
            // FORGET, BATCH_FORGET: no answer.
            2 | 42 => continue,
            1 => lookup(body, habits),
            3 => Ok([habits.remembered, 0].into_iter().flat_map(u64::to_ne_bytes).chain(attributes(node)).collect()),
            14 => Ok([1, u64::from(habits.is_direct)].into_iter().flat_map(u64::to_ne_bytes).collect()),
            15 => Ok(read(node, number(48), u32::from_ne_bytes(request[56..60].try_into().unwrap()))),
            // STATFS
            17 => Ok(vec![0; 80]),
            // RELEASE, FLUSH, RELEASEDIR
            18 | 25 | 29 => Ok(Vec::new()),
            // INIT: version 7.31, and all else as small as it may be.
            26 => Ok([7_u32, 31, 0, 0, 0, 4096].into_iter().flat_map(u32::to_ne_bytes).chain([0; 40]).collect()),
            _ => Err(Errno::NOSYS),
        };
        let error = answer.as_ref().err().map_or(0, |error: &Errno| -error.raw_os_error());
        let answer = answer.unwrap_or_default();
        let mut reply = u32::try_from(16 + answer.len()).unwrap().to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(unique.to_ne_bytes());
        reply.extend(answer);
        // Fails if who has asked is gone.
        let _ = device.write(&reply);
    }
}

fn lookup(name: &[u8], habits: Habits) -> Result<Vec<u8>, Errno> {
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    let at = FILES.iter().position(|(other, ..)| other.as_bytes() == name).ok_or(Errno::NOENT)?;
    let node = at as u64 + 2;
    let head = [node, 0, habits.remembered, habits.remembered, 0];
    Ok(head.into_iter().flat_map(u64::to_ne_bytes).chain(attributes(node)).collect())
}

/// The root is node 1, the files come behind it; all of them are old.
fn attributes(node: u64) -> Vec<u8> {
    let (size, mode) = file(node).map_or((0, 0o040_755), |(_, size, _)| (size, 0o100_644));
    let long = [node, size, 0, 1_000_000_000, 1_000_000_000, 1_000_000_000];
    let short: [u32; 10] = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
    long.into_iter().flat_map(u64::to_ne_bytes).chain(short.into_iter().flat_map(u32::to_ne_bytes)).collect()
}

fn file(node: u64) -> Option<Entry> {
    FILES.get(usize::try_from(node).unwrap().checked_sub(2)?).copied()
}

fn read(node: u64, offset: u64, len: u32) -> Vec<u8> {
    let (_, _, held) = file(node).expect("only files are read");
    vec![b'x'; held.saturating_sub(offset).min(len.into()) as usize]
}

fn server_of(dir: &Path, scratch: &Scratch) -> Server {
    let program = Program::xfer(scratch).arg("serve").arg(dir).args(["-p", "0", "-b", "127.0.0.1"]);
    Server::start(program.log_file(scratch.path("server.log")))
}

#[test]
fn a_size_that_is_not_true_is_a_read_error_at_once() {
    for (remembered, is_direct) in [(0, false), (60, false), (0, true), (60, true)] {
        let habits = Habits { remembered, is_direct };
        let scratch = Scratch::new();
        let Some(mount) = Mount::of(scratch.path("mount"), habits) else { return };
        let server = server_of(&mount.path, &scratch);
        for (name, size, held) in FILES {
            let outcome = get(&scratch, server.addr).arg(name).run();
            let saved = scratch.out().join(name);
            // Without direct reads the kernel itself ends the file at its size: that is what any program sees of it.
            if held == size || held > size && !is_direct {
                outcome.exits(0);
                assert_eq!(fs::read(saved).unwrap(), vec![b'x'; size as usize], "{habits:?}: {}", outcome.report());
            } else {
                let how_many = if held < size { "fewer" } else { "more" };
                let why =
                    format!("The file cannot be read: it has {how_many} bytes than the {size} that its size says");
                outcome.exits(1).has_one_error_line().stderr_has(&why).stderr_lacks("resuming").made_attempts(1);
                assert!(!saved.exists(), "{habits:?}: {}", outcome.report());
            }
            fs::remove_file(scratch.path("client.log")).unwrap();
        }
        server.stop();
    }
}
