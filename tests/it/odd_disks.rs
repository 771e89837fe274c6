//! File systems that cannot do all that xfer would like: what `cp` saves there, `get` saves, and the log says what could
//! not be had. Most of them are played by one that answers through FUSE, for which root is needed; see also
//! get/unsupported.rs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::Signal;

use crate::harness::fuse::{Call, Fuse, Quirks};
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Scratch, Server, content, plain_get, wait_for};

/// Bytes of a file that goes through memory, of one that has a part, and of one that has a journal.
const SIZES: [(&str, usize); 3] = [("small", 5000), ("middle", 3_000_000), ("large", 34_000_000)];

/// A server of these files.
fn begin() -> (Scratch, Server) {
    let scratch = Scratch::new();
    SIZES.into_iter().for_each(|(name, size)| drop(scratch.share(name, &content(1, size))));
    let server = Server::of(&scratch);
    (scratch, server)
}

fn get_into(scratch: &Scratch, addr: std::net::SocketAddr, dir: &Path) -> Program {
    plain_get(scratch, addr).arg("-d").arg(dir)
}

/// Fetches all of them into a file system with these quirks; none, where there is no FUSE.
fn get_all_into(quirks: Quirks, options: &[&str]) -> Option<Outcome> {
    let (scratch, server) = begin();
    let fuse = Fuse::mount(&scratch, "odd", quirks)?;
    let names = SIZES.map(|(name, _)| name);
    let outcome = get_into(&scratch, server.addr, fuse.folder()).args(options).args(names).run();
    if outcome.status.success() {
        outcome.stderr_has("3 of 3 saved");
        for (name, size) in SIZES {
            outcome.assert(fs::read(fuse.path(name)).unwrap() == content(1, size), name);
        }
        outcome.assert(fs::read_dir(fuse.folder()).unwrap().count() == SIZES.len(), "nothing else is left");
    }
    server.stop();
    Some(outcome)
}

/// With a single warning in the log for all three files, and nothing on standard error but what always is there.
fn assert_saved_with_a_warning(quirks: Quirks, options: &[&str], warning: &str) {
    let Some(outcome) = get_all_into(quirks, options) else { return };
    outcome.exits(0).stderr_lacks("xfer: ").stderr_lacks("WARN");
    outcome.assert(outcome.log.matches(" - WARN").count() == 1, "one warning in the log").log_has(warning);
}

fn assert_not_saved(quirks: Quirks, why: &str) {
    let Some(outcome) = get_all_into(quirks, &[]) else { return };
    outcome.exits(5).stderr_has(why).stderr_has("0 of 3 saved");
}

#[test]
fn without_quirks_nothing_is_to_be_said() {
    for options in [&[][..], &["--no-clobber"]] {
        let Some(outcome) = get_all_into(Quirks::none(), options) else { return };
        outcome.exits(0).log_lacks(" - WARN");
    }
}

#[test]
fn a_folder_that_cannot_be_synced() {
    for errno in [Errno::INVAL, Errno::ACCESS] {
        let quirks = Quirks::refusing(Call::SyncFolder, errno);
        assert_saved_with_a_warning(quirks, &[], "cannot sync the directory ");
    }
    assert_not_saved(Quirks::refusing(Call::SyncFolder, Errno::IO), "cannot sync the directory of");
}

/// One into which everybody may put things, and which only its owner may read, as for mail or uploads.
#[test]
fn a_drop_folder() {
    let scratch = Scratch::for_everybody();
    scratch.share("a", b"first");
    scratch.share("b", &content(1, 34_000_000));
    let server = Server::of(&scratch);
    let folder = scratch.path("drop");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o1733)).unwrap();
    let get = |names: &[&str]| {
        let program = get_into(&scratch, server.addr, &folder).args(names);
        if !rustix::process::geteuid().is_root() {
            fs::set_permissions(&folder, Permissions::from_mode(0o333)).unwrap();
        }
        program.unprivileged(&scratch).run()
    };
    let outcome = get(&["a", "b"]);
    outcome.exits(0).stderr_has("2 of 2 saved").stderr_lacks("xfer: ");
    outcome.log_has(&format!("cannot sync the directory {}: permission denied", folder.display()));
    outcome.assert(outcome.log.matches(" - WARN").count() == 1, "one warning in the log");
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"first");
    // They are there already, and too new to be on the disk for certain.
    get(&["a", "b"]).exits(0).stderr_has("2 of 2 saved").stderr_has("already up to date");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    server.stop();
}

