//! What the server may still do once everything is open: Landlock, as far as the kernel has it.
//!
//! Landlock's rules hang on files and folders and not on their names, and whoever is restricted cannot widen them. So
//! the places where SIGHUP opens things again are allowed before; see [`folders_of_links`].

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::folder::folder_of;
use crate::text;

/// All that Landlock can forbid, as far as we know it; a kernel that knows less forbids less.
const NEWEST: ABI = ABI::V10;

/// What a kernel leaves open whose Landlock is older than this (landlock(7)). Renames between folders, which came with
/// the second version, are forbidden by the first one without being asked.
const LEFT_OPEN: [(ABI, &str); 6] = [
    (ABI::V3, "truncating files (before Linux 6.2)"),
    (ABI::V4, "TCP (before Linux 6.7)"),
    (ABI::V5, "device commands (before Linux 6.10)"),
    (ABI::V6, "signals and abstract Unix sockets (before Linux 6.12)"),
    (ABI::V9, "Unix sockets (before Linux 7.1)"),
    (ABI::V10, "UDP (before Linux 7.2)"),
];

/// Links followed in one path, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Why something cannot be opened again, and what to do.
const SHUT_OUT: &str = " (the sandbox allows only the directory that was opened at the start: restart the server, \
    or run it with --no-sandbox)";

/// The restrictions that the server has put on itself; they last as long as its thread.
pub struct Sandbox {
    /// Beneath which files and folders it can read and write, by device and inode; nothing where it is not restricted.
    allowed: Option<Allowed>,
}

struct Allowed {
    reads: Vec<Place>,
    writes: Vec<Place>,
}

/// A folder with all beneath it, or a file.
struct Place {
    path: PathBuf,
    id: (u64, u64),
}

impl Sandbox {
    /// Restricts the calling thread, and logs how far: it can read beneath the shared directory, write beneath the
    /// folder of its log, and nothing else. Where that cannot be had, it goes on without.
    pub fn enter(dir: &Path, log: Option<&Path>) -> Sandbox {
        forbid_new_privileges();
        let outcome = Allowed::to_serve(dir, log).map_err(Into::into).and_then(|allowed| {
            let status = restrict(&allowed)?;
            Ok::<_, Box<dyn Error>>((allowed, status.landlock))
        });
        let allowed = match outcome {
            Ok((allowed, LandlockStatus::Available { effective_abi, .. })) => {
                log::info!(target: "main", "sandbox: Landlock: {}", allowed.described());
                if let Some(open) = left_open(effective_abi) {
                    log::debug!(target: "main", "sandbox: not restricted by this kernel: {open}");
                }
                Some(allowed)
            }
            Ok((_, LandlockStatus::NotEnabled)) => {
                log::info!(target: "main", "sandbox: none: Landlock is not enabled in this kernel (add landlock to lsm= on its command line)");
                None
            }
            Ok((_, LandlockStatus::NotImplemented)) => {
                log::info!(target: "main", "sandbox: none: Landlock is missing: the kernel was built without it or is older than \
                    Linux 5.13, or a seccomp filter hides it");
                None
            }
            Err(error) => {
                log::warn!(target: "main", "sandbox: none: {}", text::escaped(error.to_string().as_bytes()));
                None
            }
        };
        Sandbox { allowed }
    }

    /// Without restrictions, as was asked for; only that no program it starts could gain privileges.
    pub fn none() -> Sandbox {
        forbid_new_privileges();
        log::info!(target: "main", "sandbox: none: --no-sandbox");
        Sandbox { allowed: None }
    }

    /// Fails if it keeps the server from what is the shared directory by now. Opening a directory as O_PATH, and entering
    /// it, are not restricted: only its files could not be read.
    pub fn lets_in(&self, dir: &Path) -> io::Result<()> {
        match self.shuts_out(|allowed| &allowed.reads, dir) {
            true => Err(io::Error::other(format!("permission denied{SHUT_OUT}"))),
            false => Ok(()),
        }
    }

    /// What to add to the message when the log file cannot be opened again.
    pub fn advice_for_log(&self, log: &Path) -> &'static str {
        // It may be there, or only its folder.
        let path = if log.exists() { log } else { folder_of(log) };
        if self.shuts_out(|allowed| &allowed.writes, path) { SHUT_OUT } else { "" }
    }

    fn shuts_out(&self, places: impl Fn(&Allowed) -> &[Place], path: &Path) -> bool {
        let lacks = |allowed: &Allowed| {
            // Looks at names and opens nothing: that is never restricted.
            let Ok(path) = path.canonicalize() else { return false };
            let ids: Vec<_> = path.ancestors().filter_map(|folder| folder.metadata().ok().as_ref().map(id)).collect();
            !places(allowed).iter().any(|place| ids.contains(&place.id))
        };
        self.allowed.as_ref().is_some_and(lacks)
    }
}

/// Nothing that a server executes has more rights than it (prctl(2)); it executes nothing.
fn forbid_new_privileges() {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        log::warn!(target: "main", "cannot set no_new_privs: {}", crate::error::reason(&error.into()));
    }
}

