//! The command line: help, mistakes and what they are answered with, defaults, environment, names of the binary.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::wire::ClosedPort;
use crate::harness::{Outcome, Program, Scratch, Server, get, plain_get, serve};

fn xfer(scratch: &Scratch, args: &[&str]) -> Outcome {
    Program::xfer(scratch).args(args).run()
}

#[test]
fn version_and_help_go_to_stdout() {
    let scratch = Scratch::new();
    let version = xfer(&scratch, &["--version"]);
    version.exits(0).assert(version.stdout == format!("xfer {}\n", env!("CARGO_PKG_VERSION")).as_bytes(), "version");
    for args in [&["--help"][..], &["-h"], &["serve", "--help"], &["serve", "-h"], &["get", "--help"], &["get", "-h"]] {
        let help = xfer(&scratch, args);
        help.exits(0).assert(help.stderr.is_empty(), "nothing on stderr");
        let text = String::from_utf8_lossy(&help.stdout);
        help.assert(text.contains("serve") || text.contains("get"), "a help text");
    }
    let help = xfer(&scratch, &["get", "--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    let options = ["-H", "-p", "-d", "-o", "--from-file", "--retries", "--timeout", "--max-backoff", "--force"];
    for option in options.into_iter().chain(["--no-clobber", "--log-dir", "--log-file", "--no-log", "-q", "-v"]) {
        help.assert(text.contains(option), &format!("{option} in the help"));
    }
    assert_eq!(scratch.names(""), ["files"], "help makes no directory and no log");
}

#[test]
fn mistakes_are_answered_in_one_line() {
    let scratch = Scratch::new();
    let mistakes: [&[&str]; 17] = [
        &[],
        &["nonsense"],
        &["get"],
        &["get", "--nonsense", "f"],
        &["get", "f", "-H"],
        &["get", "f", "-p", "http"],
        &["get", "f", "-p", "65536"],
        &["get", "f", "-p", "-1"],
        &["get", "f", "-p", "0"],
        &["get", "f", "-H", "localhost:99999"],
        &["get", "f", "--retries", "many"],
        &["get", "f", "--timeout", "nan"],
        &["get", "f", "--timeout", "-1"],
        &["get", "f", "--progress", "sometimes"],
        &["get", "f", "--checksum", "crc32"],
        &["serve", "files", "-p", "70000"],
        &["serve", "files", "--max-conns", "-3"],
    ];
    for args in mistakes {
        let outcome = xfer(&scratch, args);
        outcome.exits(2).prints_nothing_on_stdout();
        outcome.assert(!outcome.stderr.is_empty(), "a message");
    }
    assert_eq!(scratch.names(""), ["files"], "a mistake makes no directory and no log");
}

#[test]
fn a_number_in_place_of_the_directory_asks_about_the_port() {
    let scratch = Scratch::new();
    let outcome = xfer(&scratch, &["serve", "8080"]);
    outcome.has_one_error_line().stderr_has("type: xfer serve . -p 8080\n").prints_nothing_on_stdout();
    outcome.assert(matches!(outcome.status.code(), Some(1 | 2)), "a mistake");
    // Unless there is such a directory.
    fs::create_dir(scratch.path("8080")).unwrap();
    let program = Program::xfer(&scratch).args(["serve", "8080", "-p", "0", "-b", "127.0.0.1", "--no-log"]);
    Server::start(program).stop_content();
}

#[test]
fn a_second_file_that_looks_like_a_host_or_a_port_asks_about_it() {
    let scratch = Scratch::new();
    for (second, option) in [("1.2.3.4", "-H"), ("localhost", "-H"), ("9999", "-p"), ("192.168.1.5:9999", "-H")] {
        let outcome = xfer(&scratch, &["get", "f", second]);
        let line = if option == "-H" { format!("; type: xfer get f -H {second}\n") } else { format!(" -p {second}\n") };
        outcome.exits(2).has_one_error_line().stderr_has(&line);
    }
    assert_eq!(scratch.names(""), ["files"]);
}

#[test]
fn with_a_host_named_the_second_file_is_a_file() {
    let scratch = Scratch::new();
    scratch.share("f", b"first");
    scratch.share("1.2.3.4", b"second");
    let server = Server::of(&scratch);
    get(&scratch, server.addr).args(["f", "1.2.3.4"]).run().exits(0).stderr_has("2 of 2 saved");
    server.stop_content();
}

#[test]
fn a_missing_directory_is_an_error_and_not_made() {
    let scratch = Scratch::new();
    scratch.write("file", b"");
    for dir in ["missing", "file/", "file/missing"] {
        let outcome = xfer(&scratch, &["serve", dir, "-p", "0", "--log-dir", "logs"]);
        outcome.exits(1).has_one_error_line().stderr_has(dir).prints_nothing_on_stdout();
    }
    assert!(!scratch.path("missing").exists());
    assert!(!scratch.path("logs").exists(), "a mistake leaves nothing behind");
}

#[test]
fn a_port_in_use_is_named() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let outcome = xfer(&scratch, &["serve", "files", "-b", "127.0.0.1", "-p", &port, "--no-log"]);
    outcome.exits(1).has_one_error_line().stderr_has(&port).stderr_has("in use").stderr_has("-p");
    outcome.prints_nothing_on_stdout();
}

#[test]
fn an_address_that_is_not_ours_is_an_error() {
    let scratch = Scratch::new();
    let outcome = xfer(&scratch, &["serve", "files", "-b", "192.0.2.1", "-p", "0", "--no-log"]);
    outcome.exits(1).has_one_error_line().stderr_has("192.0.2.1");
    let outcome = xfer(&scratch, &["serve", "files", "-b", "no address", "-p", "0", "--no-log"]);
    outcome.assert(matches!(outcome.status.code(), Some(1 | 2)), "a mistake").stderr_has("no address");
}

#[test]
fn default_folders_are_made() {
    let scratch = Scratch::new();
    let server = Server::start(Program::xfer(&scratch).args(["serve", "-p", "0", "-b", "127.0.0.1"]));
    fs::write(scratch.path("server_files/a"), b"body").unwrap();
    plain_get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("saved client_downloads/a: ");
    assert_eq!(fs::read(scratch.path("client_downloads/a")).unwrap(), b"body");
    server.stop_content();
    assert_eq!(scratch.names(""), ["client.log", "client_downloads", "files", "logs", "server_files"]);
}

#[test]
fn options_with_an_equals_sign() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let args = ["serve", "--max-conns=5", "--drain=1", "--log-file=x=y.log", "-b", "127.0.0.1", "-p", "0", "files"];
    let server = Server::start(Program::xfer(&scratch).args(args));
    let program = Program::xfer(&scratch).args(["get", "a", "--retries=1", "--timeout=5", "--log-dir=client logs"]);
    let program = program.arg("-H").arg(server.addr.to_string());
    program.run().exits(0);
    server.stop();
    assert!(scratch.path("x=y.log").exists() && scratch.path("client logs").is_dir());
}