#[test]
fn files_that_cannot_be_synced() {
    assert_saved_with_a_warning(Quirks::refusing(Call::SyncFile, Errno::INVAL), &[], "/odd: ");
    for errno in [Errno::IO, Errno::NOSPC] {
        assert_not_saved(Quirks::refusing(Call::SyncFile, errno), "xfer: cannot ");
    }
}

#[test]
fn files_that_cannot_be_locked() {
    for errno in [Errno::NOLCK, Errno::OPNOTSUPP] {
        let quirks = Quirks::refusing(Call::Lock, errno);
        assert_saved_with_a_warning(quirks, &[], "xfer-part: ");
    }
    assert_not_saved(Quirks::refusing(Call::Lock, Errno::IO), "cannot lock ");
}

/// Who comes second leaves the part of the first, and so does who finds one that a kill has left. Nothing that is kept is
/// promised to be resumed.
#[test]
fn without_locks_each_run_has_a_part_of_its_own() {
    let (scratch, server) = begin();
    let Some(fuse) = Fuse::mount(&scratch, "odd", Quirks::refusing(Call::Lock, Errno::NOLCK)) else { return };
    let part = |number: u32| fuse.path(&format!(".large.xfer-part.{number}"));
    let get = |addr, log| get_into(&scratch, addr, fuse.folder()).arg("large").log_file(scratch.path(log));
    let held = || Relay::of(server.addr, Plan::hold(20_000_000));
    let start = |relay: &Relay, number| {
        let running = get(relay.addr, "first.log").spawn();
        relay.wait_until_held(0);
        wait_for("the part to grow", || fs::metadata(part(number)).is_ok_and(|there| there.len() > 10_000_000));
        running
    };
    let assert_saved = || {
        assert!(fs::read(fuse.path("large")).unwrap() == content(1, 34_000_000));
        fs::remove_file(fuse.path("large")).unwrap();
    };
    // On another client of the same disk it may be locked: so nobody looks at what another one writes to.
    let shared = fuse.path(".large.xfer-part");
    fs::write(&shared, "of a client that has locks").unwrap();

    let relay = held();
    let first = start(&relay, 1);
    get(server.addr, "second.log").run().exits(0).stderr_has("saved ");
    assert_saved();
    relay.release(0);
    first.finish().exits(0).stderr_has("saved ");
    assert_saved();

    start(&held(), 1).finish_after(Signal::KILL);
    get(server.addr, "second.log").run().exits(0).stderr_has("saved ");
    assert_saved();
    let outcome = start(&held(), 2).finish_after(Signal::INT);
    outcome.exits(130).stderr_lacks("kept in").stderr_has("received were not kept");
    assert!(part(1).exists() && !part(2).exists());
    // An attempt that breaks off is resumed within the run.
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(20_000_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    get(relay.addr, "last.log").args(["--max-backoff", "0.1"]).run().exits(0).stderr_has("resuming 'large'");
    assert_saved();
    assert_eq!(fs::read_to_string(shared).unwrap(), "of a client that has locks");
    server.stop();
}

/// A sync tells of a write that failed before it, with that write's error, whichever it is, and the next one succeeds
/// (fsync(2)): another file can be synced, so nothing is missing here but bytes.
#[test]
fn a_write_that_failed_is_no_missing_feature() {
    for errno in [Errno::INVAL, Errno::OPNOTSUPP] {
        let quirks = Quirks { is_sync_refused_once: true, ..Quirks::refusing(Call::SyncFile, errno) };
        let Some(outcome) = get_all_into(quirks, &[]) else { return };
        outcome.exits(5).stderr_has("xfer: cannot ").stderr_has("2 of 3 saved").log_lacks("cannot sync files in");
    }
}

#[test]
fn times_that_cannot_be_set() {
    assert_saved_with_a_warning(Quirks::refusing(Call::SetTime, Errno::PERM), &[], "cannot set the time of ");
}

#[test]
fn modes_that_cannot_be_set() {
    let refusing = |errno| Quirks::refusing(Call::SetMode, errno);
    assert_saved_with_a_warning(refusing(Errno::PERM), &[], "cannot set the permissions of ");
    assert_not_saved(refusing(Errno::ROFS), "cannot set the permissions of ");
}

/// Neither link nor exclusive rename: a look, and then a rename.
#[test]
fn no_clobber_where_no_call_can_do_it() {
    let refused = vec![(Call::ExclusiveRename, Errno::NOSYS), (Call::Link, Errno::PERM)];
    let quirks = Quirks { refused, ..Quirks::none() };
    assert_saved_with_a_warning(quirks.clone(), &["--no-clobber"], "cannot prevent a rename from replacing ");
    let by_link = Quirks::refusing(Call::ExclusiveRename, Errno::INVAL);
    let Some(outcome) = get_all_into(by_link, &["--no-clobber"]) else { return };
    outcome.exits(0).log_lacks(" - WARN");

    let (scratch, server) = begin();
    let Some(fuse) = Fuse::mount(&scratch, "odd", quirks) else { return };
    let relay = Relay::of(server.addr, Plan::hold(1_000_000));
    let running = get_into(&scratch, relay.addr, fuse.folder()).args(["--no-clobber", "middle"]).spawn();
    relay.wait_until_held(0);
    fs::write(fuse.path("middle"), b"mine").unwrap();
    relay.release(0);
    running.finish().exits(0).stderr_has("it was created during the transfer");
    assert_eq!(fs::read(fuse.path("middle")).unwrap(), b"mine");
    server.stop();
}

#[test]
fn a_disk_that_tells_nothing_of_its_space_or_names() {
    let quirks = Quirks { blocks: 0, name_max: 0, ..Quirks::none() };
    let Some(outcome) = get_all_into(quirks, &[]) else { return };
    outcome.exits(0).log_lacks(" - WARN");
}

#[test]
fn files_that_cannot_be_cut() {
    let Some(outcome) = get_all_into(Quirks::refusing(Call::SetLen, Errno::PERM), &[]) else { return };
    outcome.exits(0).log_lacks(" - WARN");
}

#[test]
fn inode_numbers_that_are_made_up() {
    let Some(outcome) = get_all_into(Quirks { makes_up_inodes: true, ..Quirks::none() }, &[]) else { return };
    outcome.exits(0).log_lacks(" - WARN");
}

/// eCryptfs has names of 143 bytes at most. What lies beside the target gets a shorter one, and is found again.
#[test]
fn short_names() {
    let scratch = Scratch::new();
    let (longest, too_long, body) = ("n".repeat(143), "n".repeat(144), content(1, 34_000_000));
    scratch.share(&longest, &body);
    scratch.share(&too_long, &body);
    let server = Server::of(&scratch);
    let Some(fuse) = Fuse::mount(&scratch, "odd", Quirks { name_max: 143, ..Quirks::none() }) else { return };
    let relay = Relay::of(server.addr, Plan::cut(20_000_000, Cut::Reset));
    let get = |addr, name: &str| get_into(&scratch, addr, fuse.folder()).args(["--retries", "1", name]).run();
    get(relay.addr, &longest).exits(3).stderr_has("; kept ");
    get(server.addr, &longest).exits(0).stderr_has("resuming ");
    assert!(fs::read(fuse.path(&longest)).unwrap() == body);
    let outcome = get(server.addr, &too_long);
    outcome
        .exits(5)
        .has_one_error_line()
        .stderr_has("the name is too long for this file system; choose another with -o");
    assert_eq!(fs::read_dir(fuse.folder()).unwrap().count(), 1, "nothing else is left");
    server.stop();
}

/// The same on every file system.
#[test]
fn a_name_that_no_file_system_takes() {
    let scratch = Scratch::new();
    let (name, size) = ("n".repeat(256), 3_000_000);
    scratch.share("large", &content(1, size));
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = plain_get(&scratch, relay.addr).args(["large", "-o", &name]).run();
    outcome.exits(5).has_one_error_line().stderr_has("the name is too long for this file system");
    assert_eq!(scratch.names("").iter().filter(|name| name.ends_with("part")).count(), 0, "{}", outcome.report());
    server.stop();
}

/// On exFAT, SMB and with NFS's root_squash, what we make belongs to somebody else.
#[test]
fn a_part_that_belongs_to_the_owner_of_all_files() {
    let (scratch, server) = begin();
    let Some(fuse) = Fuse::mount(&scratch, "odd", Quirks { owner: 12_345, ..Quirks::none() }) else { return };
    let relay = Relay::of(server.addr, Plan::cut(20_000_000, Cut::Reset));
    let get = |addr| get_into(&scratch, addr, fuse.folder()).args(["--retries", "1", "large"]).run();
    get(relay.addr).exits(3).stderr_has("; kept ");
    get(server.addr).exits(0).stderr_has("resuming 'large'");
    assert!(fs::read(fuse.path("large")).unwrap() == content(1, 34_000_000));
    assert_eq!(fs::read_dir(fuse.folder()).unwrap().count(), 1, "nothing else is left");
    server.stop();
}

/// Where owners mean something, a stranger's part stays what it is.
#[test]
fn a_part_of_a_stranger_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (scratch, server) = begin();
    let part = scratch.write("out/.middle.xfer-part", b"theirs");
    std::os::unix::fs::chown(&part, Some(12_345), None).unwrap();
    let outcome = get_into(&scratch, server.addr, &scratch.out()).arg("middle").run();
    outcome.exits(5).has_one_error_line().stderr_has("it belongs to another user; remove it");
    assert_eq!(scratch.names("out"), [".middle.xfer-part"]);
    assert_eq!(fs::read(&part).unwrap(), b"theirs");
    server.stop();
}

