//! What an example may do to the machine that the tests run on. A mistake on a page must fail a test, and not end the
//! programs or remove the files of whoever runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Programs that examples may run, besides `xfer` and what a shell has built in: none of them reaches another process, or
/// writes where it was not told to.
const PROGRAMS: [&str; 17] = [
    "awk", "cat", "cut", "date", "find", "grep", "head", "jq", "ls", "mkdir", "mkfifo", "od", "sleep", "sort", "tail",
    "tar", "wc",
];

/// Absolute paths that examples may have. The first ones lie in the scratch directory here, and the last one nowhere.
const PATHS: [&str; 6] = ["/srv/", "/tmp", "/var/", "/dev/null", "/dev/tcp/localhost/", "/missing/"];

/// The only process that an example may signal: one that it has started itself.
const KILL: &str = "kill \"$server\"";

/// Words by which a shell, or one of the programs, does what cannot be told from here.
const WORDS: [&str; 7] = ["command", "eval", "-delete", "-exec", "-execdir", "-ok", "system("];

/// `rm` of single files of the directory that one is in.
const RM: &str = "#!/bin/sh\nfor word; do\n    case $word in\n    -f) ;;\n    -* | */*) echo \"rm: refused: $word\" >&2; exit 1 ;;\n    esac\ndone\n";

/// Fills a directory that takes the place of PATH.
pub fn make_programs(bin: &Path) {
    for name in PROGRAMS {
        // An example that needs one that is missing is only parsed, or fails.
        if let Some(program) = program(name) {
            symlink(program, bin.join(name)).unwrap();
        }
    }
    let real = program("rm").unwrap();
    write_script(&bin.join("rm"), &format!("{RM}exec {} \"$@\"\n", real.display()));
    write_script(&bin.join("ssh"), "#!/bin/sh\n# The other machine is this one.\nexec /bin/sh -c \"$2\"\n");
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Where a program is.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Why these commands are not run, if that is so.
pub fn refusal(commands: &str) -> Option<String> {
    let without_kill = commands.replace(KILL, "");
    if without_kill.contains("kill") {
        return Some(format!("an example may end no process but by {KILL}"));
    }
    if let Some(word) = WORDS.iter().find(|word| has_word(commands, word)) {
        return Some(format!("an example may not have the word {word}"));
    }
    if commands.contains("PATH=") || commands.contains("HOME=") {
        return Some(String::from("an example may not change PATH or HOME"));
    }
    if commands.split(|char: char| !matches!(char, '.' | '_' | '-') && !char.is_alphanumeric()).any(|part| part == "..")
    {
        return Some(String::from("an example may not leave its directory by `..`"));
    }
    let begins_path = |at: &usize| {
        let before = commands[..*at].chars().next_back();
        let is_first = before.is_none_or(|char| !char.is_alphanumeric() && !"_-./:*?]}~".contains(char));
        // A slash behind which no name begins divides, or begins a pattern of awk(1).
        is_first && commands[at + 1..].starts_with(char::is_alphabetic)
    };
    let is_allowed = |path: &str, allowed: &str| {
        let rest = path.strip_prefix(allowed);
        rest.is_some_and(|rest| allowed.ends_with('/') || !rest.starts_with(|char: char| char.is_alphanumeric()))
    };
    let mut paths = commands.match_indices('/').map(|(at, _)| at).filter(begins_path).map(|at| &commands[at..]);
    paths
        .find(|path| !PATHS.iter().any(|allowed| is_allowed(path, allowed)))
        .map(|path| format!("an example may not have the path {}", path.split_whitespace().next().unwrap_or_default()))
}

/// Whether a word stands there, and not only a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '-' || char == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

#[test]
fn what_could_harm_the_machine_is_refused() {
    for commands in [
        "pkill xfer",
        "killall -9 xfer",
        "kill -9 -1",
        "kill $(pidof xfer)",
        "kill \"$server\"; kill 1",
        "rm -rf /home",
        "rm -rf '/home'/x",
        "xfer get a -o /etc/passwd",
        "xfer get a -d=/root",
        "echo >/etc/passwd",
        "rm /tmp2/x",
        "cd .. && rm x",
        "rm ../x",
        "rm sub/../../x",
        "eval \"$line\"",
        "command -p rm x",
        "PATH=$PATH:/srv/bin rm x",
        "find . -name x -delete",
        "find . -exec rm {} +",
        "awk 'BEGIN { system(\"rm x\") }'",
    ] {
        assert!(refusal(commands).is_some(), "{commands}");
    }
    for commands in [
        "rm -f ready && mkfifo ready\nxfer serve /srv/data -p 0 -q > ready &\nserver=$!\nkill \"$server\"",
        "awk '$4 ~ /^conn/ { sub(/:[0-9]+:$/, \"\", $9); n[$9] += $12 / 2 }' /var/log/xfer/server.log",
        "exec 3<>/dev/tcp/localhost/9999",
        "xfer get 'xfer://[::1]:9999/a' sub/b.txt -d /tmp >/dev/null 2>&1",
        "xfer get xfer://192.168.1.5/backup/db.dump.gz",
    ] {
        assert_eq!(refusal(commands), None, "{commands}");
    }
}