#[test]
fn host_and_port_in_every_form() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let port = server.addr.port().to_string();
    let both = server.addr.to_string();
    let forms: [&[&str]; 4] =
        [&["-H", &both], &["-H", "127.0.0.1", "-p", &port], &["-p", &port], &["-H", "localhost", "-p", &port]];
    for form in forms {
        let program = Program::xfer(&scratch).args(["get", "--force", "a", "--no-log", "-d", "out"]).args(form);
        program.run().exits(0).stderr_has("verified");
    }
    server.stop_content();
}

#[test]
fn without_an_address_it_listens_on_ipv6_and_ipv4() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let program = Program::xfer(&scratch).args(["serve", "files", "-p", "0", "--no-log"]);
    let server = Server::start(program);
    let port = server.addr.port();
    let mut addresses = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::LOCALHOST, port).into());
    }
    for addr in addresses {
        get(&scratch, addr).args(["--force", "a"]).run().exits(0).stderr_has("verified");
    }
    server.stop();
}

#[test]
fn the_environment_gives_defaults() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let serve = Program::xfer(&scratch).args(["serve", "files", "-b", "127.0.0.1"]);
    let server = Server::start(serve.env("XFER_PORT", "0").env("XFER_LOG_DIR", "server logs"));
    let with_env = |args: &[&str]| {
        let program = Program::xfer(&scratch).arg("get").args(args).env("XFER_HOST", "127.0.0.1");
        let program = program.env("XFER_PORT", server.addr.port().to_string());
        program.env("XFER_DOWNLOAD_DIR", "env out").env("XFER_LOG_DIR", "env logs")
    };
    with_env(&["a"]).run().exits(0);
    assert_eq!(fs::read(scratch.path("env out/a")).unwrap(), b"body");
    assert_eq!(scratch.names("env logs").len(), 1);
    assert_eq!(scratch.names("server logs").len(), 1);
    server.stop_content();
}

