//! What the command line answers to words that are not meant as they are typed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::host::Server;
use super::tests::{get_config, words};
use super::url::{self, Url};
use super::{Command, parse};
use crate::error::ExitCode;

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
        let port = Some(port).filter(|port| *port != 9999);
        assert_eq!(url, Url { server: Server::new(host, port), name: name.to_vec() }, "{text}");
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
    // A port that is typed is that of a URL without one.
    for line in [
        "xfer get xfer://nas/a -p 80",
        "xfer get xfer://nas/a -H nas:80",
        "xfer get xfer://nas/a xfer://NAS:80/b -p 80",
        "xfer get xfer://nas/a -H nas:81 -p 80",
    ] {
        let config = get_config(line);
        assert_eq!((config.host.as_str(), config.port), ("nas", 80), "{line}");
    }
    let cases = [
        (
            "xfer get xfer://nas/a xfer://srv:80/b xfer://nas/c -d x",
            "the URLs name different servers (nas:9999, srv:80), and each needs a command of its own; for nas:9999, \
             type: xfer get xfer://nas/a xfer://nas/c -d x",
        ),
        ("xfer get xfer://nas/a xfer://nas:80/b", "different servers (nas:9999, nas:80), and"),
        ("xfer get xfer://nas/a b", "'b' is not a URL, but other names are; type: xfer get a b -H nas:9999"),
        (
            "xfer get xfer://nas/a -H srv",
            "the URL names the server nas:9999, but -H says srv; to fetch from nas:9999, type: xfer get xfer://nas/a",
        ),
        ("xfer get xfer://nas:81/a -p 80", "but -p says 80; to fetch from nas:81, type: xfer get xfer://nas:81/a"),
        ("xfer get xfer://nas:80/a -H nas:81", "but -H says nas:81; "),
        ("xfer get xfer://[fe80::1]/a", "the link-local address fe80::1 needs the interface"),
    ];
    for (line, expected) in cases {
        let message = message(line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

/// The command that is meant, for each habit: the end of the line, so that it can be copied.
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
        ("nas:a srv:b", "xfer get a -H nas"),
        ("nas:a nas:b -o x", "xfer get a b -H nas -d x"),
        ("localhost:1/f -o od/", "xfer get f -H localhost:1 -d od/"),
        ("nas:a -o /", "xfer get a -H nas -d /"),
        ("nas:*", "xfer get '*' -H nas"),
        ("nas:~/f", "xfer get f -H nas"),
        ("10.0.0.5/f", "xfer get f -H 10.0.0.5"),
        ("localhost/dir/f -q", "xfer get dir/f -H localhost -q"),
        ("[::1]/", "xfer get FILE -H '[::1]'"),
        ("10.0.0.5/f .", "xfer get f -H 10.0.0.5 -d ."),
        ("ann@nas f", "xfer get f -H nas"),
        ("f ann@10.0.0.5 -q", "xfer get f -H 10.0.0.5 -q"),
        ("xfer:/nas/f", "xfer get f -H nas"),
        ("XFER:nas:80/f -q", "xfer get f -H nas:80 -q"),
        ("xfer:nas", "xfer get FILE -H nas"),
        ("https:/nas/f", "xfer get f -H nas"),
        ("-- -n.txt -H nas:80", "xfer get -H nas:80 -- -n.txt"),
        ("-q -- f -d out --host nas", "xfer get f -q -d out --host nas"),
        ("-- -H nas", "xfer get FILE -H nas"),
        ("help", "xfer help get"),
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
        ("https://nas/a%20b?q=%31", "xfer get 'a b?q=%31' -H nas"),
        ("HTTP://ann:pw@nas/f#x", "xfer get f -H nas"),
        ("ftp://nas/f g", "xfer get f -H nas -o g"),
        ("sftp://nas/~/f", "xfer get f -H nas"),
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
        ("f nas:dir/x 9999", "xfer get f 9999 dir/x -H nas"),
        ("a sub/b 9999", "xfer get a sub/b -H localhost -p 9999"),
    ];
    for (typed, right) in cases {
        let message = message(&format!("xfer get {typed}"));
        let (what, shown) = message.split_once(" type: ").unwrap_or_else(|| panic!("{typed}: {message}"));
        assert_eq!(shown, right, "{typed}: {message}");
        let is_url = typed.contains("//") || typed.contains(r"\\") || typed.contains("-- ");
        assert_eq!(what.contains(" on localhost, add -H localhost)"), !is_url, "{typed}: {message}");
    }
}

