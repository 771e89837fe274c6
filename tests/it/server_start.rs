//! The first lines of a server: what, where, with which options, where the log is, and last what a person types next.

use crate::harness::screen::Screen;
use crate::harness::{Program, Scratch, Server, logfile, serve, wait_for};

/// The position of the line with this in it.
fn position(messages: &[String], fragment: &str) -> usize {
    let found = messages.iter().position(|message| message.contains(fragment));
    found.unwrap_or_else(|| panic!("no line {fragment:?} among {messages:#?}"))
}

fn messages(log: &str) -> Vec<String> {
    logfile::lines(log).into_iter().map(|line| line.message).collect()
}

/// On a terminal the last lines are the ones that are read.
#[test]
fn the_commands_to_type_come_last() {
    let scratch = Scratch::new();
    // A path that is relative tells nothing to whoever reads the log elsewhere.
    let log = "own/../server.log";
    std::fs::create_dir(scratch.path("own")).unwrap();
    let server = Server::start(serve(&scratch).own_log().args(["--log-file", log, "--idle-timeout", "4"]));
    server.wait_for_stderr("to fetch on this machine");
    let shown = messages(&server.stop_content().stderr);
    let order = ["xfer ", "options: --idle-timeout 4", "log file /", "sandbox: ", "to fetch on this machine"];
    let found: Vec<usize> = order.iter().map(|fragment| position(&shown, fragment)).collect();
    assert_eq!(found, [0, 1, 2, 3, 4], "{shown:#?}");
    assert!(shown[2].ends_with("/server.log"), "{shown:#?}");
}

#[test]
fn options_that_differ_from_the_defaults_are_named() {
    let scratch = Scratch::new();
    let cases: [(&[&str], Option<&str>); 4] = [
        (&[], None),
        // As it is by default.
        (&["--idle-timeout", "60", "--max-conns", "20000", "-q"], None),
        (&["--idle-timeout", "4", "--min-rate=100000"], Some("options: --idle-timeout 4 --min-rate 100000")),
        (
            &[
                "--drain",
                "0",
                "--max-conns-per-ip",
                "0",
                "--hidden",
                "--no-sandbox",
                "--request-timeout",
                "0.5",
                "--max-conns=9",
            ],
            Some("options: --hidden --no-sandbox --max-conns 9 --max-conns-per-ip 0 --request-timeout 0.5 --drain 0"),
        ),
    ];
    for (options, expected) in cases {
        let server = Server::start(serve(&scratch).args(options));
        let shown = messages(&server.stop_content().log);
        let named: Vec<&str> = shown.iter().map(String::as_str).filter(|line| line.starts_with("options: ")).collect();
        assert_eq!(named, Vec::from_iter(expected), "{shown:#?}");
        std::fs::remove_file(scratch.path("server.log")).unwrap();
    }
}

/// A URL that goes over two rows cannot be copied; the log file has the line all the same.
#[test]
fn on_a_terminal_the_command_has_a_line_of_its_own() {
    let scratch = Scratch::new();
    let screen = Screen::new(80);
    let server = Server::start(serve(&scratch).stderr(screen.terminal()));
    let command = format!("xfer get xfer://127.0.0.1:{}/NAME", server.addr.port());
    screen.wait_for(&format!("to fetch on this machine (replace NAME):\n    {command}\n"));
    server.wait_for_log(&format!(" - main - INFO - to fetch on this machine (replace NAME): {command}\n"));
    server.into_running().finish_after(rustix::process::Signal::TERM).exits(0);
    // Whoever wants to see no more than warnings sees none of it.
    let screen = Screen::new(80);
    let server = Server::start(serve(&scratch).arg("-q").stderr(screen.terminal()));
    wait_for("its log", || server.log().matches("to fetch on this machine").count() == 2);
    server.into_running().finish_after(rustix::process::Signal::TERM).exits(0);
    assert_eq!(screen.raw(), "");
}

/// One shared file needs nothing to be replaced.
#[test]
fn the_command_for_one_file_can_be_pasted_unchanged() {
    let scratch = Scratch::new();
    let file = scratch.share("a b", b"body");
    let server = Server::start(crate::harness::serve_dir(&scratch, &file));
    let port = server.addr.port();
    server.wait_for_log(&format!("to fetch on this machine: xfer get xfer://127.0.0.1:{port}/a%20b\n"));
    server.stop_content();
}

/// Who starts it for the first time has nothing to share yet.
#[test]
fn a_directory_that_was_just_made_is_said_to_be_empty() {
    let scratch = Scratch::new();
    let start = || {
        let program = Program::xfer(&scratch).args(["serve", "-p", "0", "-b", "127.0.0.1"]);
        Server::start(program.log_file(scratch.path("server.log")))
    };
    let line = " - main - INFO - server_files is new and empty: put files into it\n";
    start().stop_content().log_has(line);
    std::fs::remove_file(scratch.path("server.log")).unwrap();
    start().stop_content().log_lacks("new and empty");
}

#[test]
fn a_directory_that_is_missing_has_advice() {
    let scratch = Scratch::new();
    let outcome = Program::xfer(&scratch).args(["serve", "nodir", "--no-log", "-p", "0"]).run();
    outcome.exits(1).has_one_error_line();
    let line = "xfer: cannot share nodir: no such file or directory; check the path, or create the directory\n";
    outcome.stderr_has(line);
}
