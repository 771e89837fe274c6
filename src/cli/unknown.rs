//! Options and commands that xfer does not have: what a person who typed one most likely meant.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use argh::FlagInfo;

use super::host::parse_port;
use super::words::shown;
use super::{options_of, url};
use crate::text::{self, shell};

/// Options of other programs (curl, wget, rsync, scp, python -m http.server), and the answer to each.
type Habits = &'static [(&'static [&'static str], &'static str)];

const BOTH: Habits = &[
    (&["--limit-rate", "--bwlimit", "--max-rate"], "xfer cannot limit its speed"),
    (
        &["-u", "--user", "--username", "--password", "--auth", "--token", "--identity"],
        "xfer has no users or passwords; see SECURITY CONSIDERATIONS in xfer(1)",
    ),
    (
        &["-k", "--insecure", "--tls", "--ssl", "--cert", "--key", "--cacert"],
        "xfer does not encrypt; use a VPN or an ssh tunnel; see SECURITY CONSIDERATIONS in xfer(1)",
    ),
    (&["-z", "--compress", "--compressed"], "xfer does not compress"),
    (&["-s", "--silent"], "to print only warnings and errors, use -q"),
    (&["-?"], "for help, use --help"),
];

const GET: Habits = &[
    (
        &["-O", "--output-document", "--remote-name"],
        "to save a file under another name, use -o PATH; without it, a file keeps its name",
    ),
    (
        &[
            "-c",
            "-C",
            "--continue",
            "--continue-at",
            "--resume",
            "--partial",
            "--append",
            "--append-verify",
            "--inplace",
        ],
        "to resume an interrupted transfer, run the same command again; no option is needed",
    ),
    (&["-P"], "the port is -p PORT; the directory to save in is -d DIR"),
    (
        &["--output-dir", "--directory-prefix", "--directory", "--target-directory", "--dest", "--destination"],
        "to choose the directory to save in, use -d DIR",
    ),
    (
        &["-r", "-R", "-a", "--recursive", "--archive", "--mirror"],
        "xfer fetches files, not directories; name each file, or put the names into a file and use --from-file LIST",
    ),
    (&["-i", "--input-file", "--files-from"], "to read names from a list, use --from-file LIST"),
    (&["-t", "--tries", "--attempts"], "to choose the number of attempts, use --retries N"),
    (
        &["-T", "--max-time", "--connect-timeout", "--read-timeout"],
        "to choose how long to wait for data, use --timeout SECONDS",
    ),
    (&["-f", "--overwrite"], "to fetch a file even if it is already up to date, use --force"),
    (&["-n", "--ignore-existing", "--no-overwrite", "--skip-existing"], "to keep existing files, use --no-clobber"),
    (
        &["-N", "-u", "--update", "--timestamping"],
        "a file that is already up to date is not fetched again; no option is needed",
    ),
    (&["-4", "-6", "--ipv4", "--ipv6"], "to choose an address, give it with -H, for example -H 192.168.1.5"),
    (&["--md5", "--blake3", "--sha256", "--digest"], "to choose the digest, use --checksum md5 or --checksum blake3"),
    (&["--server"], "to name the server, use -H HOST"),
];

const SERVE: Habits = &[
    (
        &["-d", "-r", "--dir", "--directory", "--root", "--path", "--docroot"],
        "the directory needs no option: xfer serve DIR",
    ),
    (&["-a", "-H", "-i", "-l", "--host", "--address", "--listen", "--interface"], "to choose the address, use -b ADDR"),
    (&["-P"], "to choose the port, use -p PORT"),
    (
        &["-D", "--daemon", "--background", "--detach"],
        "xfer serve runs in the foreground; see AS A SERVICE in xfer-serve(8)",
    ),
    (&["-A", "--all", "--dotfiles"], "to share files whose names begin with a dot, use --hidden"),
    (&["--readonly", "--read-only"], "xfer serve never writes into the directory; no option is needed"),
    (&["-w", "--upload", "--writable"], "xfer does not upload"),
];

