//! Command lines and what they mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use argh::{ArgsInfo, FlagInfoKind, Optionality};

use super::argv::{decode, encode};
use super::get::GetArgs;
use super::serve::ServeArgs;
use super::values::parse_bind;
use super::{Command, parse};
use crate::error::ExitCode;
use crate::get::{GetConfig, Output};
use crate::logging::Verbosity;
use crate::serve::Bind;

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

fn get_config(line: &str) -> GetConfig {
    match parse(words(line)) {
        Ok(Command::Get(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn values_may_follow_an_equals_sign_or_the_letter() {
    for line in ["xfer get f -H h -p 80", "xfer get --host=h --port=80 f", "xfer get -Hh -p80 f", "xfer-get f -Hh:80"] {
        let config = get_config(line);
        assert_eq!((config.host.as_str(), config.port), ("h", 80), "{line}");
        assert_eq!(config.files, [b"f".to_vec()], "{line}");
    }
    assert_eq!(get_config("xfer get -- --a=b -pfoo help").files, [&b"--a=b"[..], b"-pfoo", b"help"]);
    assert_eq!(get_config("xfer get help").files, [b"help"]);
}

#[test]
fn hosts_and_ports() {
    let cases = [
        ("h", "h", None),
        ("h:1", "h", Some(1)),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", Some(65535)),
    ];
    for (text, host, port) in cases {
        let config = parse(vec!["xfer".into(), "get".into(), "f".into(), "-H".into(), text.into()]);
        let Ok(Command::Get(config)) = config else { panic!("{text}: {config:?}") };
        assert_eq!((config.host.as_str(), config.port), (host, port.unwrap_or(9999)), "{text}");
    }
    for bad in ["", ":1", "h:", "h:0", "h:65536", "h:+1", "[::1", "[::1]x", "a b", "h/x"] {
        let error = parse(vec!["xfer".into(), "get".into(), "f".into(), "-H".into(), bad.into()]).expect_err(bad);
        assert_eq!(error.exit, ExitCode::Usage);
    }
}

/// The word behind an option that takes one is its value, as with getopt_long(3).
#[test]
fn a_value_is_never_taken_for_an_option() {
    for value in ["-pool", "--x=y", "--version", "--help", "-h", "--", "-", "help", "-p", "=x", "--no-log"] {
        for options in [&["-o"][..], &["--output"], &["-qo"]] {
            let mut argv: Vec<OsString> = vec!["xfer".into(), "get".into(), "a".into()];
            argv.extend(options.iter().map(OsString::from));
            argv.push(value.into());
            let Ok(Command::Get(config)) = parse(argv) else { panic!("{options:?} {value}") };
            let expected = if value == "-" { Output::Stdout } else { Output::Path(value.into()) };
            assert_eq!((config.output, config.files), (expected, vec![b"a".to_vec()]), "{options:?} {value}");
        }
    }
    assert_eq!(get_config("xfer get a --output=--help").output, Output::Path("--help".into()));
    assert_eq!(get_config("xfer get a -o--help").output, Output::Path("--help".into()));
    assert_eq!(get_config("xfer get a -H -h -p 80").host, "-h");
}

#[test]
fn short_options_share_a_hyphen() {
    let config = get_config("xfer get a -vd DIR -p80");
    assert_eq!((config.verbosity, config.output), (Verbosity::Verbose, Output::Dir("DIR".into())));
    assert_eq!(config.port, 80);
    let config = get_config("xfer get a -vdDIR");
    assert_eq!((config.verbosity, config.output), (Verbosity::Verbose, Output::Dir("DIR".into())));
    assert!(matches!(parse(words("xfer get a -vh")), Ok(Command::Print { .. })));
}

/// So that what an alias says can be overridden.
#[test]
fn the_last_of_an_option_counts() {
    let config = get_config("xfer get a -d one -H x -p 1 --port=2 --dir two -H y -v -v");
    assert_eq!((config.host.as_str(), config.port), ("y", 2));
    assert_eq!(config.output, Output::Dir("two".into()));
}

#[test]
fn words_that_are_no_options_are_names() {
    assert_eq!(get_config("xfer get help - -q").files, [&b"help"[..], b"-"]);
    assert_eq!(get_config("xfer get -q -- -h --help -- -p").files, [&b"-h"[..], b"--help", b"--", b"-p"]);
}

/// What takes a value and what does not, says `--help` as the table does that tells them apart.
#[test]
fn the_table_of_options_is_that_of_the_help() {
    let help_of = |command: &str| match parse(words(&format!("xfer {command} --help"))) {
        Ok(Command::Print { text, .. }) => text,
        other => panic!("{other:?}"),
    };
    for (command, info) in [("get", GetArgs::get_args_info()), ("serve", ServeArgs::get_args_info())] {
        let help = help_of(command);
        let (usage, list) = help.split_once("Options:").expect("a list of options");
        for flag in info.flags.iter().filter(|flag| flag.long != "--help") {
            let first = flag.short.map_or(flag.long.to_string(), |short| format!("-{short}"));
            let shown = match flag.kind {
                FlagInfoKind::Switch => format!("[{first}]"),
                FlagInfoKind::Option { arg_name } if flag.optionality == Optionality::Repeating => {
                    format!("[{first} <{arg_name}...>]")
                }
                FlagInfoKind::Option { arg_name } => format!("[{first} <{arg_name}>]"),
            };
            assert!(usage.contains(&shown), "{shown} in {usage}");
        }
        let listed =
            list.lines().filter_map(|line| line.split_whitespace().take(2).find(|word| word.starts_with("--")));
        let mut listed: Vec<&str> = listed.filter(|word| *word != "--version").collect();
        let mut table: Vec<&str> = info.flags.iter().map(|flag| flag.long).collect();
        listed.sort_unstable();
        table.sort_unstable();
        assert_eq!(listed, table, "{list}");
    }
}

#[test]
fn addresses_to_listen_on() {
    let address = |ip: &str, zone: Option<&str>| Bind::Address {
        ip: ip.parse().expect("an address"),
        zone: zone.map(String::from),
    };
    let cases = [
        ("127.0.0.1", address("127.0.0.1", None)),
        ("::", address("::", None)),
        ("[::1]", address("::1", None)),
        ("fe80::1%eth0", address("fe80::1", Some("eth0"))),
        ("[fe80::1%2]", address("fe80::1", Some("2"))),
        ("localhost", Bind::Localhost),
        ("LOCALHOST", Bind::Localhost),
    ];
    for (text, bind) in cases {
        assert_eq!(parse_bind(text), Ok(bind), "{text}");
    }
    for bad in ["", "nas", "[::1", "::1]", "fe80::1%", "127.0.0.1%eth0", "127.0.0.1:9999", "%eth0"] {
        assert!(parse_bind(bad).is_err_and(|message| message.starts_with("bad address ")), "{bad}");
    }
}

#[test]
fn arguments_that_are_not_utf8_pass_through_argh() {
    let name = OsString::from_vec(b"a\xff\xf4\x8f\xbc\x80b\xc3".to_vec());
    assert_eq!(decode(&encode(&name)), name);
    match parse(vec!["xfer".into(), "get".into(), name.clone()]) {
        Ok(Command::Get(config)) => assert_eq!(config.files, [name.into_vec()]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn usage_errors_say_what_to_type() {
    let cases = [
        ("xfer", "no command"),
        ("xfer put", "unknown command 'put'"),
        ("xfer get", "no file named"),
        ("xfer get f -p 70000", "-p: bad port '70000': give"),
        ("xfer get f -p", "-p needs a value: -p PORT; see xfer get --help"),
        ("xfer get f -vp", "-p needs a value: -p PORT; see xfer get --help"),
        ("xfer get f --port", "--port needs a value: --port PORT"),
        ("xfer get f -p 0", "bad port '0'"),
        ("xfer get f -H [fe80::1]:80", "fe80::1 needs the interface that leads there: fe80::1%eth0"),
        ("xfer get f --no-sync=false", "--no-sync takes no value; see xfer get --help"),
        ("xfer get f --no-sync=", "--no-sync takes no value"),
        ("xfer get f --help=x", "--help takes no value"),
        ("xfer get f --version=", "--version takes no value"),
        ("xfer get f -q=1", "-q takes no value"),
        ("xfer get f -p=9999", "-p takes its value without =: type -p PORT or --port=PORT"),
        ("xfer get f -d=out", "-d takes its value without =: type -d DIR or --dir=DIR"),
        ("xfer get f -qx", "unknown option '-x' in '-qx'"),
        ("xfer get f -verb", "unknown option '-e' in '-verb' (did you mean --verbose?)"),
        ("xfer get f -host nas", "unknown option '-host' (did you mean --host?)"),
        ("xfer get f -dir out", "unknown option '-dir' (did you mean --dir?)"),
        ("xfer serve -bind ::1", "unknown option '-bind' (did you mean --bind?)"),
        ("xfer get f --retr 3", "unknown option '--retr' (did you mean --retries?)"),
        ("xfer get f --=x", "unknown option '--'"),
        ("xfer get f --port=", "--port: bad port ''"),
        ("xfer get f --dir=", "-d '' names no directory"),
        ("xfer get f --output=", "-o '' names no file"),
        ("xfer get f --host=", "bad host ''"),
        ("xfer get f --log-dir=", "--log-dir '' names no directory; to write no log: --no-log"),
        ("xfer serve --log-file=", "--log-file '' names no file; to write no log: --no-log"),
        ("xfer get --from-file=", "--from-file '' names no file"),
        ("xfer get f -0", "-0 says how --from-file"),
        ("xfer serve ", "'' names no directory"),
        ("xfer get f -p \u{feff}80", "-p: bad port '\\u{feff}80': give"),
        ("xfer get f -p x':\u{a0}bad", "-p: bad port 'x\\':\\u{a0}bad': give"),
        ("xfer get f --timeout 0", "bad time '0'"),
        ("xfer get f --timeout nan", "bad time 'nan'"),
        ("xfer get f --frob", "unknown option '--frob' (put -- before a name"),
        ("xfer get f 10.0.0.5", "did you mean -H?"),
        ("xfer get f g nas:8080", "did you mean -H? Type: xfer get f g -H nas:8080"),
        ("xfer serve --drain -1", "seconds from 0"),
        ("xfer get f 8080", "did you mean -p?"),
        ("xfer get a b -o x", "-o takes one FILE"),
        ("xfer get a -o new/", "use -d"),
        ("xfer get a -o x -d y", "-o and -d"),
        ("xfer get a -q -v", "-q and -v"),
        ("xfer get a -H h:1 -p 2", "two ports"),
        ("xfer serve 8080", "did you mean -p?"),
        ("xfer serve --log-file a --no-log", "--log-file and --no-log"),
    ];
    for (line, expected) in cases {
        let error = parse(words(line)).expect_err(line);
        assert_eq!(error.exit, ExitCode::Usage, "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in [
        "xfer -h",
        "xfer --help",
        "xfer --version",
        "xfer get -h",
        "xfer help get",
        "xfer serve --help",
        "xfer get --version",
    ] {
        assert!(matches!(parse(words(line)), Ok(Command::Print { .. })), "{line}");
    }
}
