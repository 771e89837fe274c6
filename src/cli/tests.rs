//! Command lines and what they mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use argh::{ArgsInfo, FlagInfoKind};

use super::argv::{decode, encode};
use super::get::{self, GetArgs};
use super::paste::Server;
use super::serve::{self, ServeArgs};
use super::url::{self, Url};
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
        ("xfer get f --retr 3", "unknown option '--retr'; did you mean --retries?"),
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
        ("xfer serve --drain -1", "seconds from 0"),
        ("xfer get a b -o x", "-o saves one file, but 2 are named; use -d DIR"),
        ("xfer get a -o new/", "use -d"),
        ("xfer get a -o x -d y", "-o and -d"),
        ("xfer get a -q -v", "-q and -v cannot be combined; use one of them"),
        ("xfer get a -H h:1 -p 2", "-H says port 1, but -p says 2; give one of them"),
        ("xfer serve 8080", "type: xfer serve -p 8080"),
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

/// The whole message behind `xfer: `.
fn message(line: &str) -> String {
    let error = parse(words(line)).expect_err(line);
    assert_eq!(error.exit, ExitCode::Usage, "{line}");
    error.to_string()
}

#[test]
fn a_url_names_server_and_file() {
    let cases: [(&str, &str, u16, &[u8]); 12] = [
        ("xfer://nas/f", "nas", 9999, b"f"),
        ("XFER://NAS:80/a/b", "NAS", 80, b"a/b"),
        ("xfer://10.0.0.5/a%20b%25", "10.0.0.5", 9999, b"a b%"),
        ("xfer://[::1]:8080/f", "::1", 8080, b"f"),
        ("xfer://[fe80::1%25eth0]/f", "fe80::1%eth0", 9999, b"f"),
        ("xfer://[fe80::1%eth0]/f", "fe80::1%eth0", 9999, b"f"),
        ("xfer://nas/%ff%0A%2F%C3%A4", "nas", 9999, b"\xff\n/\xc3\xa4"),
        ("xfer://nas/ä +~:@", "nas", 9999, "ä +~:@".as_bytes()),
        ("xfer://nas//f", "nas", 9999, b"/f"),
        ("xfer://nas/a/", "nas", 9999, b"a/"),
        ("xfer://nas/%3f%23", "nas", 9999, b"?#"),
        ("xfer://nas/xfer://nas/f", "nas", 9999, b"xfer://nas/f"),
    ];
    for (text, host, port, name) in cases {
        let url = url::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url, Url { server: Server::new(host, Some(port)), name: name.to_vec() }, "{text}");
        let again = url::of(&url.server, &url.name);
        assert_eq!(url::parse(again.as_bytes()).ok(), Some(url), "{again}");
    }
}

#[test]
fn a_bad_url_says_why() {
    let cases = [
        ("xfer://", "it names no host"),
        ("xfer:///f", "it names no host"),
        ("xfer://nas", "it names no file; type: xfer get xfer://nas/FILE"),
        ("xfer://nas:80/", "it names no file; type: xfer get xfer://nas:80/FILE"),
        ("xfer://nas:/f", "bad port ''"),
        ("xfer://nas:0/f", "bad port '0': give a number from 1 to 65535"),
        ("xfer://nas:99999/f", "bad port '99999': give a number from 1 to 65535"),
        ("xfer://ann@nas/f", "xfer has no user names; type: xfer get xfer://nas/f"),
        ("xfer://ann:pw@nas", "xfer has no user names; type: xfer get xfer://nas/FILE"),
        ("xfer://nas/f?x", "an xfer URL has no query; in a name, write ? as %3F"),
        ("xfer://nas/f#x", "an xfer URL has no fragment; in a name, write # as %23"),
        ("xfer://nas?x", "an xfer URL has no query"),
        ("xfer://nas/a%zzb", "'%zz' is not % and two hexadecimal digits; write a percent sign as %25"),
        ("xfer://nas/100%", "'%' is not % and two"),
        ("xfer://nas/%0", "'%0' is not % and two"),
        ("xfer://nas/%00", "a name cannot have a NUL byte (%00)"),
        ("xfer://::1/f", "an IPv6 address needs brackets"),
        ("xfer://[::1/f", "the address in brackets is not closed"),
        ("xfer://[::1]x/f", "the address in brackets is not closed"),
        ("xfer://[nas]/f", "'nas' is not an IPv6 address"),
        ("xfer://[fe80::1%25]/f", "'fe80::1%25' is not an IPv6 address"),
        ("xfer://\u{200b}/f", "'\\u{200b}' is not a host name"),
    ];
    for (url, why) in cases {
        let message = message(&format!("xfer get {url}"));
        assert!(message.starts_with("bad URL ") && message.contains(why), "{url}: {message}");
    }
}