#[test]
fn options_win_over_the_environment() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let dead = ClosedPort::new();
    let program = plain_get(&scratch, server.addr).args(["-d", "option out", "a"]).env("XFER_HOST", "192.0.2.1");
    let program = program.env("XFER_PORT", dead.addr.port().to_string()).env("XFER_DOWNLOAD_DIR", "env out");
    program.env("XFER_LOG_DIR", "env logs").run().exits(0);
    assert_eq!(scratch.names("option out"), ["a"]);
    assert!(!scratch.path("env out").exists() && !scratch.path("env logs").exists());
    server.stop_content();
}

/// A run with these variables and these options, which have spaces between them.
fn with_env(scratch: &Scratch, variables: &str, options: &str) -> Outcome {
    let program = Program::xfer(scratch).args(["get", "a", "--force", "--no-log", "--retries", "1", "-d", "out"]);
    let program = program.args(options.split_whitespace());
    let variables = variables.split_whitespace().map(|variable| variable.split_once('=').unwrap());
    variables.fold(program, |program, (name, value)| program.env(name, value)).run()
}

#[test]
fn an_option_wins_over_each_part_of_a_variable() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let dead = ClosedPort::new();
    let (here, elsewhere) = (server.addr, dead.addr);
    let (port, dead_port) = (here.port(), elsewhere.port());
    let cases = [
        // The host from the one, the port from the other.
        (format!("XFER_HOST={elsewhere}"), format!("-p {port}")),
        // A port that belongs to another host is none of this one.
        (format!("XFER_HOST={elsewhere} XFER_PORT={port}"), format!("-H {}", here.ip())),
        // What stands with the host is about that host.
        (format!("XFER_HOST={here} XFER_PORT={dead_port}"), String::new()),
        (format!("XFER_HOST={} XFER_PORT={dead_port}", here.ip()), format!("-p {port}")),
        // What a run does not use fails none.
        (String::from("XFER_HOST=no/host XFER_PORT=many"), format!("-H {here}")),
        (format!("XFER_HOST={}:many XFER_PORT=many", here.ip()), format!("-p {port}")),
        (format!("XFER_HOST={here} XFER_PORT=many"), String::new()),
        (format!("XFER_HOST={}:0", here.ip()), format!("-p {port}")),
        // Set and empty is not set.
        (format!("XFER_HOST= XFER_PORT={port} XFER_DOWNLOAD_DIR="), String::new()),
        (String::from("XFER_HOST= XFER_PORT="), format!("-H {here} -p {port}")),
    ];
    for (variables, options) in cases {
        let outcome = with_env(&scratch, &variables, &options);
        outcome.assert(outcome.status.success(), &format!("{variables:?} {options:?}")).stderr_has("verified");
    }
    server.stop_content();
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let scratch = Scratch::new();
    for (variables, options, line) in [
        ("XFER_HOST=no/host", "", "bad host 'no/host' in XFER_HOST: it contains '/'; set it to no\n"),
        ("XFER_HOST=no/host", "-p 1", "bad host 'no/host' in XFER_HOST: it contains '/'; set it to no\n"),
        ("XFER_HOST=http://nas:80/x", "", "in XFER_HOST: it is a URL; set it to nas:80\n"),
        (
            "XFER_HOST=::1:9999",
            "",
            "in XFER_HOST: it is unclear whether 9999 is the port; set it to [::1]:9999 or [::1:9999]\n",
        ),
        ("XFER_HOST=nas:80:90", "", "in XFER_HOST: give a name or an address, such as nas, nas:9999, "),
        ("XFER_HOST=nas:many", "", "bad port 'many' in XFER_HOST: give a number from 1 to 65535"),
        ("XFER_HOST=nas:0", "", "bad port '0' in XFER_HOST: give a number from 1 to 65535"),
        ("XFER_HOST=nas:8080 XFER_PORT=many", "-H nas", "bad port 'many' in XFER_PORT: give a number"),
        ("", "-H nas:8080 -p 9779", "-H says port 8080, but -p says 9779; use one of them"),
    ] {
        with_env(&scratch, variables, options).exits(2).has_one_error_line().stderr_has(line);
    }
}