/// Unmounts it in the end, whatever happens.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// A single file that a container was given: it can be written to and not replaced, and of a large one no byte is fetched.
#[test]
fn a_target_that_is_mounted() {
    let (scratch, server) = begin();
    let source = scratch.write("source", b"old body");
    for (name, _) in SIZES {
        let target = scratch.write(Path::new("out").join(name), b"old body");
        if let Err(error) = mount_bind(&source, &target) {
            println!("skipped: nothing can be mounted here: {error}");
            return;
        }
        let mounted = Mounted(&target);
        let relay = Relay::of(server.addr, Plan::faithful());
        let outcome = get_into(&scratch, relay.addr, &scratch.out()).arg(name).run();
        outcome.exits(5).has_one_error_line();
        outcome.stderr_has("something is mounted there").stderr_has(&format!("-o - > {}", target.display()));
        assert_eq!(fs::read(&target).unwrap(), b"old body");
        // What the line says.
        let stdout = fs::File::create(&target).unwrap();
        plain_get(&scratch, server.addr).args([name, "-o", "-"]).stdout(stdout).run().exits(0);
        assert_eq!(fs::metadata(&source).unwrap().size(), fs::metadata(scratch.files().join(name)).unwrap().size());
        get_into(&scratch, server.addr, &scratch.out()).arg(name).run().exits(0).stderr_has("already up to date");
        fs::write(&source, b"old body").unwrap();
        drop(mounted);
    }
    assert_eq!(scratch.names("out"), ["large", "middle", "small"]);
    server.stop();
}

/// Where a part can neither be linked nor renamed, the line about it is true, also in the run behind.
#[test]
fn what_cannot_get_its_name_is_kept_or_not_as_the_line_says() {
    for errno in [Errno::BUSY, Errno::ACCESS, Errno::IO] {
        let (scratch, server) = begin();
        let refused = vec![(Call::Rename, errno), (Call::ExclusiveRename, errno), (Call::Link, errno)];
        let quirks = Quirks { refused, ..Quirks::none() };
        let Some(fuse) = Fuse::mount(&scratch, "odd", quirks) else { return };
        for (name, _) in SIZES {
            for _ in 0..2 {
                let outcome = get_into(&scratch, server.addr, fuse.folder()).arg(name).run();
                outcome.exits(5).has_one_error_line();
                let part = fuse.path(&format!(".{name}.xfer-part"));
                let is_kept = outcome.stderr.contains("kept the complete file in");
                outcome.assert(is_kept != outcome.stderr.contains("were not kept"), "kept, or not");
                outcome.assert(is_kept == part.exists(), "as the line says");
                outcome
                    .assert(!outcome.stderr.contains("resuming") || outcome.stderr.contains(" at 100%"), "all of it");
            }
        }
        server.stop();
    }
}
