//! The commands that messages tell a user to type: each is taken out of its message and run by a shell.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{Outcome, Program, Scratch, Server};

/// Names that a shell, or a terminal, would make something else of.
const NAMES: [&[u8]; 14] = [
    b"plain.txt",
    b"dir/two words",
    b"it's",
    b"\"quoted\"",
    b"$HOME $(id) `id`",
    b"-x",
    b"--help",
    b"a;b&c|d>e<f(g)",
    b"*?[!]~#{},=",
    b"back\\slash",
    "größe 全角 e\u{301}".as_bytes(),
    b"two\nlines\x1b[31m",
    b"\xff\xfe",
    "hidden\u{200b}space; to fetch".as_bytes(),
];

/// A server, and what its clients need: the program under its name in PATH.
struct Case {
    scratch: Scratch,
    server: Server,
    path: String,
}

impl Case {
    fn new() -> Case {
        let scratch = Scratch::new();
        for name in NAMES {
            scratch.share(OsStr::from_bytes(name), name);
        }
        fs::create_dir(scratch.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_xfer"), scratch.path("bin/xfer")).unwrap();
        let path = format!("{}:{}", scratch.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let server = Server::of(&scratch);
        Case { scratch, server, path }
    }

    /// Runs `xfer` with these words, in an environment in which a host without a port is the server.
    fn xfer(&self, args: &[&[u8]]) -> Outcome {
        let program = Program::xfer(&self.scratch).args(args.iter().map(|arg| OsStr::from_bytes(arg)));
        program.env("XFER_PORT", self.server.addr.port().to_string()).env("XFER_LOG_DIR", "").run()
    }

    /// Runs a line as a user would who copies it from the message.
    fn sh(&self, line: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-ec", line]).env("PATH", &self.path).env("XFER_LOG_DIR", "").current_dir(self.scratch.path(""));
        shell.env("XFER_PORT", self.server.addr.port().to_string()).env_remove("XFER_HOST");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Asserts that the words are a mistake, runs the command of the message, and looks at what it has fetched.
    fn fetches(&self, args: &[&[u8]], name: &[u8]) {
        let outcome = self.xfer(args);
        outcome.exits(2).has_one_error_line().prints_nothing_on_stdout().shows_no_control_characters();
        self.sh(command_in(&outcome));
        let saved = name.rsplit(|byte| *byte == b'/').next().unwrap();
        let path = self.scratch.out().join(OsStr::from_bytes(saved));
        let found = fs::read(&path).ok();
        outcome.assert(found.as_deref() == Some(name), "the command has fetched the file");
        fs::remove_file(path).unwrap();
    }
}

/// The command behind `type: `, which is the end of the line.
fn command_in(outcome: &Outcome) -> &str {
    let (_, command) = outcome.stderr.split_once("ype: ").unwrap_or_else(|| panic!("{}", outcome.stderr));
    command.trim_end()
}

#[test]
fn a_host_in_a_word_is_answered_with_a_command_that_works() {
    let case = Case::new();
    let addr = case.server.addr.to_string();
    for name in NAMES {
        let words = |before: &str| [before.as_bytes(), name].concat();
        // The port comes from XFER_PORT, as for -H; what cannot be shown becomes a URL, and that stands alone.
        let with_port = words(&format!("{addr}/"));
        case.fetches(&[b"get", &with_port, b"-d", b"out"], name);
        case.fetches(&[b"get", &words(&format!("ann@{addr}:")), b"-d", b"out", b"--no-sync"], name);
        if !name.contains(&b'?') && !name.contains(&b'#') {
            case.fetches(&[b"get", &words(&format!("http://{addr}/")), b"-d", b"out"], name);
        }
        let port = case.server.addr.port().to_string();
        if !name.starts_with(b"-") {
            case.fetches(&[b"get", name, b"127.0.0.1", port.as_bytes(), b"-dout"], name);
        }
        case.fetches(&[b"get", b"--dir=out", b"--", name, addr.as_bytes()], name);
        let url = format!("http://{addr}");
        case.fetches(&[b"get", b"--dir", b"out", b"-H", url.as_bytes(), b"--", name], name);
    }
    let name: &[u8] = b"dir/two words";
    case.fetches(&[b"get", b"127.0.0.1:dir/two words", b"-d", b"out"], name);
    // The value of an option that a terminal would not show.
    let dir = b"a\n\xff%d\\n";
    case.sh(command_in(case.xfer(&[b"get", b"127.0.0.1:it's", b"-d", dir]).exits(2)));
    assert_eq!(fs::read(case.scratch.path(OsStr::from_bytes(dir)).join("it's")).unwrap(), b"it's");
    case.fetches(&[b"get", b"127.0.0.1:/dir/two words", b"out/"], name);
    // What a person pastes or types first: each has failed without an answer, or with a wrong one.
    let with_port = addr.as_bytes();
    case.fetches(&[b"get", b"-d", b"out", b"--", b"-x", b"-H", with_port], b"-x");
    case.fetches(&[b"get", b"--", b"plain.txt", b"-d", b"out", b"-H", with_port], NAMES[0]);
    case.fetches(&[b"get", b"xfer:/127.0.0.1/dir/two words", b"-d", b"out"], name);
    case.fetches(&[b"get", b"127.0.0.1/dir/two words", b"-d", b"out"], name);
    case.fetches(&[b"get", b"localhost/dir/two words", b"-o", b"out/"], name);
    case.fetches(&[b"get", b"127.0.0.1:~/dir/two words", b"-d", b"out"], name);
    case.fetches(&[b"get", b"ann@localhost", b"dir/two words", b"-d", b"out"], name);
    case.fetches(&[b"127.0.0.1:dir/two words", b"out/"], name);
    case.fetches(&[b"http://127.0.0.1/dir/two words", b"-d", b"out"], name);
    case.fetches(&[b"get", b"plain.txt", b"-H", with_port, b"-o", b"out/"], NAMES[0]);
    case.fetches(&[b"get", b"plain.txt", b"127.0.0.1:dir/two words", b"-o", b"out/"], name);
    fs::remove_file(case.scratch.out().join("plain.txt")).unwrap();
    fs::create_dir(case.scratch.out()).unwrap_or_default();
    case.fetches(&[b"get", b"127.0.0.1:dir/two words", b"out/two words"], name);
    case.server.stop_content();
}

/// Where the words are names, the message says what to add.
#[test]
fn files_with_such_names_come_from_localhost() {
    let case = Case::new();
    let names: [&[u8]; 4] = [b"backup-20:10.tar", b"10.0.0.5", b"9999", b"nas:it's"];
    names.iter().for_each(|name| drop(case.scratch.share(OsStr::from_bytes(name), name)));
    for words in [&names[..1], &names[1..3], &names[3..], &[names[0], names[1]][..]] {
        let typed = [&[&b"get"[..]], words, &[b"-d", b"out"]].concat();
        let outcome = case.xfer(&typed);
        outcome.exits(2).has_one_error_line().stderr_has(" on localhost, add -H localhost)");
        case.xfer(&[&typed[..], &[b"-H", b"localhost"]].concat()).exits(0);
        for name in words {
            outcome.assert(fs::read(case.scratch.out().join(OsStr::from_bytes(name))).is_ok(), "fetched");
            fs::remove_file(case.scratch.out().join(OsStr::from_bytes(name))).unwrap();
        }
    }
    // With a server of its own, every word is a name.
    let addr = case.server.addr.to_string();
    for server in [&["-H", &addr][..], &["-H", "localhost"], &["--from-file", "/dev/null"]] {
        let args: Vec<&[u8]> = server.iter().map(|word| word.as_bytes()).collect();
        case.xfer(&[&[&b"get"[..]], &names[..], &args, &[b"-d", b"out"]].concat()).exits(0).stderr_has("4 of 4 saved");
        fs::remove_dir_all(case.scratch.out()).unwrap();
    }
    case.server.stop_content();
}

#[test]
fn a_url_is_done_as_meant() {
    let case = Case::new();
    let addr = case.server.addr;
    for (name, path) in [
        (NAMES[0], "plain.txt"),
        (NAMES[1], "dir/two%20words"),
        (NAMES[1], "dir%2Ftwo words"),
        (NAMES[11], "two%0alines%1B[31m"),
        (NAMES[12], "%ff%FE"),
        (NAMES[10], "größe 全角 e\u{301}"),
    ] {
        let url = format!("XFER://{addr}/{path}");
        // A URL that is pasted means the same in every environment.
        let program = Program::xfer(&case.scratch).args(["get", &url, "-d", "out", "--no-log"]);
        program.env("XFER_HOST", "192.0.2.1:1").env("XFER_PORT", "1").run().exits(0).prints_nothing_on_stdout();
        let saved = name.rsplit(|byte| *byte == b'/').next().unwrap();
        assert_eq!(fs::read(case.scratch.out().join(OsStr::from_bytes(saved))).unwrap(), name, "{url}");
        fs::remove_dir_all(case.scratch.out()).unwrap();
    }
    // Several, with the options that repeat what they say, and with names beside them.
    let host = addr.ip().to_string();
    let url = |name: &str| format!("xfer://{addr}/{name}").into_bytes();
    let (one, two) = (url("plain.txt"), url("it's"));
    case.xfer(&[b"get", &one, &two, b"-d", b"out", b"-H", host.as_bytes(), b"\"quoted\""]).exits(0);
    assert_eq!(case.scratch.names("out"), ["\"quoted\"", "it's", "plain.txt"]);
    // In a list.
    case.scratch.write("list", &[&one[..], b"\n", &two, b"\n"].concat());
    case.xfer(&[b"get", b"--from-file", b"list", b"-d", b"out"]).exits(0).stderr_has("2 of 2 saved");
    case.server.stop_content();
}

#[test]
fn urls_that_disagree_are_answered_with_commands_that_work() {
    let case = Case::new();
    let (addr, port) = (case.server.addr, case.server.addr.port());
    let one = format!("xfer://127.0.0.1:{port}/it%27s").into_bytes();
    let other = format!("xfer://localhost:{port}/plain.txt").into_bytes();
    let outcome = case.xfer(&[b"get", &one, &other, b"-d", b"out dir"]);
    outcome.exits(2).has_one_error_line().stderr_has("different servers");
    case.sh(command_in(&outcome));
    assert_eq!(case.scratch.names("out dir"), ["it's"], "the command is for the first");
    let name: &[u8] = b"it's";
    case.fetches(&[b"get", &one, b"-H", b"localhost", b"-d", b"out"], name);
    case.fetches(&[b"get", &one, b"-p", b"1", b"-d", b"out"], name);
    // A URL without a port has the one of -p or -H, and not that of the environment.
    for (host, option, value) in [("localhost", "-p", port.to_string()), ("127.0.0.1", "-H", addr.to_string())] {
        let url = format!("xfer://{host}/it%27s");
        let program = Program::xfer(&case.scratch).args(["get", &url, option, &value, "-d", "out", "--no-log"]);
        program.env("XFER_PORT", "1").run().exits(0);
        fs::remove_file(case.scratch.out().join("it's")).unwrap();
    }
    let outcome = case.xfer(&[b"get", &one, b"plain.txt", b"-d", b"out"]);
    outcome.exits(2).stderr_has("'plain.txt' is not a URL");
    case.sh(command_in(&outcome));
    assert_eq!(case.scratch.names("out"), ["it's", "plain.txt"]);
    // In a list there is no command to show.
    case.scratch.write("list", &[&one[..], b"\n", &other, b"\n"].concat());
    let outcome = case.xfer(&[b"get", b"--from-file", b"list"]);
    outcome.exits(2).has_one_error_line().stderr_has("different servers").stderr_has("a list of its own");
    case.scratch.write("list", b"a\nhttp://nas/f\n");
    let outcome = case.xfer(&[b"get", b"--from-file", b"list"]);
    outcome.exits(2).has_one_error_line().stderr_has("'http://nas/f' in the list is not an xfer URL");
    let host = addr.to_string();
    case.xfer(&[b"get", b"--from-file", b"list", b"-H", host.as_bytes(), b"-d", b"out"]).exits(1);
    case.server.stop();
}

/// Options of other programs: the message has the command with ours.
#[test]
fn unknown_options_are_answered_with_commands_that_work() {
    let case = Case::new();
    let addr = case.server.addr.to_string();
    let port = case.server.addr.port().to_string();
    for line in [
        format!("get plain.txt -P {port} -d out"),
        format!("get plain.txt -H {addr} -P out"),
        format!("get -O plain.txt -H {addr} -d out"),
        format!("get plain.txt -H {addr} -d out --retry 3"),
        String::from("get 127.0.0.1:plain.txt -d out --continue"),
        format!("get plain.txt --hots={addr} -d out"),
        format!("get plain.txt --server {addr} -d out"),
    ] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        case.fetches(&words, NAMES[0]);
    }
    case.scratch.share("-n.txt", b"-n.txt");
    case.fetches(&[b"get", b"-n.txt", b"-H", addr.as_bytes(), b"-d", b"out"], b"-n.txt");
    case.server.stop_content();
}

#[test]
fn unknown_commands_are_answered_with_commands_that_work() {
    let case = Case::new();
    let addr = case.server.addr.to_string();
    for args in [&["fetch"][..], &["gett"], &["-d", "out", "get"]] {
        let mut words: Vec<&[u8]> = args.iter().map(|word| word.as_bytes()).collect();
        let rest: [&[u8]; 5] = [b"it's", b"-H", addr.as_bytes(), b"-d", b"out"];
        words.extend(rest);
        let outcome = case.xfer(&words);
        outcome.exits(2).has_one_error_line().prints_nothing_on_stdout();
        let (_, command) = outcome.stderr.split_once("ype: ").unwrap();
        case.sh(command.trim_end());
        fs::remove_file(case.scratch.out().join("it's")).unwrap();
    }
    let outcome = case.xfer(&[b"get", b"-H", addr.as_bytes(), b"--unknown"]);
    outcome.exits(2).stderr_has("unknown option '--unknown'; see xfer get --help; for a file of this name: ");
    for (args, expected) in
        [(&["help", "get"][..], "get --help"), (&["help", "serve"], "serve --help"), (&["help"], "--help")]
    {
        let words: Vec<&[u8]> = args.iter().map(|word| word.as_bytes()).collect();
        let same: Vec<&[u8]> = expected.split(' ').map(str::as_bytes).collect();
        let (help, option) = (case.xfer(&words), case.xfer(&same));
        help.exits(0).assert(help.stdout == option.stdout && help.stderr.is_empty(), expected);
    }
    for args in [&["version"][..], &["-V"], &["get", "-V"], &["serve", "x", "-V"]] {
        let words: Vec<&[u8]> = args.iter().map(|word| word.as_bytes()).collect();
        let version = case.xfer(&words);
        version.exits(0).assert(version.stdout.starts_with(b"xfer ") && version.stderr.is_empty(), "the version");
    }
    case.server.stop_content();
}