#[test]
fn a_log_folder_that_is_set_and_empty_is_no_log() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let serve = Program::xfer(&scratch).args(["serve", "files", "-b", "127.0.0.1", "-p", "0"]);
    let server = Server::start(serve.env("XFER_LOG_DIR", ""));
    let program = plain_get(&scratch, server.addr).own_log().args(["-d", "out", "a"]).env("XFER_LOG_DIR", "");
    program.run().exits(0);
    server.stop_content();
    assert_eq!(scratch.names(""), ["files", "out"], "no log, and no directory for it");
}

/// An address and a port in place of the directory, or in one option.
#[test]
fn what_serve_does_not_take_is_answered_with_a_command_that_works() {
    let scratch = Scratch::new();
    scratch.write("a", b"body");
    fs::create_dir(scratch.path("srv")).unwrap();
    ["srv/x", "srv/y"].iter().for_each(|path| drop(scratch.write(path, b"")));
    let all = |line: &str| {
        let outcome = xfer(&scratch, &line.split(' ').collect::<Vec<&str>>());
        outcome.exits(2).has_one_error_line().prints_nothing_on_stdout();
        let (_, command) = outcome.stderr.split_once("type: xfer ").unwrap_or_else(|| panic!("{}", outcome.stderr));
        let words: Vec<String> = command.trim_end().split(' ').map(str::to_string).collect();
        Server::start(Program::xfer(&scratch).args(&words)).stop_content();
    };
    all("serve 0 -b 127.0.0.1 --no-log");
    all("serve :0 -b 127.0.0.1 --no-log");
    all("serve 127.0.0.1:0 --no-log");
    all("serve localhost:0 --no-log");
    all("serve . -b localhost:0 --no-log");
    all("serve . 0 -b 127.0.0.1 --no-log");
    all("serve srv/x srv/y -p 0 -b 127.0.0.1 --no-log");
    all("serve --directory . -p 0 -b 127.0.0.1 --no-log");
    xfer(&scratch, &["serve", "help"]).exits(2).has_one_error_line().stderr_has("type: xfer help serve\n");
}

/// Nor an option for a value: as getopt(3) has it.
#[test]
fn a_value_is_never_taken_for_an_option() {
    let scratch = Scratch::new();
    ["a", "ool", "false", "help", "-x"].iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    let server = Server::of(&scratch);
    let run = |args: &[&str]| plain_get(&scratch, server.addr).args(args).run();
    for folder in ["-pool", "--help", "-h", "--", "--x=y"] {
        let outcome = run(&["a", "-d", folder]);
        outcome.exits(0).prints_nothing_on_stdout().stderr_lacks(" of ");
        assert_eq!(scratch.names(folder), ["a"]);
    }
    for path in ["--x=y.txt", "--version", "-q", "-ool"] {
        run(&["a", "-o", path]).exits(0).prints_nothing_on_stdout();
        assert_eq!(fs::read(scratch.path(path)).unwrap(), b"a");
    }
    for switch in ["--no-sync=false", "--force=no", "--v1="] {
        let outcome = run(&["a", switch, "-d", "never"]);
        outcome.exits(2).has_one_error_line().stderr_has("takes no value");
    }
    run(&["help", "-d", "out"]).exits(0).stderr_has("saved out/help: ");
    run(&["-vd", "out", "--", "-x"]).exits(0).stderr_has("saved out/-x: ");
    assert!(!scratch.path("never").exists() && !scratch.path("ool").exists());
    server.stop_content();
}

