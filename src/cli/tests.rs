//! Command lines and what they mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::argv::{decode, encode};
use super::values::{parse_bind, split_host};
use super::{Command, parse};
use crate::error::ExitCode;
use crate::get::GetConfig;
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
        assert_eq!(split_host(text).expect(text), (host.to_string(), port));
    }
    for bad in ["", ":1", "h:", "h:65536", "h:+1", "[::1", "[::1]x", "a b", "h/x"] {
        assert_eq!(split_host(bad).expect_err(bad).exit, ExitCode::Usage);
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
        ("xfer get f -p", "no value provided for option '-p';"),
        ("xfer get f -p 0", "bad port '0'"),
        ("xfer get f --timeout 0", "bad time '0'"),
        ("xfer get f --timeout nan", "bad time 'nan'"),
        ("xfer get f --frob", "unrecognized argument: --frob"),
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
    for line in ["xfer -h", "xfer --help", "xfer --version", "xfer get -h", "xfer serve --help", "xfer get --version"] {
        assert!(matches!(parse(words(line)), Ok(Command::Print { .. })), "{line}");
    }
}