/// What to say of an option that `xfer COMMAND` does not have. Options are not abbreviated: a new one could make two of
/// one.
pub fn option(command: &str, flags: &[FlagInfo<'_>], word: &str, name: &str) -> String {
    let place = if word.starts_with("--") || word == name { String::new() } else { format!(" in {}", shown(word)) };
    format!("unknown option {}{place}; {}", shown(name), advice(command, flags, word, name))
}

fn advice(command: &str, flags: &[FlagInfo<'_>], word: &str, name: &str) -> String {
    let (own, other, others) = match command {
        "serve" => (SERVE, "get", options_of("get")),
        _ => (GET, "serve", options_of("serve")),
    };
    if let Some((_, answer)) = own.iter().chain(BOTH).find(|(names, _)| names.contains(&name)) {
        return (*answer).to_string();
    }
    let is_it = |flag: &&FlagInfo<'_>| flag.long == name || flag.short.is_some_and(|short| name == format!("-{short}"));
    if let Some(long) = nearest(flags, word) {
        return format!("did you mean {long}?");
    }
    if let Some(flag) = others.iter().find(is_it) {
        return format!("{} is an option of xfer {other}", flag.long);
    }
    let name_of_it = match command {
        "get" => shell::readable(word.as_bytes()).map(|word| format!("; for a file of this name: xfer get -- {word}")),
        _ => None,
    };
    format!("see xfer {command} --help{}", name_of_it.unwrap_or_default())
}

/// The option that begins like the word, or is spelled nearly like it.
fn nearest(flags: &[FlagInfo<'_>], word: &str) -> Option<&'static str> {
    let letters = word.split('=').next().unwrap_or(word).trim_start_matches('-');
    let longs = || flags.iter().map(|flag| flag.long.trim_start_matches('-')).chain(["version"]);
    let mut begin = longs().filter(|long| letters.len() > 1 && long.starts_with(letters));
    let long = match (begin.next(), begin.next()) {
        (Some(long), None) => long,
        _ => longs().map(|long| (strsim::damerau_levenshtein(long, letters), long)).min().filter(is_near)?.1,
    };
    // The names are those of the declaration, but their lifetime is that of the borrow.
    let all = options_of("get").iter().chain(options_of("serve")).map(|flag| flag.long);
    all.chain(["--version"]).find(|known| known.trim_start_matches('-') == long)
}

/// One letter wrong, missing, added or exchanged in a short word, two in a longer one.
fn is_near((distance, name): &(usize, &str)) -> bool {
    *distance <= if name.len() < 6 { 1 } else { 2 }
}

/// What to say of a word behind all that a command takes, the last of which has this name.
pub fn argument(command: &str, last: &str, extra: &str) -> String {
    let port = if parse_port(extra).is_ok() { format!("; for a port, use -p {extra}") } else { String::new() };
    format!("unexpected argument {}: xfer {command} takes one {last}{port}", shown(extra))
}

/// What to say of a first word that is no command.
pub fn command(first: &[u8], rest: &[OsString]) -> String {
    let word = text::quoted(first);
    let args: Option<String> = rest.iter().map(|arg| Some(format!(" {}", shell::readable(arg.as_bytes())?))).collect();
    let typed = |command: &str, default: &str| match &args {
        Some(args) if !args.is_empty() => format!("xfer {command}{args}"),
        _ => format!("xfer {command}{default}"),
    };
    let to_get = || typed("get", " FILE -H HOST");
    let to_serve = || typed("serve", "");
    match first {
        b"send" | b"put" | b"upload" | b"push" => format!(
            "unknown command {word}: xfer does not upload; run 'xfer serve DIR' on the machine that has the file, and \
             'xfer get FILE -H HOST' on the machine that needs it"
        ),
        b"list" | b"ls" | b"dir" | b"find" => format!(
            "unknown command {word}: xfer does not list directories; to fetch a file whose name you know, type: \
             xfer get FILE -H HOST"
        ),
        b"recv" | b"receive" | b"fetch" | b"download" | b"pull" | b"client" | b"copy" | b"cp" => {
            format!("unknown command {word}; type: {}", to_get())
        }
        b"server" | b"share" | b"listen" | b"daemon" | b"start" => {
            format!("unknown command {word}; type: {}", to_serve())
        }
        _ if url::is_url(first) => match shell::readable(first) {
            Some(url) => format!("no command given; type: xfer get {url}{}", args.unwrap_or_default()),
            None => String::from("no command given; use xfer get; see xfer --help"),
        },
        _ if first.starts_with(b"-") => match options_first(first, rest) {
            Some(line) => format!("options follow the command; type: {line}"),
            None => format!("unknown option {word}; use xfer serve or xfer get; see xfer --help"),
        },
        _ => match near_command(first) {
            Some(near) => {
                let line = match near {
                    "get" => to_get(),
                    "serve" => to_serve(),
                    _ => format!("xfer {near}"),
                };
                format!("unknown command {word}; did you mean {near}? Type: {line}")
            }
            None => format!("unknown command {word}; use serve or get; see xfer --help"),
        },
    }
}

/// `xfer -p 80 get f` with its command first.
fn options_first(first: &[u8], rest: &[OsString]) -> Option<String> {
    let at = rest.iter().position(|arg| arg == "get" || arg == "serve")?;
    let command = rest[at].to_str()?;
    let others = std::iter::once(first).chain(rest[..at].iter().chain(&rest[at + 1..]).map(|arg| arg.as_bytes()));
    let others = others.map(shell::readable).collect::<Option<Vec<String>>>()?;
    Some(format!("xfer {command} {}", others.join(" ")))
}

fn near_command(word: &[u8]) -> Option<&'static str> {
    let word = std::str::from_utf8(word).ok()?;
    let commands = ["get", "serve", "help", "version"];
    let distances = commands.map(|command| (strsim::damerau_levenshtein(command, &word.to_lowercase()), command));
    distances.into_iter().min().filter(is_near).map(|(_, command)| command)
}