/// Anywhere, of every value.
#[test]
fn an_empty_value_is_answered_with_what_to_do() {
    let scratch = Scratch::new();
    for args in [
        &["get", "a", "-d", ""][..],
        &["get", "a", "-o", ""],
        &["get", "a", "-H", ""],
        &["get", "a", "--port="],
        &["get", "a", "--log-dir", ""],
        &["get", "a", "--log-file="],
        &["get", "--from-file", ""],
        &["get", ""],
        &["serve", ""],
        &["serve", "files", "-b", ""],
        &["serve", "files", "--log-dir="],
        &["serve", "files", "--drain="],
    ] {
        xfer(&scratch, args).exits(2).has_one_error_line().prints_nothing_on_stdout().stderr_has("''");
    }
    assert_eq!(scratch.names(""), ["files"], "a mistake makes no directory and no log");
}

#[test]
fn a_bad_port_in_the_environment_is_a_mistake() {
    let scratch = Scratch::new();
    let outcome = Program::xfer(&scratch).args(["get", "a"]).env("XFER_PORT", "many").run();
    outcome.exits(2).has_one_error_line().stderr_has("XFER_PORT");
}

#[test]
fn the_names_xfer_serve_and_xfer_get() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let link = |name: &str| {
        let path = scratch.path(name);
        symlink(Path::new(env!("CARGO_BIN_EXE_xfer")), &path).unwrap();
        path
    };
    let program = Program::xfer(&scratch).called(&link("xfer-serve"));
    let server = Server::start(program.args(["files", "-p", "0", "-b", "127.0.0.1", "--no-log"]));
    let program = Program::xfer(&scratch).called(&link("xfer-get"));
    let program = program.args(["a", "--no-log", "-d", "out", "-H"]).arg(server.addr.to_string());
    program.run().exits(0).stderr_has("verified");
    server.stop_content();
}

#[test]
fn arguments_that_are_not_utf8_are_a_mistake_and_no_crash() {
    let scratch = Scratch::new();
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    let bytes: &std::ffi::OsStr = bytes;
    let command = |name: &str| Program::xfer(&scratch).arg(name).arg(bytes);
    command("serve").args(["-p", "0", "--no-log"]).run().has_one_error_line();
    Program::xfer(&scratch).arg(bytes).run().exits(2).has_one_error_line();
    command("get").args(["-p", "x"]).run().exits(2).has_one_error_line();
    // A directory may have such a name, and works.
    fs::create_dir(scratch.path(bytes)).unwrap();
    let program = command("serve").args(["-p", "0", "-b", "127.0.0.1", "--no-log"]);
    Server::start(program).stop();
}

#[test]
fn output_needs_a_single_file() {
    let scratch = Scratch::new();
    let outcome = xfer(&scratch, &["get", "a", "b", "-o", "x"]);
    outcome.exits(2).has_one_error_line().stderr_has("-o");
}

/// The server needs no directory of its own to run in, and says so in its one line on stdout.
#[test]
fn it_serves_the_current_directory() {
    let scratch = Scratch::new();
    scratch.write("a", b"body");
    let program = Program::xfer(&scratch).args(["serve", ".", "-p", "0", "-b", "127.0.0.1", "--no-log"]);
    let server = Server::start(program);
    get(&scratch, server.addr).arg("a").run().exits(0);
    server.stop_content();
    serve(&scratch).arg("--nonsense").run().exits(2);
}
