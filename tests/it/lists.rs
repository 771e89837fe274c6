//! Lists of names: what `--from-file` reads, from where, and what it does not take for a name.

use std::fs::{self, File};
use std::io::Write;

use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, mkfifoat};

use crate::harness::wire::ClosedPort;
use crate::harness::{Outcome, Scratch, Server, get, process, wait_for};

/// Fetches what a list holds from a server that has these names, each with itself as its content.
fn fetched(names: &[&str], list: &[u8], args: &[&str]) -> (Scratch, Outcome) {
    let scratch = Scratch::new();
    names.iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    scratch.write("list", list);
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).args(["--from-file", "list"]).args(args).run();
    server.stop();
    (scratch, outcome)
}

/// As Windows editors write it.
#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let (scratch, outcome) = fetched(&["a", "b"], b"\xef\xbb\xbfa\r\nb\r\n", &[]);
    outcome.exits(0).stderr_has("2 of 2 saved");
    assert_eq!(scratch.names("out"), ["a", "b"]);
    // Only at the beginning: anywhere else it is a character, and shown.
    let (_, outcome) = fetched(&["a", "b"], b"a\n\xef\xbb\xbfb\n", &[]);
    outcome.exits(1).stderr_has("'\\u{feff}b'");
    let (_, outcome) = fetched(&["a"], b"\xef\xbb\xbf", &[]);
    outcome.exits(2).stderr_has("the list 'list' contains no names");
}

#[test]
fn a_list_in_utf_16_is_refused_with_what_to_do() {
    for (list, line) in [
        (&b"\xff\xfea\0\r\0\n\0b\0\r\0\n\0"[..], "line 1 of the list 'list' begins with a UTF-16 byte order mark"),
        (b"\xfe\xff\0a\0\n", "line 1 of the list 'list' begins with a UTF-16 byte order mark"),
        (b"a\0\n\0b\0\n\0", "line 1 of the list 'list' contains a NUL byte"),
        (b"a\nb\0c\n", "line 2 of the list 'list' contains a NUL byte; if NUL bytes end the names, use -0;"),
    ] {
        let (scratch, outcome) = fetched(&["a"], list, &[]);
        outcome.exits(2).has_one_error_line().stderr_has(line).stderr_has("as UTF-8");
        assert!(!scratch.out().exists(), "nothing is fetched");
    }
}

/// As `find -print0` writes it: every name that a file can have.
#[test]
fn names_that_end_with_nul() {
    let names = ["two\nlines", "\u{feff}mark", "cr\r", "\n"];
    let list = names.map(|name| format!("{name}\0")).concat();
    for arg in ["-0", "--null"] {
        let (scratch, outcome) = fetched(&names, list.as_bytes(), &[arg]);
        outcome.exits(0).stderr_has("4 of 4 saved");
        for name in names {
            assert_eq!(fs::read(scratch.out().join(name)).unwrap(), name.as_bytes());
        }
    }
    // The last one may lack its end; an empty one does not count; a mark at the beginning is a part of the name.
    let (scratch, outcome) = fetched(&["a", "\u{feff}b"], "\u{feff}b\0\0a".as_bytes(), &["-q0"]);
    outcome.exits(0);
    assert_eq!(scratch.names("out"), ["a", "\u{feff}b"]);
    let (_, outcome) = fetched(&["a"], b"", &["-0", "a"]);
    outcome.exits(0);
    let port = ClosedPort::new();
    let scratch = Scratch::new();
    get(&scratch, port.addr).args(["-0", "a"]).run().exits(2).has_one_error_line().stderr_has("--from-file");
}

#[test]
fn several_lists_are_all_read() {
    let scratch = Scratch::new();
    ["a", "b", "c"].iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    scratch.write("one", b"a\n");
    let other = File::open(scratch.write("other", b"b\n")).unwrap();
    let server = Server::of(&scratch);
    let program = get(&scratch, server.addr).args(["--from-file", "one", "--from-file=-", "c"]).stdin(other);
    program.run().exits(0).stderr_has("3 of 3 saved");
    assert_eq!(scratch.names("out"), ["a", "b", "c"]);
    server.stop_content();
}