#[test]
fn urls_stand_alone_and_agree() {
    let config = get_config("xfer get xfer://nas:80/a xfer://NAS:80/b -H nas -p 80 c");
    assert_eq!((config.host.as_str(), config.port), ("nas", 80));
    assert_eq!(config.files, [b"a", b"b", b"c"]);
    for line in ["xfer get xfer://[0:0::1]/a xfer://[::1]:9999/b", "xfer get xfer://[::1]/a xfer://[::1]/b -H ::1"] {
        assert_eq!(get_config(line).files, [b"a", b"b"], "{line}");
    }
    let cases = [
        (
            "xfer get xfer://nas/a xfer://srv:80/b xfer://nas/c -d x",
            "the URLs name different servers, nas:9999 and srv:80, but one command fetches from one; \
             type: xfer get xfer://nas/a xfer://nas/c -d x; xfer get xfer://srv:80/b -d x",
        ),
        ("xfer get xfer://nas/a xfer://nas:80/b", "different servers, nas:9999 and nas:80"),
        ("xfer get xfer://nas/a b", "'b' names no server, but other names are URLs; type: xfer get a b -H nas:9999"),
        (
            "xfer get xfer://nas/a -H srv",
            "the URL names the server nas:9999, but -H says otherwise; \
             type: xfer get xfer://nas/a; or: xfer get a -H srv",
        ),
        ("xfer get xfer://nas/a -p 80", "but -p says otherwise; type: xfer get xfer://nas/a; or: xfer get a -H nas:80"),
        ("xfer get xfer://nas:80/a -H nas:81", "but -H says otherwise"),
        ("xfer get xfer://[fe80::1]/a", "the link-local address fe80::1 needs the interface"),
    ];
    for (line, expected) in cases {
        let message = message(line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

/// The command that is meant, for each habit; where words may be files, behind it the command for these.
#[test]
fn words_of_other_programs_are_answered_with_the_command() {
    let cases = [
        ("nas:f", "xfer get f -H nas"),
        ("nas:dir/f -d out -q", "xfer get dir/f -H nas -d out -q"),
        ("ann@nas:dir/f", "xfer get dir/f -H nas"),
        ("ann@nas:dir/", "xfer get dir/FILE -H nas"),
        ("ann@nas:", "xfer get FILE -H nas"),
        ("nas:", "xfer get FILE -H nas"),
        ("nas:/srv/f", "xfer get srv/f -H nas"),
        ("nas:9999/f", "xfer get f -H nas:9999"),
        ("nas:9999:f", "xfer get f -H nas:9999"),
        ("nas::module/f", "xfer get module/f -H nas"),
        ("nas:a nas:b", "xfer get a b -H nas"),
        ("nas:a srv:b", "xfer get a -H nas; xfer get b -H srv"),
        ("nas:a .", "xfer get a -H nas -d ."),
        ("nas:a /no/such/dir/", "xfer get a -H nas -d /no/such/dir/"),
        ("nas:a copy", "xfer get a -H nas -o copy"),
        ("nas:a nas:b dir", "xfer get a b -H nas -d dir"),
        ("nas:a b -d out", "xfer get b a -H nas -d out"),
        ("nas:-x", "xfer get -H nas -- -x"),
        ("[::1]:f", "xfer get f -H '[::1]'"),
        ("fe80::1%eth0:x.y", "xfer get x.y -H '[fe80::1%eth0]'"),
        ("c:f", "xfer get f -H c"),
        ("nas:it's", r"xfer get 'it'\''s' -H nas"),
        ("nas:\x1b", "xfer get xfer://nas/%1B"),
        ("nas:\x1b -p 80 -q", "xfer get xfer://nas:80/%1B -q"),
        ("http://nas:9999/f", "xfer get f -H nas:9999"),
        ("https://nas/a%20b?q=1", "xfer get 'a b' -H nas"),
        ("HTTP://ann:pw@nas/f#x", "xfer get f -H nas"),
        ("ftp://nas/f g", "xfer get f -H nas -o g"),
        ("sftp://nas/~/f", "xfer get '~/f' -H nas"),
        ("rsync://nas/module/f", "xfer get module/f -H nas"),
        ("http://nas/", "xfer get FILE -H nas"),
        ("http://nas", "xfer get FILE -H nas"),
        ("//nas/share/f", "xfer get share/f -H nas"),
        (r"\\nas\share\f", "xfer get share/f -H nas"),
        ("f nas 9999", "xfer get f -H nas:9999"),
        ("f 10.0.0.5 80", "xfer get f -H 10.0.0.5:80"),
        ("f ::1 80", "xfer get f -H '[::1]:80'"),
        ("f 10.0.0.5", "xfer get f -H 10.0.0.5"),
        ("f 10.0.0.5 -p 80", "xfer get f -H 10.0.0.5 -p 80"),
        ("127.0.0.1 f", "xfer get f -H 127.0.0.1"),
        ("f g localhost", "xfer get f g -H localhost"),
        ("f nas:9999", "xfer get f -H nas:9999"),
        ("nas:9999", "xfer get FILE -H nas:9999"),
        ("f ::1", "xfer get f -H '[::1]'"),
        ("f ::1:9999", "xfer get f -H '[::1]:9999'"),
        ("f 9999", "xfer get f -H localhost -p 9999"),
        ("a sub/b 9999", "xfer get a sub/b -H localhost -p 9999"),
    ];
    for (typed, right) in cases {
        let message = message(&format!("xfer get {typed}"));
        let (_, commands) = message.split_once("; type: ").unwrap_or_else(|| panic!("{typed}: {message}"));
        let shown = commands.split("; to fetch ").next().unwrap_or_default();
        assert_eq!(shown, right, "{typed}: {message}");
        let is_url = typed.contains("//") || typed.contains(r"\\");
        assert_eq!(commands.contains(" from localhost, type: xfer get "), !is_url, "{typed}: {message}");
    }
}

/// What may well be a file, and, with a server of its own, every word.
#[test]
fn words_that_may_be_files_are_files() {
    for line in [
        "xfer get nas f",
        "xfer get a b c 9999",
        "xfer get 8080",
        "xfer get a b 9999 -p 80",
        "xfer get dir/a:b ./a:b",
        "xfer get 10.0.0.5/f",
        "xfer get help",
        "xfer get version",
        "xfer get host.example.org",
        "xfer get :f",
        "xfer get -H nas backup-20:10.tar 10.0.0.5 9999 localhost http://nas/f C:/x",
    ] {
        assert!(get_config(line).files.len() <= 6, "{line}");
    }
    assert!(message(r"xfer get C:\x\y").contains("looks like a path on Windows"));
    assert!(message("xfer get c:/x").contains("looks like a path on Windows"));
    let name = OsString::from_vec(b"nas:\xff".to_vec());
    let error = parse(vec!["xfer".into(), "get".into(), name]).expect_err("a host is meant");
    assert!(error.to_string().contains("; type: xfer get xfer://nas/%FF; to fetch"), "{error}");
}

#[test]
fn a_bad_host_is_answered_with_the_command() {
    let cases = [
        (
            "-H ::1:9999 f",
            "it is unclear whether 9999 is the port; type: xfer get f -H '[::1]:9999'; or: xfer get f -H '[::1:9999]'",
        ),
        ("-H ::1:19999 f", "an IPv6 address with a port needs brackets; type: xfer get f -H '[::1]:19999'"),
        ("-H nas/ f", "it contains '/'; type: xfer get f -H nas"),
        ("-H //nas f -q", "it contains '/'; type: xfer get f -H nas -q"),
        ("-H nas:dir/x f", "it contains '/'; type: xfer get f -H nas"),
        ("-H nas: f", "no port follows ':'; type: xfer get f -H nas"),
        ("-H ann@nas f", "xfer has no user names; type: xfer get f -H nas"),
        ("-H xfer://nas:9999 f", "it is a URL; type: xfer get f -H nas:9999"),
        ("-H http://nas:80/ f g", "it is a URL; type: xfer get f g -H nas:80"),
        ("-H xfer://nas/a%20b", "it is a URL; type: xfer get 'a b' -H nas"),
        ("-H http://nas --from-file /dev/null", "it is a URL; type: xfer get -H nas --from-file /dev/null"),
        ("-H nas:80:90 f", "give a name or an address, such as nas, nas:9999, "),
        ("-H nas:99999 f", "-H 'nas:99999': bad port '99999': give a number from 1 to 65535"),
        ("-H nas:x f", "-H 'nas:x': bad port 'x': give a number from 1 to 65535"),
        ("-p nas f", "-p: bad port 'nas': give a number from 1 to 65535; for a host, use -H 'nas'"),
        ("-p nas:80 f", "; for a host and a port, use -H 'nas:80'"),
    ];
    for (typed, expected) in cases {
        let message = message(&format!("xfer get {typed}"));
        assert!(message.contains(expected), "{typed}: {message}");
    }
    // Such an address is none with a port that needs no privileges.
    assert_eq!(get_config("xfer get f -H fd00::1:2").host, "fd00::1:2");
}

#[test]
fn options_and_commands_of_other_programs_are_answered() {
    let cases = [
        ("get f --hots nas", "unknown option '--hots'; did you mean --host?"),
        ("get f --no-slumber", "'--no-slumber'; see xfer get --help"),
        ("get f --no-clober", "'--no-clober'; did you mean --no-clobber?"),
        ("serve --hiden", "'--hiden'; did you mean --hidden?"),
        ("serve --max-con 3", "'--max-con'; did you mean --max-conns?"),
        ("get f --versoin", "did you mean --version?"),
        ("get f --bind x", "--bind is an option of xfer serve"),
        ("get f -b x", "--bind is an option of xfer serve"),
        ("serve --retries=3", "--retries is an option of xfer get"),
        ("get f -O x", "use -o PATH"),
        ("get f -c", "run the same command again"),
        ("get f --continue", "run the same command again"),
        ("get f --resume", "run the same command again"),
        ("get f -P 9999", "the port is -p PORT; the directory to save in is -d DIR"),
        ("get f --output-dir=x", "use -d DIR"),
        ("get f -r", "xfer fetches files, not directories"),
        ("get f -avz", "unknown option '-a' in '-avz'; xfer fetches files, not directories"),
        ("get f --bwlimit=3", "xfer cannot limit its speed"),
        ("get f --limit-rate 3", "xfer cannot limit its speed"),
        ("serve -d x", "xfer serve DIR"),
        ("serve -H 0.0.0.0", "use -b ADDR"),
        ("serve a 9999", "unexpected argument '9999': xfer serve takes one DIR; for a port, use -p 9999"),
        ("serve a b", "unexpected argument 'b': xfer serve takes one DIR"),
        ("serve -b 127.0.0.1:80", "or localhost; for an address and a port: -b 127.0.0.1 -p 80"),
        ("send f nas", "xfer does not upload"),
        ("push", "xfer does not upload"),
        ("ls", "xfer does not list directories"),
        ("fetch f -H nas", "unknown command 'fetch'; type: xfer get f -H nas"),
        ("download", "unknown command 'download'; type: xfer get FILE -H HOST"),
        ("client it's", r"type: xfer get 'it'\''s'"),
        ("server /srv -p 80", "unknown command 'server'; type: xfer serve /srv -p 80"),
        ("gte f", "unknown command 'gte'; did you mean get? Type: xfer get f"),
        ("Serve", "did you mean serve? Type: xfer serve"),
        ("helpp", "did you mean help? Type: xfer help"),
        ("frobnicate", "unknown command 'frobnicate'; use serve or get; see xfer --help"),
        ("xfer://nas/f -q", "no command given; type: xfer get xfer://nas/f -q"),
        ("-p 80 get f", "options follow the command; type: xfer get -p 80 f"),
        ("-q", "unknown option '-q'; use xfer serve or xfer get"),
        ("help put", "no help for 'put'; type: xfer help get, or: xfer help serve"),
    ];
    for (line, expected) in cases {
        let message = message(&format!("xfer {line}"));
        assert!(message.contains(expected) && !message.contains('\n'), "{line}: {message}");
    }
}

/// The words of a line as a POSIX shell splits it, as far as messages quote; each command ends at `; `.
fn shell_commands(line: &str) -> Vec<Vec<OsString>> {
    let (mut commands, mut word, mut in_quotes) = (vec![vec![]], String::new(), false);
    let mut chars = line.chars().chain([' ']);
    while let Some(c) = chars.next() {
        match c {
            '\'' => in_quotes = !in_quotes,
            '\\' if !in_quotes => word.extend(chars.next()),
            ' ' if !in_quotes => {
                let ends = word.ends_with(';');
                let word = std::mem::take(&mut word);
                let command = commands.last_mut().expect("there is always one");
                // An empty word in quotes does not occur: no name is empty.
                if !word.is_empty() {
                    command.push(word.trim_end_matches(';').into());
                }
                if ends {
                    commands.push(vec![]);
                }
            }
            c => word.push(c),
        }
    }
    commands.retain(|command: &Vec<OsString>| command.first().is_some_and(|word| word == "xfer"));
    commands
}

/// What words are made of in the test below.
const PIECES: [&str; 42] = [
    "nas",
    "f",
    "a b",
    ":",
    "::",
    "/",
    "//",
    "@",
    "http://",
    "xfer://",
    "XFER://",
    "%20",
    "%zz",
    "%00",
    "?",
    "#",
    "[",
    "]",
    "::1",
    "10.0.0.5",
    "localhost",
    "9999",
    "80",
    "0",
    "fe80::1",
    "%25eth0",
    "C:\\",
    "\\",
    "-",
    "--",
    "'",
    "\"",
    "$",
    "*",
    "\n",
    "\x1b",
    "\u{200b}",
    "ä",
    "=",
    "~",
    ".",
    "..",
];

const OPTIONS: [&str; 11] =
    ["-H", "-p", "-d", "-o", "--", "-q", "--host=", "--hsot", "-c", "--no-sync", "--from-file=/dev/null"];

fn random_line(random: &mut fastrand::Rng) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["xfer".into(), "get".into()];
    for _ in 0..random.usize(1..5) {
        let mut word = Vec::new();
        (0..random.usize(1..5)).for_each(|_| word.extend(PIECES[random.usize(0..PIECES.len())].bytes()));
        if random.u8(0..20) == 0 {
            word.push(0xff);
        }
        if random.u8(0..4) == 0 {
            argv.push(OPTIONS[random.usize(0..OPTIONS.len())].into());
        }
        argv.push(OsString::from_vec(word));
    }
    argv
}

/// Whatever is typed: no message breaks its line, and each command that one shows is a command that xfer takes.
#[test]
fn commands_in_messages_are_taken() {
    let mut random = fastrand::Rng::with_seed(15);
    let mut shown = 0;
    for _ in 0..30_000 {
        let argv = random_line(&mut random);
        let Err(error) = parse(argv.clone()) else { continue };
        let message = error.to_string();
        assert!(!message.contains(char::is_control) && !message.contains('\u{200b}'), "{argv:?}: {message:?}");
        let Some((_, line)) = message.split_once("; type: ") else { continue };
        let line = line.replace("; to fetch a file of this name from localhost, type: ", "; ");
        let line = line.replace("; to fetch files of these names from localhost, type: ", "; ").replace("; or: ", "; ");
        // The tests of the real program have such values, and a real shell.
        for command in shell_commands(&line).into_iter().filter(|_| !line.contains("$(printf")) {
            shown += 1;
            match parse(command.clone()) {
                Ok(Command::Get(_)) => {}
                // What was wrong besides: the next message is about that, and not about the host again.
                Err(next) if !next.to_string().contains("; type: ") => {}
                other => panic!("{argv:?}: {message}: {command:?}: {other:?}"),
            }
        }
    }
    assert!(shown > 5_000, "{shown}");
}
