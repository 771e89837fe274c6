//! The machines that the examples speak of, within one scratch directory: their files, names, addresses and programs.

use std::fs::{self, File, FileTimes, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::safety;
use crate::harness::{Outcome, Plan, Program, Relay, Running, Scratch, Server, content, wait_for};

/// The machines on which the examples start servers. All of them are the loopback here.
const HOSTS: [&str; 3] = ["192.168.1.5", "fe80::1%eth0", "files.example.org"];

/// The machine on which a server runs already.
const NAS: &str = "nas";

/// Their ports. All of them are a free one here.
const PORTS: [&str; 2] = ["9999", "8080"];

/// Where the examples have their files. Here these lie in the scratch directory.
const PLACES: [&str; 3] = ["/srv/", "/tmp", "/var/"];

/// What the servers share.
const SHARED: [(&str, usize); 20] = [
    ("small.txt", 98),
    ("report.pdf", 51_200),
    ("large.bin", 8 << 20),
    ("disk.img", 2 << 20),
    ("a.iso", 300_000),
    ("b.iso", 1000),
    ("sub/b.txt", 100),
    ("app-1.4.tar", 10_240),
    ("backup.tar", 10_240),
    ("backup-20:10.tar", 10_240),
    ("backup/db.dump.gz", 20_000),
    ("one.json", 10),
    ("two.json", 20),
    ("-odd-name.txt", 5),
    ("docs/hello.txt", 6),
    ("photos/1.jpg", 5000),
    ("photos/2.jpg", 6000),
    ("FILE", 7),
    ("NAME", 8),
    ("notes.txt", 9),
];

/// A list of names that a user has.
const WANTED: &str = "small.txt\nsub/b.txt\n";

/// How much of a transfer passes before it is interrupted: enough for a partial file with a journal.
const INTERRUPTED_AFTER: u64 = 4 << 20;

/// 2026-01-15 20:10:33.5 UTC, the mtime of hello.txt in xfer-protocol(5).
const HELLO_TIME: Duration = Duration::from_millis(1_768_507_833_500);

/// Between the outputs of two commands of one shell.
const MARK: &str = "=== the next command ===";

pub struct World {
    pub scratch: Scratch,
    /// The first one runs before any example starts one of its own.
    servers: Vec<Server>,
}

/// What a command did.
pub struct Done {
    pub success: bool,
    pub lines: Vec<String>,
    pub report: String,
}

impl World {
    pub fn new() -> World {
        let scratch = Scratch::new();
        for (name, len) in SHARED {
            scratch.write(format!("srv/data/{name}"), &content(len as u64, len));
        }
        // tar reads any number of zeros as an archive without files.
        for name in ["app-1.4.tar", "backup.tar"] {
            scratch.write(format!("srv/data/{name}"), &[0; 10_240]);
        }
        let hello = scratch.write("srv/data/docs/hello.txt", b"hello\n");
        fs::set_permissions(&hello, Permissions::from_mode(0o644)).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + HELLO_TIME);
        File::options().write(true).open(hello).unwrap().set_times(times).unwrap();
        scratch.write("home/wanted.txt", WANTED.as_bytes());
        symlink(scratch.path("srv/data"), scratch.path("home/server_files")).unwrap();
        fs::create_dir_all(scratch.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_xfer"), scratch.path("bin/xfer")).unwrap();
        safety::make_programs(&scratch.path("bin"));

        fs::create_dir_all(scratch.path("var/log/xfer")).unwrap();
        let server = Program::xfer(&scratch).arg("serve").arg(scratch.path("srv/data"));
        let log = scratch.path("var/log/xfer/server.log");
        let server = Server::start(server.args(["-p", "0", "-b", "127.0.0.1"]).log_file(log));
        // So that there is something in the log to search for.
        let get = Program::xfer(&scratch).args(["get", "--no-log", "-o", "/dev/null", "large.bin", "-H"]);
        get.arg(server.addr.to_string()).run().exits(0);
        World { servers: vec![server], scratch }
    }

    /// The server that a command means: the one on the NAS, or else the one that the page has started last.
    fn server_of(&self, command: &str) -> SocketAddr {
        let on_nas = replace_word(command, NAS, "") != command;
        let server = if on_nas { self.servers.first() } else { self.servers.last() };
        // Never empty: the first one stays.
        server.unwrap().addr
    }

    pub fn nas(&self) -> SocketAddr {
        self.server_of(NAS)
    }

    pub fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    fn output(&self) -> PathBuf {
        self.scratch.path("output")
    }

    /// A command as it has to be typed here, if it does no harm.
    fn translated(&self, command: &str, port: u16) -> String {
        if let Some(why) = safety::refusal(command) {
            panic!("not run: {command}\n{why}");
        }
        let mut text = command.to_owned();
        for host in HOSTS {
            text = text.replace(&format!("xfer://{host}/"), &format!("xfer://{host}:{port}/"));
            text = replace_word(&text, host, "127.0.0.1");
        }
        text = replace_word(&text, NAS, &format!("127.0.0.1:{port}"));
        for other in PORTS {
            text = replace_word(&text, other, &port.to_string());
        }
        // The scratch directory may itself lie beneath one of these places.
        for place in PLACES {
            text = replace_word(&text, place, &format!("\u{1}{place}"));
        }
        text.replace('\u{1}', &self.root())
    }

    /// A line of output as it would be read there.
    fn told(&self, line: &str) -> String {
        line.replace(&format!("{}/home/", self.root()), "/home/ann/").replace(&self.root(), "")
    }

    fn root(&self) -> String {
        self.scratch.path("").to_str().unwrap().trim_end_matches('/').to_owned()
    }

    fn shell(&self, shell: &str, script: &str, port: u16) -> Program {
        let shell = safety::program(shell).unwrap_or_else(|| panic!("no {shell} on this machine"));
        let program = Program::xfer(&self.scratch).called(&shell).own_log().in_dir(&self.home());
        program
            .env("PATH", self.scratch.path("bin"))
            .env("HOME", self.home())
            .env("XFER_PORT", port.to_string())
            .arg("-c")
            .arg(script)
    }

    /// Commands that one shell runs, one after the other.
    pub fn run(&self, commands: &[&str]) -> Vec<Done> {
        let between = format!("\necho '{MARK}'\n");
        let translated = |command: &&str| self.translated(command, self.server_of(command).port());
        let commands: Vec<String> = commands.iter().map(translated).collect();
        // What a command asks that names no server.
        let port = self.server_of("").port();
        let shell = if commands.iter().any(|command| command.contains("/dev/tcp/")) { "bash" } else { "sh" };
        // To a file: the end of a pipe would come only with the end of whatever a script leaves in the background.
        let start =
            format!("exec >{} 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null || :' EXIT\nset -e\n", self.output().display());
        let outcome = self.shell(shell, &format!("{start}{}", commands.join(&between)), port).run();
        let output = self.scratch.text(self.output());
        let mark = format!("{MARK}\n");
        let mut outputs = output.split(&mark);
        let done = |(index, _): (usize, &String)| Done {
            success: outcome.status.success() || index + 1 < output.matches(MARK).count(),
            lines: outputs.next().unwrap_or_default().lines().map(|line| self.told(line)).collect(),
            report: format!("{}\noutput:\n{output}", outcome.report()),
        };
        commands.iter().enumerate().map(done).collect()
    }

    /// `xfer serve` in a terminal of its own, for all that follows.
    pub fn serve(&mut self, command: &str) {
        let program = self.shell("sh", &format!("exec {}", self.translated(command, 0)), 0);
        self.servers.push(Server::start(program));
    }

    /// Ends these servers, the last one first, and tells what each has printed.
    pub fn stop_servers(&mut self) -> Vec<Done> {
        let outcomes: Vec<Outcome> = self.servers.drain(1..).map(Server::stop).collect();
        outcomes.iter().map(|outcome| self.done(outcome)).map(as_on_a_terminal).collect()
    }

    /// `xfer get`, ended by Ctrl-C in the middle of the transfer.
    pub fn interrupted(&self, command: &str) -> Done {
        let relay = Relay::of(self.server_of(command), Plan::hold(INTERRUPTED_AFTER));
        let script = format!("exec {}", self.translated(command, relay.addr.port()));
        let running: Running = self.shell("sh", &script, relay.addr.port()).spawn();
        relay.wait_until_held(0);
        wait_for("a partial file", || {
            self.scratch.names("home/client_downloads").iter().any(|name| name.ends_with(".xfer-part"))
        });
        let outcome = running.finish_after(Signal::INT);
        outcome.exits(130);
        self.done(&outcome)
    }

    /// Whether `xfer` accepts these words: it is pointed at a port where nobody listens, or at a directory that is
    /// missing, so that it does nothing else.
    pub fn accepts(&self, words: &str) -> Result<(), String> {
        let prints = words.contains("--help") || words.contains("--version");
        let (extra, expected) = match words.split(' ').next() {
            Some("get") if !prints => (" --retries 1", 3),
            Some("serve") if !prints => ("", 1),
            _ => ("", 0),
        };
        let words = replace_word(words, "/srv/", "/missing/");
        let script = format!("xfer {}{extra}", self.translated(&replace_word(&words, "PORT", "1"), 1));
        let outcome = self.shell("sh", &script, 1).run();
        if outcome.status.code() == Some(expected) { Ok(()) } else { Err(outcome.report()) }
    }

    /// Whether a shell can read it.
    pub fn is_shell(&self, command: &str) -> Result<(), String> {
        let outcome = self.shell("sh", &format!("set -n\n{command}"), 1).run();
        if outcome.status.success() { Ok(()) } else { Err(outcome.report()) }
    }

    fn done(&self, outcome: &Outcome) -> Done {
        let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let lines = outcome.stderr.lines().chain(stdout.lines()).map(|line| self.told(line)).collect();
        Done { success: outcome.status.success(), lines, report: outcome.report() }
    }
}

/// With the commands to paste on lines of their own, too, as a terminal has them and a page shows them.
fn as_on_a_terminal(mut done: Done) -> Done {
    let command = |line: &String| {
        line.split_once(" - INFO - ")?
            .1
            .split_once(": xfer get ")
            .map(|(before, words)| [format!("{before}:"), format!("    xfer get {words}")])
    };
    let more: Vec<String> = done.lines.iter().filter_map(command).flatten().collect();
    done.lines.extend(more);
    done
}

/// Replaces a word, and not a part of a longer one.
fn replace_word(text: &str, word: &str, other: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(word) {
        let part_of = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
        let longer = part_of(before.chars().next_back()) || (!word.ends_with('/') && part_of(after.chars().next()));
        replaced.push_str(before);
        replaced.push_str(if longer { word } else { other });
        rest = after;
    }
    replaced + rest
}
