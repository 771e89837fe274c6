//! Command lines and what they mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use argh::{ArgsInfo, FlagInfoKind};

use super::get::{self, GetArgs};
use super::serve::{self, ServeArgs};
use super::values::parse_bind;
use super::words::{decode, encode};
use super::{Command, parse};
use crate::error::ExitCode;
use crate::get::{GetConfig, Output};
use crate::logging::Verbosity;
use crate::serve::Bind;

pub fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

pub fn get_config(line: &str) -> GetConfig {
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
    for bad in [
        "",
        ":1",
        "h:",
        "h:0",
        "h:65536",
        "h:+1",
        "[::1",
        "[::1]x",
        "a b",
        "h/x",
        "//h",
        "h:80:90",
        "a@h",
        "xfer://h",
        "::1:9999",
        "::1:19999",
        "h\u{200b}",
    ] {
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

fn help_of(command: &str) -> String {
    match parse(words(format!("xfer {command} --help").replace("  ", " ").as_str())) {
        Ok(Command::Print { text, .. }) => text,
        other => panic!("{other:?}"),
    }
}

/// Each option of the declaration is in one group of the help, and each entry of a group is of the declaration.
#[test]
fn the_help_has_every_option_once() {
    for (page, info) in [(get::PAGE, GetArgs::get_args_info()), (serve::PAGE, ServeArgs::get_args_info())] {
        let mut grouped: Vec<&str> = page.groups.iter().flat_map(|(_, names)| *names).copied().collect();
        let positionals = info.positionals.iter().map(|positional| positional.name);
        let mut declared: Vec<&str> = info.flags.iter().map(|flag| flag.long).chain(positionals).collect();
        declared.push("--version");
        grouped.sort_unstable();
        declared.sort_unstable();
        assert_eq!(grouped, declared, "{}", page.command);

        let help = help_of(page.command);
        assert!(help.starts_with("Usage: xfer ") && help.contains("\nExamples:\n  xfer "), "{help}");
        let flat = help.split_whitespace().collect::<Vec<&str>>().join(" ");
        for flag in info.flags.iter().filter(|flag| flag.long != "--help") {
            let value = match flag.kind {
                FlagInfoKind::Switch => String::new(),
                FlagInfoKind::Option { arg_name } => format!(" {arg_name}"),
            };
            let short = flag.short.map_or(String::new(), |short| format!("-{short}, "));
            let entry = format!("{short}{}{value} {}", flag.long, flag.description);
            assert!(flat.contains(&entry), "{entry:?} in {help}");
        }
    }
}

#[test]
fn help_fits_a_terminal_of_eighty_columns() {
    for help in [help_of("get"), help_of("serve"), help_of("")] {
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 79).collect();
        assert!(wide.is_empty() && help.is_ascii(), "{wide:?} in {help}");
    }
}

/// The option lists of the manual have what the declaration has, with the same names of values.
#[test]
fn the_manual_has_every_option() {
    let pages = [
        (GetArgs::get_args_info(), include_str!("../../man/xfer-get.1")),
        (ServeArgs::get_args_info(), include_str!("../../man/xfer-serve.8")),
    ];
    for (info, page) in pages {
        let (synopsis, list) = page.split_once("\n.Sh DESCRIPTION\n").expect("a description");
        let mut listed: Vec<&str> = list.lines().filter(|line| line.starts_with(".It Fl ")).collect();
        for flag in info.flags {
            let long = flag.long.replacen("--", "Fl -", 1);
            let value = match flag.kind {
                FlagInfoKind::Option { arg_name: "HOST[:PORT]" } => " Ar HOST".to_string(),
                FlagInfoKind::Option { arg_name: "WHEN" } => " Cm auto".to_string(),
                FlagInfoKind::Option { arg_name: "DIGEST" } => " Cm md5".to_string(),
                FlagInfoKind::Option { arg_name } => format!(" Ar {arg_name}"),
                FlagInfoKind::Switch => String::new(),
            };
            let short = flag.short.map_or(String::new(), |short| format!("Fl {short}{value} "));
            let at = listed.iter().position(|line| {
                let line = line.replace(" Ns Oo : Ns Ar PORT Oc", "").replace("Fl h ,", ",");
                line.contains(&format!("{long}{value}")) && (short.is_empty() || line.contains(&short))
            });
            let at = at.unwrap_or_else(|| panic!("{long}{value} in the list of options: {listed:#?}"));
            listed.remove(at);
            let in_synopsis = flag.short.map_or(format!("{long}{value}"), |short| format!("Fl {short}{value}"));
            assert!(flag.long == "--help" || synopsis.contains(&in_synopsis), "{in_synopsis} in {synopsis}");
        }
        assert!(listed.iter().all(|line| line.contains("-version")), "options that do not exist: {listed:?}");
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
        ("xfer put", "unknown command 'put': xfer does not upload; run 'xfer serve DIR'"),
        ("xfer get", "no file named"),
        ("xfer get f -p 70000", "-p: bad port '70000': give"),
        ("xfer get f -p", "-p needs a value: -p PORT; see xfer get --help"),
        ("xfer get f -vp", "-p needs a value: -p PORT; see xfer get --help"),
        ("xfer get f --port", "--port needs a value: --port PORT"),
        ("xfer get f -p 0", "bad port '0'"),
        (
            "xfer get f -H [fe80::1]:80",
            "the link-local address fe80::1 needs the interface that leads to it, for example fe80::1%eth0",
        ),
        ("xfer get f --no-sync=false", "--no-sync takes no value; see xfer get --help"),
        ("xfer get f --no-sync=", "--no-sync takes no value"),
        ("xfer get f --help=x", "--help takes no value"),
        ("xfer get f --version=", "--version takes no value"),
        ("xfer get f -q=1", "-q takes no value"),
        ("xfer get f -p=9999", "-p takes its value without '=': -p PORT, or --port=PORT"),
        ("xfer get f -d=out", "-d takes its value without '=': -d DIR, or --dir=DIR"),
        ("xfer get f -qx", "unknown option '-x' in '-qx'"),
        ("xfer get f -verb", "unknown option '-e' in '-verb'; did you mean --verbose?"),
        ("xfer get f -host nas", "unknown option '-host'; did you mean --host?"),
        ("xfer get f -dir out", "unknown option '-dir'; did you mean --dir?"),
        ("xfer serve -bind ::1", "unknown option '-bind'; did you mean --bind?"),
        ("xfer get f --retr 3", "unknown option '--retr'; did you mean --retries? Type: xfer get f --retries 3"),
        ("xfer get f --=x", "unknown option '--'"),
        ("xfer get f --port=", "--port: bad port ''"),
        ("xfer get f --dir=", "-d '' names no directory"),
        ("xfer get f --output=", "-o '' names no file"),
        ("xfer get f --host=", "bad host ''"),
        ("xfer get f --log-dir=", "--log-dir '' names no directory; to write no log, use --no-log"),
        ("xfer serve --log-file=", "--log-file '' names no file; to write no log, use --no-log"),
        ("xfer get --from-file=", "--from-file '' names no file"),
        ("xfer get f -0", "-0 works only with --from-file LIST"),
        ("xfer serve ", "'' names no directory"),
        ("xfer get f -p \u{feff}80", "-p: bad port '\\u{feff}80': give"),
        ("xfer get f -p x':\u{a0}bad", "-p: bad port 'x\\':\\u{a0}bad': give"),
        ("xfer get f --timeout 0", "bad time '0'"),
        ("xfer get f --timeout nan", "bad time 'nan'"),
        (
            "xfer get f --frob",
            "unknown option '--frob'; see xfer get --help; for a file of this name: xfer get -- --frob",
        ),
        ("xfer serve --drain -1", "give a number of seconds, 0 or more, for"),
        (
            "xfer get a b -o x",
            "-o saves one file, but 2 are named; to save into a directory, use -d DIR; type: xfer get a b -d x",
        ),
        ("xfer get a -o new/", "use -d"),
        ("xfer get a -o x -d y", "-o and -d"),
        ("xfer get a -q -v", "-q and -v cannot be combined; use one of them"),
        ("xfer get a -H h:1 -p 2", "-H says port 1, but -p says 2; use one of them"),
        ("xfer serve 8080", "type: xfer serve . -p 8080"),
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
        "xfer help serve",
        "xfer help",
        "xfer help help",
        "xfer help version",
        "xfer version",
        "xfer -V",
        "xfer get -V",
        "xfer serve -qV",
        "xfer serve --help",
        "xfer get --version",
    ] {
        assert!(matches!(parse(words(line)), Ok(Command::Print { .. })), "{line}");
    }
}