#[test]
fn an_answer_says_what_the_command_does_not_show() {
    let cases = [
        (
            "nas:dir/f",
            "'nas:dir/f' looks like HOST:NAME; the host goes after -H (for a file of this name on localhost, add -H \
             localhost); type: xfer get dir/f -H nas",
        ),
        (
            "nas:a srv:b",
            "; the names are on different servers (nas, srv), and each needs a command of its own; for nas, type: ",
        ),
        ("nas:*", "; xfer does not expand wildcards; type: "),
        ("nas:~/f", "; NAME is relative to the directory that the server shares; type: "),
        ("nas:/f", "; NAME is relative to the directory that the server shares; type: "),
        ("nas:d/", "; xfer fetches files, not directories; type: "),
        ("http://nas/a?b=c", "; '?' and what follows are a part of NAME; type: xfer get 'a?b=c' -H nas"),
        ("10.0.0.5/f", "'10.0.0.5/f' looks like HOST/NAME; the host goes after -H (for a file "),
        ("ann@nas f", "'ann@nas' looks like USER@HOST, and xfer has no user names; the host goes after -H (for files "),
        ("xfer:/nas/f", "'xfer:/nas/f' is not an xfer URL, which begins with xfer://; the host goes after -H "),
        ("-- f -H nas", "options come before --, and '-H' comes after it; type: xfer get f -H nas"),
        (
            "help",
            "'help' looks like a request for help (for a file of this name on localhost, add -H localhost); type: ",
        ),
    ];
    for (typed, expected) in cases {
        let message = message(&format!("xfer get {typed}"));
        assert!(message.contains(expected), "{typed}: {message}");
    }
}