#[test]
fn an_empty_list_is_named() {
    for list in [&b""[..], b"\n\r\n\n"] {
        let (_, outcome) = fetched(&["a"], list, &[]);
        outcome.exits(2).has_one_error_line().stderr_has("the list 'list' contains no names");
    }
    let (_, outcome) = fetched(&["a"], b"", &["a"]);
    outcome.exits(0);
}

/// It is found out before all of it is read: somebody may have named a disk image.
#[test]
fn a_line_longer_than_any_name() {
    let longest = "n".repeat(4096);
    let (_, outcome) = fetched(&[], format!("\u{feff}{longest}\r\n").as_bytes(), &["-q"]);
    outcome.stderr_lacks("of the list ");
    let (_, outcome) = fetched(&[], format!("a\n{longest}n\n").as_bytes(), &[]);
    outcome
        .exits(2)
        .has_one_error_line()
        .stderr_has("line 2 of the list 'list' is longer than a name can be (4096 bytes)");
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let outcome = get(&scratch, port.addr).args(["--from-file", "/dev/zero"]).run();
    outcome.exits(2).has_one_error_line().stderr_has("line 1 of the list '/dev/zero' contains a NUL byte");
    let outcome = get(&scratch, port.addr).args(["-0", "--from-file", "/proc/self/exe"]).run();
    outcome.exits(2).has_one_error_line().stderr_has(
        "of the list '/proc/self/exe' is longer than a name can be (4096 bytes); if each line is a name, do not use -0",
    );
}

#[test]
fn a_hundred_thousand_names_through_a_named_pipe() {
    let scratch = Scratch::new();
    let fifo = scratch.path("list");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let port = ClosedPort::new();
    // They are all read, and no folder or log is made yet.
    let args = ["--from-file", "list", "-o", "x", "-H"];
    let program = crate::harness::Program::xfer(&scratch).arg("get").args(args).arg(port.addr.to_string());
    let running = program.spawn();
    let mut writer = File::options().write(true).open(&fifo).unwrap();
    let names: String = (0..100_000).map(|number| format!("some/folder/file-{number}.bin\n")).collect();
    writer.write_all(names.as_bytes()).unwrap();
    drop(writer);
    running.finish().exits(2).has_one_error_line().stderr_has("-o saves one file, but 100000 are named");
}

/// A pipe that somebody has made non-blocking, and whose writer takes its time.
#[test]
fn a_list_from_a_pipe_that_does_not_block() {
    let scratch = Scratch::new();
    ["a", "b", "c"].iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    let server = Server::of(&scratch);
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&reader, fcntl_getfl(&reader).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut running = get(&scratch, server.addr).args(["--from-file", "-"]).stdin(reader).spawn();
    for piece in ["a\nb", "\nc"] {
        wait_for("the client to wait for more", || {
            assert!(!running.has_ended(), "it ended before the list did");
            process::is_asleep(running.pid())
        });
        writer.write_all(piece.as_bytes()).unwrap();
    }
    drop(writer);
    running.finish().exits(0).stderr_has("3 of 3 saved");
    assert_eq!(scratch.names("out"), ["a", "b", "c"]);
    server.stop_content();
}

/// A name that looks right and is not there shows why.
#[test]
fn what_is_invisible_in_a_name_is_shown() {
    for (name, shown) in [
        ("report.\u{200b}pdf", "'report.\\u{200b}pdf'"),
        ("\u{feff}report.pdf", "'\\u{feff}report.pdf'"),
        ("at 9.41\u{202f}AM.png", "'at 9.41\\u{202f}AM.png'"),
        ("re\u{ad}port\u{2060}", "'re\\u{ad}port\\u{2060}'"),
        ("a\u{e0041}b", "'a\\u{e0041}b'"),
        ("a\u{200d}b", "'a\\u{200d}b'"),
    ] {
        let (_, outcome) = fetched(&["report.pdf"], format!("\n{name}\n").as_bytes(), &[]);
        outcome.exits(1).stderr_has(shown).stderr_has("not found").log_has(shown);
    }
    // Where it shows, it is left alone.
    let name = "می\u{200c}خواهم 👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}.txt";
    let (_, outcome) = fetched(&[name], format!("{name}\n").as_bytes(), &[]);
    outcome.exits(0).stderr_has(&format!("/out/{name}: "));
}