/// Forbids the calling thread all that Landlock can forbid, except for these places.
fn restrict(allowed: &Allowed) -> Result<RestrictionStatus, Box<dyn Error>> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for place in &allowed.reads {
        (&mut rules).add_rule(PathBeneath::new(PathFd::new(&place.path)?, AccessFs::ReadFile | AccessFs::ReadDir))?;
    }
    for place in &allowed.writes {
        (&mut rules).add_rule(PathBeneath::new(PathFd::new(&place.path)?, place.write_access()))?;
    }
    Ok(rules.restrict_self()?)
}

impl Allowed {
    fn to_serve(dir: &Path, log: Option<&Path>) -> io::Result<Allowed> {
        let mut reads = vec![Place::open(dir)?];
        for folder in folders_of_links(dir) {
            reads.push(Place::open(&folder)?);
        }
        let writes = log.map_or(Ok(Vec::new()), places_of_log)?;
        Ok(Allowed { reads, writes })
    }

    /// In words: `reads only beneath DIR, writes only beneath LOGDIR`.
    fn described(&self) -> String {
        let shown = |places: &[Place]| places.iter().map(Place::described).collect::<Vec<_>>().join(" and ");
        let reads = match self.reads.as_slice() {
            [dir, links @ ..] if !links.is_empty() => {
                format!("{} and, because of symbolic links in its path, {}", dir.described(), shown(links))
            }
            reads => shown(reads),
        };
        let writes =
            if self.writes.is_empty() { "nothing".to_string() } else { format!("only {}", shown(&self.writes)) };
        format!("reads only {reads}, writes {writes}")
    }
}

impl Place {
    fn open(path: &Path) -> io::Result<Place> {
        let path = path.canonicalize()?;
        let id = id(&path.metadata()?);
        Ok(Place { path, id })
    }

    fn write_access(&self) -> BitFlags<AccessFs> {
        if self.path.is_dir() { AccessFs::WriteFile | AccessFs::MakeReg } else { AccessFs::WriteFile.into() }
    }

    fn described(&self) -> String {
        let beneath = if self.path.is_dir() { "beneath " } else { "" };
        format!("{beneath}{}", text::path(&self.path))
    }
}