#[test]
fn a_forgotten_value_is_named() {
    let cases = [
        ("get f -o -H localhost:1", "-o took -H as its value; after -o, give PATH (a path that begins with '-': ./-H)"),
        ("get f -d --host nas", "-d took --host as its value; after -d, give DIR"),
        ("get -H hello.txt", "no file named: 'hello.txt' is the host; type: xfer get FILE -H hello.txt"),
        ("get --host a -q", "no file named: 'a' is the host; type: xfer get FILE --host a -q"),
        ("get f -p 0", "-p: bad port '0': give a number from 1 to 65535"),
        ("get f -H nas:0", "-H 'nas:0': bad port '0': give a number from 1 to 65535"),
        (
            "get f -o od/ -H nas",
            "-o 'od/' is a directory; to save into a directory, use -d DIR; type: xfer get f -d od/ -H nas",
        ),
        ("get xfer://nas/f -o /", "type: xfer get xfer://nas/f -d /"),
        (
            "get a b -o x -H nas",
            "but 2 are named; to save into a directory, use -d DIR; type: xfer get a b -d x -H nas",
        ),
    ];
    for (line, expected) in cases {
        let message = message(&format!("xfer {line}"));
        assert!(message.contains(expected), "{line}: {message}");
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
        "xfer get nas.example.com/f",
        "xfer get icon@2x.png f",
        "xfer get ann@nas",
        "xfer get -q -- -h --help -- -p",
        "xfer get help -q",
        "xfer get help a",
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
    assert!(error.to_string().ends_with("; type: xfer get xfer://nas/%FF"), "{error}");
}

#[test]
fn a_bad_host_is_answered_with_the_command() {
    let cases = [
        (
            "-H ::1:9999 f",
            "it is unclear whether 9999 is the port; for the address alone, use -H '[::1:9999]'; for both, type: xfer get f \
             -H '[::1]:9999'",
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

/// What people type, and what is in the answer.
const OTHER_PROGRAMS: &[(&str, &str)] = &[
    ("get f --hots nas", "unknown option '--hots'; did you mean --host? Type: xfer get f --host nas"),
    ("get nas:f --hots=srv", "did you mean --host? Type: xfer get nas:f --host srv"),
    ("get nas:f --no-clober", "did you mean --no-clobber? Type: xfer get f -H nas --no-clobber"),
    ("get f --retry 3 -q", "use --retries N; type: xfer get f --retries 3 -q"),
    ("get --list -H nas", "xfer does not list directories"),
    ("get -l -H nas", "xfer does not list directories"),
    ("get f -L -H nas", "xfer has no redirects; no option is needed; type: xfer get f -H nas"),
    ("get -n.txt -H nas", "before a file name that begins with '-', write ./; type: xfer get ./-n.txt -H nas"),
    ("get f -P out", "type: xfer get f -d out"),
    ("get -O f -H nas", "use -o PATH; type: xfer get f -H nas"),
    ("get f --hiden", "unknown option '--hiden'; --hidden is an option of xfer serve"),
    ("get f --no-slumber", "'--no-slumber'; see xfer get --help"),
    ("get f --no-clober", "'--no-clober'; did you mean --no-clobber?"),
    ("serve --hiden", "'--hiden'; did you mean --hidden?"),
    ("serve --max-con 3", "'--max-con'; did you mean --max-conns?"),
    ("get f --versoin", "did you mean --version?"),
    ("get f --bind x", "--bind is an option of xfer serve"),
    ("get f -b x", "--bind is an option of xfer serve"),
    ("serve --retries=3", "--retries is an option of xfer get"),
    (
        "get f -O x",
        "a file keeps its name by default; to save it under another name, use -o PATH; type: xfer get f -o x",
    ),
    ("get f -Ox", "type: xfer get f -o x"),
    ("get f -C -", "run the same command again, without an option for it"),
    ("get -i key f", "xfer uses no keys; to read names from a list, use --from-file LIST"),
    ("get f -c", "run the same command again"),
    ("get f --continue", "run the same command again"),
    ("get f --resume", "run the same command again"),
    (
        "get f -P 9999",
        "the port is -p PORT (the directory to save in, as with wget -P, is -d DIR); type: xfer get f -p 9999",
    ),
    ("get f --output-dir=x", "use -d DIR; type: xfer get f -d x"),
    (
        "get f -r",
        "xfer fetches files, not directories, and creates no subdirectories; on the server, in the shared directory, run 'find . -type f > /tmp/LIST'",
    ),
    ("get f -r", "and type: xfer get --from-file LIST -H HOST"),
    ("get f -avz", "unknown option '-a' in '-avz'; xfer fetches files, not directories"),
    ("get f --bwlimit=3", "xfer cannot limit its speed"),
    ("get f --limit-rate 3", "xfer cannot limit its speed"),
    ("serve -d x", "name the directory without an option; type: xfer serve x"),
    ("serve -H 0.0.0.0", "use -b ADDR; type: xfer serve -b 0.0.0.0"),
    (
        "serve a 9999",
        "unexpected argument '9999': xfer serve takes one DIR|FILE; the port goes after -p; type: xfer serve a -p 9999",
    ),
    (
        "serve a b",
        "unexpected argument 'b': xfer serve takes one DIR|FILE; to share several files, share their directory; type: xfer serve .",
    ),
    ("serve srv/a srv/b srv/c -q", "share their directory; type: xfer serve srv -q"),
    ("serve a/x b/y", "to share several directories, share the one that holds them"),
    ("serve -b 127.0.0.1:80", "or localhost; the port goes after -p; type: xfer serve server_files -b 127.0.0.1 -p 80"),
    ("serve x -p 1 -b localhost:80", "type: xfer serve x -b localhost -p 80"),
    ("serve x -b :80", "type: xfer serve x -p 80"),
    (
        "serve 8080 -q",
        "no file or directory '8080' exists; the port goes after -p; to share the current directory, type: xfer serve . -p 8080 -q",
    ),
    ("serve :8080", "type: xfer serve . -p 8080"),
    (
        "serve 0.0.0.0:80",
        "the address goes after -b, the port after -p; to share the current directory, type: xfer serve . -b 0.0.0.0 -p 80",
    ),
    ("serve localhost:80", "type: xfer serve . -b localhost -p 80"),
    ("serve [::]:80", "type: xfer serve . -b :: -p 80"),
    ("serve help", "for help, type: xfer help serve"),
    ("nas:f .", "no command given; 'nas:f' looks like HOST:NAME; "),
    ("ann@nas:f .", "; type: xfer get f -H nas -d ."),
    (
        "http://nas/f",
        "no command given; 'http://nas/f' is not an xfer URL, and xfer does not speak http; type: xfer get f -H nas",
    ),
    ("192.168.1.5", "; type: xfer get FILE -H 192.168.1.5"),
    ("nas:f -H nas", "no command given; type: xfer get nas:f -H nas"),
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
    ("help put", "no help for 'put'; the commands are serve and get; type: xfer help"),
];

#[test]
fn options_and_commands_of_other_programs_are_answered() {
    for (line, expected) in OTHER_PROGRAMS {
        let message = message(&format!("xfer {line}"));
        assert!(message.contains(*expected) && !message.contains('\n'), "{line}: {message}");
    }
}

/// The words of a command as a POSIX shell splits it, as far as messages quote.
fn shell_words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut in_quotes) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().chain([' ']);
    while let Some(c) = chars.next() {
        match c {
            '\'' => in_quotes = !in_quotes,
            '\\' if !in_quotes => word.extend(chars.next()),
            // An empty word in quotes does not occur: no name is empty.
            ' ' if !in_quotes && word.is_empty() => {}
            ' ' if !in_quotes => words.push(std::mem::take(&mut word).into()),
            c => word.push(c),
        }
    }
    words
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
        // The tests of the real program have such values, and a real shell.
        if line.contains("$(printf") {
            continue;
        }
        shown += 1;
        let command = shell_words(line);
        match parse(command.clone()) {
            Ok(Command::Get(_) | Command::Print { .. }) => {}
            // What was wrong besides: the next message is about that, and not about the host again.
            Err(next) if !next.to_string().contains("; type: ") => {}
            Err(next) if next.to_string().starts_with("bad ") => {}
            other => panic!("{argv:?}: {message}: {command:?}: {other:?}"),
        }
    }
    assert!(shown > 5_000, "{shown}");
}
