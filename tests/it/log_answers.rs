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
const NAMES: [&str; 10] = [
    "plain.txt",
    "it's.txt",
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
    roff_free(command)
}

/// As mandoc prints it.
fn roff_free(text: &str) -> String {
    text.replace("\\(aq", "'").replace("\\e", "\\")
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

/// A log with everything in it: 10 files to 127.0.0.1 with 4 bytes each and one to 127.0.0.2, refusals of both, one file that
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
    // The first ten have lines, and the closing line counts the others.
    (0..5).for_each(|_| assert!(peer.get(&Get::of("none")).file.is_none()));
    drop(peer);
    let mut other = dial_from(2, server.addr, None);
    other.write_all(&request(b"plain.txt")).unwrap();
    drain(&mut other);
    drop(other);
    let mut other = dial_from(2, server.addr, None);
    other.write_all(&request(b"gone' to 127.0.0.3:1: not found")).unwrap();
    drain(&mut other);
    drop(other);
    // No name is known of these.
    let mut foreign = dial_from(2, server.addr, None);
    foreign.write_all(b"GET /plain.txt HTTP/1.1\r\n\r\n").unwrap();
    drain(&mut foreign);
    drop(foreign);
    let mut malformed = dial_from(2, server.addr, None);
    malformed.write_all(&request(b"")).unwrap();
    drain(&mut malformed);
    drop(malformed);
    scratch.share_sparse("sent big", 100_000_000);
    let mut slow = dial_slowly(server.addr);
    slow.write_all(&request(b"sent big")).unwrap();
    read_head(&mut slow);
    server.signal(Signal::USR1);
    server.wait_for_log("sending 'sent big' to ");
    drop(slow);
    wait_for("all to be closed", || server.log().matches("reason: ").count() == 6);
    server.signal(Signal::HUP);
    server.wait_for_log("reopened the directory ");
    server.stop();
}

#[test]
fn the_manual_s_commands_answer() {
    let scratch = Scratch::new();
    busy_log(&scratch);
    let path = scratch.path("server.log");
    let log = scratch.text("server.log");
    let having = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((having("sending 'sent big' to "), having(" - closed 127.0.0.")), (1, 6), "{log}");

    let fetched = answer("Which files were fetched, when, and by whom?", &path);
    assert_eq!(fetched.len(), 11, "{fetched:#?}");
    assert!(fetched.iter().all(|line| line.contains(" - INFO - sent '") && line.contains(" (4 bytes) to 127.0.0.")));
    // Unless midnight has come meanwhile.
    let today = answer("The same for today:", &path);
    assert!(today == fetched || today.len() < fetched.len(), "{today:#?}");

    let bytes = answer("How many bytes did each address fetch?", &path);
    let [first, second] = &bytes[..] else { panic!("{bytes:#?}") };
    assert_eq!(second, "4 127.0.0.2");
    let (count, address) = first.split_once(' ').unwrap();
    assert!(count.parse::<u64>().unwrap() > 40 && address == "127.0.0.1", "{bytes:#?}");

    let failed = answer("What failed or was refused, and why?", &path);
    let complaints = |what: &str| failed.iter().filter(|line| line.contains(what)).count();
    assert_eq!(failed.len(), having(" - WARN - "), "{failed:#?}");
    assert_eq!(
        (complaints(" - WARN - cut 'sent big' after "), complaints(" - WARN - refused ")),
        (1, 14),
        "{failed:#?}"
    );

    let fast = answer("How fast was each file sent?", &path);
    assert_eq!(fast.len(), 11, "{fast:#?}");
    for line in &fast {
        let [speed, unit, peer, name] = &line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // 4 bytes in at least a millisecond; what a name says would be another address.
        assert!(speed.parse::<f64>().unwrap() <= 4.0 && *unit == "KiB/s", "{line}");
        assert!(fetched.iter().any(|sent| sent.contains(&format!(" - sent {name} (4 bytes) to {peer} in "))), "{line}");
    }

    // Of 15 that were refused to the first address, five have no line.
    assert_eq!(answer("Which addresses are refused, and how often?", &path), ["15 127.0.0.1", "3 127.0.0.2"]);

    let life = answer("When was the server started, stopped or reloaded?", &path);
    let verbs: Vec<&str> =
        life.iter().map(|line| line.split(" - INFO - ").nth(1).unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(verbs.len(), 6, "{life:#?}");
    for (verb, count) in [("xfer", 2), ("reopened", 2), ("stopping:", 1), ("stopped:", 1)] {
        assert_eq!(verbs.iter().filter(|found| **found == verb).count(), count, "{life:#?}");
    }

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
    assert!(!of_big.contains(" - progress of "), "{of_big}");
    let quoted = &MANUAL.split_once(".Ql it\\(aqs.txt :\n.Bd -literal -offset indent\n$ ").expect("the next one").1;
    let command = roff_free(quoted.split_once("\n.Ed").expect("the end of the display").0);
    let output = Command::new("sh").arg("-c").arg(command.replace(LOG, path.to_str().unwrap())).output().unwrap();
    let of_quoted = String::from_utf8(output.stdout).unwrap();
    let is_right = of_quoted.lines().count() == 1 && of_quoted.contains(" - sent 'it\\'s.txt' (4 bytes) to ");
    assert!(is_right, "{command}\n{of_quoted}");
}

/// mawk(1), the awk of Debian, prints 4.2e+09 for a sum that is an integer to others, and sort(1) ranks it below 5.
#[test]
fn sums_of_gigabytes_are_ranked_as_numbers() {
    let scratch = Scratch::new();
    let closed = |n: u32, bytes: u64| {
        let peer = format!("127.0.0.{n}:4000");
        format!(
            "2026-01-15 20:10:33.403 - conn-{n} - INFO - closed {peer}: 1 reply, {bytes} bytes, 0.280 s, reason: complete\n"
        )
    };
    let log = scratch.write("server.log", [closed(1, 5), closed(2, 4_200_000_000), closed(2, 1)].concat().as_bytes());
    let question = "How many bytes did each address fetch?";
    let command = command(question).replace(LOG, log.to_str().unwrap());
    let mut tried = 0;
    for awk in ["awk", "mawk", "gawk", "busybox awk", "original-awk"] {
        let program = awk.split(' ').next().unwrap();
        if Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .is_ok_and(|found| !found.status.success())
        {
            continue;
        }
        let output = Command::new("sh").arg("-c").arg(command.replacen("awk", awk, 1)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "4200000001 127.0.0.2\n5 127.0.0.1\n", "{awk}: {output:?}");
        tried += 1;
    }
    assert!(tried > 0, "an awk");
}