/// What this kernel does not forbid.
fn left_open(abi: ABI) -> Option<String> {
    let parts: Vec<&str> = LEFT_OPEN.iter().filter(|(since, _)| abi < *since).map(|(_, what)| *what).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Where a log is written and made again.
fn places_of_log(log: &Path) -> io::Result<Vec<Place>> {
    let real = log.canonicalize().ok();
    if log.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        // /dev/null, a terminal, a FIFO: opened again and never made, and nothing beside it is ours. A pipe without a name
        // (/dev/stderr) can be opened by whoever has it, and takes no rule.
        return real.map(|real| Place::open(&real)).into_iter().collect();
    }
    let mut places = vec![Place::open(folder_of(log))?];
    if let Some(real) = real {
        // Another one if the name is a link.
        places.push(Place::open(folder_of(&real))?);
    }
    places.dedup_by_key(|place| place.id);
    Ok(places)
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// For each symbolic link on the way of a path the folder that holds what it leads to: to publish a release, such a link
/// is switched to another one there.
///
/// Not for a link in `/` or to something in `/`: those are how a system is laid out (`/home` leads to `/var/home`), and
/// would open far more than releases.
fn folders_of_links(path: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let Ok(mut place) = Path::new(".").canonicalize() else { return folders };
    let mut links = 0;
    let mut rest: VecDeque<OsString> = components(path).collect();
    while let Some(component) = rest.pop_front() {
        // A folder without links in its path, and one component more.
        let next = place.join(component);
        let Ok(real) = next.canonicalize() else { break };
        let Some(target) = std::fs::read_link(&next).ok().filter(|_| links < LINKS_MAX) else {
            place = real;
            continue;
        };
        links += 1;
        if place.parent().is_some()
            && let Some(folder) = real.parent().filter(|folder| folder.parent().is_some())
        {
            folders.push(folder.to_path_buf());
        }
        rest = components(&target).chain(rest).collect();
    }
    folders.sort();
    // What lies beneath another one comes behind it.
    folders.dedup_by(|folder, before| folder.starts_with(before));
    folders
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().map(|component| component.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::ErrorKind::{CrossesDevices, PermissionDenied};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::process::Command;

    use super::*;

    /// A folder for one test, with a shared folder and a log in it.
    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xfer-sandbox-{test}-{}", std::process::id()));
        fs::create_dir_all(folder.join("files/sub")).expect("a writable directory for temporary files");
        fs::create_dir_all(folder.join("logs")).expect("the same");
        fs::write(folder.join("files/sub/f"), "body").expect("the same");
        fs::write(folder.join("logs/server.log"), "").expect("the same");
        folder.canonicalize().expect("it is there")
    }

    fn assert_denied<T>(what: &str, result: io::Result<T>) {
        match result {
            // The second one for a link or a rename into another folder, as between two file systems.
            Err(error) if matches!(error.kind(), PermissionDenied | CrossesDevices) => {}
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what} was let through"),
        }
    }

    /// In a thread of its own, which ends with its restrictions. Returns what the kernel has.
    fn restricted(folder: &Path, attempts: impl FnOnce(Option<ABI>) + Send) {
        let allowed = Allowed::to_serve(&folder.join("files"), Some(&folder.join("logs/server.log")))
            .expect("all of it is there");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                forbid_new_privileges();
                let status = restrict(&allowed).expect("rules that the kernel takes");
                attempts(match status.landlock {
                    LandlockStatus::Available { effective_abi, .. } => Some(effective_abi),
                    _ => None,
                });
            });
        });
        fs::remove_dir_all(folder).expect("this thread is free");
    }

    #[test]
    fn files_can_be_read_beneath_the_root_and_written_beneath_the_log_folder() {
        let folder = folder("files");
        restricted(&folder, |abi| {
            let (file, log) = (folder.join("files/sub/f"), folder.join("logs/server.log"));
            assert_eq!(fs::read(&file).expect("reading beneath the root"), b"body");
            fs::read_dir(folder.join("files")).expect("listing the root");
            let append = |path: &Path| OpenOptions::new().append(true).create(true).open(path);
            append(&log).expect("opening the log again");
            append(&folder.join("logs/new.log")).expect("making a new log");
            if abi.is_none() {
                return;
            }
            assert_denied("reading outside", File::open("/etc/passwd"));
            assert_denied("listing outside", fs::read_dir("/"));
            assert_denied("reading the memory of a process", File::open("/proc/self/mem"));
            assert_denied("reading the log", File::open(&log));
            assert_denied("removing the log", fs::remove_file(&log));
            assert_denied("renaming the log", fs::rename(&log, folder.join("logs/old.log")));
            assert_denied("a link from elsewhere", fs::hard_link(&file, folder.join("logs/f")));
            assert_denied("a directory for logs", fs::create_dir(folder.join("logs/sub")));
            assert_denied("a link beside the log", symlink("/etc/passwd", folder.join("logs/link")));
            assert_denied("writing a shared file", append(&file));
            assert_denied("a new shared file", append(&folder.join("files/new")));
            assert_denied("removing a shared file", fs::remove_file(&file));
            assert_denied("moving a shared file", fs::rename(&file, folder.join("logs/f")));
            assert_denied("a new file outside", append(&folder.join("new")));
        });
    }

    #[test]
    fn no_program_can_be_executed() {
        let folder = folder("program");
        let program = folder.join("files/program");
        fs::copy("/bin/true", &program).expect("a program");
        restricted(&folder, |abi| {
            let started = |path: &Path| Command::new(path).status();
            if abi.is_some() {
                assert_denied("a program of the system", started(Path::new("/bin/true")));
                assert_denied("a shared program", started(&program));
            }
        });
    }

    #[test]
    fn tcp_sockets_are_neither_connected_nor_bound() {
        let folder = folder("tcp");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let early = TcpStream::connect(address).expect("it listens");
        restricted(&folder, |abi| {
            listener.accept().expect("a listener from before accepts");
            drop(early);
            if abi.is_some_and(|abi| abi >= ABI::V4) {
                assert_denied("connecting", TcpStream::connect(address));
                assert_denied("listening", TcpListener::bind("127.0.0.1:0"));
            }
        });
    }

    #[test]
    fn abstract_unix_sockets_and_other_processes_are_out_of_reach() {
        use std::os::linux::net::SocketAddrExt;
        let folder = folder("scope");
        let name = format!("xfer-sandbox-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let _other = UnixDatagram::bind_addr(&address).expect("a free name");
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = rustix::process::Pid::from_child(&child);
        restricted(&folder, |abi| {
            if abi.is_some_and(|abi| abi >= ABI::V6) {
                let socket = UnixDatagram::unbound().expect("a socket");
                assert_denied("an abstract socket", socket.connect_addr(&address));
                let sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                assert_denied("a signal", sent.map_err(io::Error::from));
            }
        });
        child.kill().expect("it runs");
        child.wait().expect("it ended");
    }

    /// What is switched to publish a release: a link at the end of the path, or on its way.
    #[test]
    fn links_in_a_path_open_the_folder_of_what_they_lead_to() {
        let folder = folder("links");
        let releases = folder.join("releases");
        fs::create_dir_all(releases.join("42/public")).expect("a directory");
        symlink("releases/42", folder.join("current")).expect("a link");
        symlink("/usr", folder.join("wide")).expect("a link");
        assert_eq!(folders_of_links(&folder.join("current")), [releases.as_path()]);
        assert_eq!(folders_of_links(&folder.join("current/public/..")), [releases.as_path()]);
        symlink("current/public", folder.join("through")).expect("a link");
        assert_eq!(folders_of_links(&folder.join("through")), [releases.as_path()]);
        for plain in [folder.join("files"), releases.join("42"), folder.join("wide"), "/bin".into(), "/".into()] {
            assert_eq!(folders_of_links(&plain), [] as [&Path; 0], "{}", plain.display());
        }
        fs::remove_dir_all(folder).expect("it is ours");
    }
}
