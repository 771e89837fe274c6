//! The commands by which xfer-serve(8) has an operator ask the log, run on a real one, with names that try to confuse them.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::wire::{dial_from, dial_slowly, drain, read_head, request};
use crate::harness::wire2::{Get, Peer};
use crate::harness::{Scratch, Server, wait_for};

const MANUAL: &str = include_str!("../../man/xfer-serve.8");

/// Where the log is in the manual's commands.
const LOG: &str = "/var/log/xfer/server.log";

/// Names of files that look like the rest of a line, or like another one.
const NAMES: [&str; 9] = [
    "plain.txt",
    "a b  c.txt",
    "it's \"quoted\" \\ 'twice'",
    "x' (5 bytes) to 9.9.9.9:9 in 0.001 s",
    "x (5 bytes) to 9.9.9.9:9 in 0.001 s",
    "WARN - cut 'plain.txt' after 1",
    "sent",
    "x\n2026-01-15 20:10:33.123 - conn-1 - INFO - sent 'forged' (5 bytes) to 9.9.9.9:9 in 0.001 s",
    "x' to 9.9.9.9:9: not found 'plain.txt' ",
];

/// The command below this question, as a person copies it from the page.
fn command(question: &str) -> String {
    let (_, section) = MANUAL.split_once(".Ss Searching the log\n").expect("the section");
    let (section, _) = section.split_once("\n.Ss ").expect("another one behind it");
    let (_, rest) = section.split_once(&format!(".Pp\n{question}\n.Bd -literal -offset indent\n$ ")).expect(question);
    let (command, _) = rest.split_once("\n.Ed").expect("the end of the display");
    command.replace("\\(aq", "'").replace("\\e", "\\")
}

/// The lines that it prints of this log, sorted.
fn answer(question: &str, log: &Path) -> Vec<String> {
    let command = command(question);
    assert!(command.contains(LOG), "{command}");
    let output = Command::new("sh").arg("-c").arg(command.replace(LOG, log.to_str().unwrap())).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command}\n{output:?}");
    let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A log with everything in it: 9 files to 127.0.0.1 with 4 bytes each and one to 127.0.0.2, refusals of both, one file that
/// was cut, and status lines about it.
fn busy_log(scratch: &Scratch) {
    let server = Server::of(scratch);
    let mut peer = Peer::dial(server.addr);
    for name in NAMES {
        // A file's name has no more than 255 bytes, and may contain everything but a slash.
        scratch.share(name, b"body");
        peer.get(&Get::of(name)).assert_brings(b"body");
        assert!(peer.get(&Get::of(format!("{name} none"))).file.is_none());
    }
    drop(peer);
    let mut other = dial_from(2, server.addr, None);
    other.write_all(&request(b"plain.txt")).unwrap();
    drain(&mut other);
    drop(other);
    let mut other = dial_from(2, server.addr, None);
    other.write_all(&request(b"gone' to 127.0.0.3:1: not found")).unwrap();
    drain(&mut other);
    drop(other);
    scratch.share_sparse("sent big", 100_000_000);
    let mut slow = dial_slowly(server.addr);
    slow.write_all(&request(b"sent big")).unwrap();
    read_head(&mut slow);
    server.signal(Signal::USR1);
    server.wait_for_log("sending 'sent big' to ");
    drop(slow);
    wait_for("all to be closed", || server.log().matches("reason: ").count() == 4);
    server.stop();
}

#[test]
fn the_manual_s_commands_answer() {
    let scratch = Scratch::new();
    busy_log(&scratch);
    let path = scratch.path("server.log");
    let log = scratch.text("server.log");
    let having = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((having("sending 'sent big' to "), having(" - closed 127.0.0.")), (1, 4), "{log}");

    let fetched = answer("Which files were fetched, when, and by whom?", &path);
    assert_eq!(fetched.len(), 10, "{fetched:#?}");
    assert!(fetched.iter().all(|line| line.contains(" - INFO - sent '") && line.contains(" (4 bytes) to 127.0.0.")));
    // Unless midnight has come meanwhile.
    let today = answer("The same for today:", &path);
    assert!(today == fetched || today.len() < fetched.len(), "{today:#?}");

    let bytes = answer("How many bytes did each address fetch?", &path);
    let [first, second] = &bytes[..] else { panic!("{bytes:#?}") };
    assert_eq!(second, "4 127.0.0.2");
    let (count, address) = first.split_once(' ').unwrap();
    assert!(count.parse::<u64>().unwrap() > 36 && address == "127.0.0.1", "{bytes:#?}");

    let failed = answer("Which transfers failed, and why?", &path);
    let [cut] = &failed[..] else { panic!("{failed:#?}") };
    assert!(cut.contains(" - WARN - cut 'sent big' after ") && cut.contains(": reset by peer ("), "{cut}");

    let fast = answer("How fast was each file sent, in MiB/s?", &path);
    assert_eq!(fast.len(), 10, "{fast:#?}");
    for line in &fast {
        let (speed, line) = line.split_once(' ').unwrap();
        // 4 bytes, in at least a millisecond, are 0.0 MiB/s; what a name says would be more than that, or nothing.
        assert_eq!(speed, "0.0", "{line}");
        assert!(fetched.iter().any(|sent| sent == line), "{line}");
    }

    assert_eq!(answer("Which addresses are refused, and how often?", &path), ["1 127.0.0.2", "9 127.0.0.1"]);

    let fate = |name: &str| {
        let command =
            command("What happened to one file?").replace("large.bin", name).replace(LOG, path.to_str().unwrap());
        String::from_utf8(Command::new("sh").arg("-c").arg(command).output().unwrap().stdout).unwrap()
    };
    let of_plain = fate("plain.txt");
    assert_eq!(of_plain.lines().count(), 2, "{of_plain}");
    assert!(of_plain.lines().all(|line| line.contains(" - INFO - sent 'plain.txt' (4 bytes) to ")), "{of_plain}");
    let of_big = fate("sent big");
    assert!(
        of_big.contains(" - sending 'sent big' to ") && of_big.contains(" - WARN - cut 'sent big' after "),
        "{of_big}"
    );
}
