//! Options and commands that xfer does not have: what a person who typed one most likely meant.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use argh::{FlagInfo, FlagInfoKind};

use super::habits::names_host;
use super::host::parse_port;
use super::words::{Given, decode, shown};
use super::{argv, options_of, parse, paste, url};
use crate::text::{self, shell};

/// Options of other programs (curl, wget, rsync, scp, python -m http.server), the answer to each, and what may stand in
/// its place, the likeliest first: an option of ours, or nothing.
type Habits = &'static [(&'static [&'static str], &'static str, &'static [&'static str])];

/// In place of an option: nothing.
const NOTHING: &[&str] = &[""];

/// No option does what this one would.
const NONE: &[&str] = &[];

const BOTH: Habits = &[
    (&["--limit-rate", "--bwlimit", "--max-rate"], "xfer cannot limit its speed", NONE),
    (
        &["-u", "--user", "--username", "--password", "--auth", "--token", "--identity"],
        "xfer has no users or passwords; see SECURITY CONSIDERATIONS in xfer(1)",
        NONE,
    ),
    (
        &["-k", "--insecure", "--tls", "--ssl", "--cert", "--key", "--cacert"],
        "xfer does not encrypt; use a VPN or an ssh tunnel; see SECURITY CONSIDERATIONS in xfer(1)",
        NONE,
    ),
    (&["-z", "--compress", "--compressed"], "xfer does not compress", NONE),
    (&["-s", "--silent"], "to print only warnings and errors, use -q", &["-q"]),
    (&["-?"], "for help, use --help", &["--help"]),
];

const GET: Habits = &[
    (
        &["-O", "--output-document", "--remote-name"],
        "a file keeps its name by default; to save it under another name, use -o PATH",
        &["-o", ""],
    ),
    (
        &["-c", "--continue", "--resume", "--partial", "--append", "--append-verify", "--inplace"],
        "to resume an interrupted transfer, run the same command again; no option is needed",
        NOTHING,
    ),
    (
        &["-C", "--continue-at"],
        "to resume an interrupted transfer, run the same command again, without an option for it",
        NONE,
    ),
    (&["-P"], "the port is -p PORT (the directory to save in, as with wget -P, is -d DIR)", &["-p", "-d"]),
    (
        &["--output-dir", "--directory-prefix", "--directory", "--target-directory", "--dest", "--destination"],
        "to choose the directory to save in, use -d DIR",
        &["-d"],
    ),
    (
        &["-r", "-R", "-a", "--recursive", "--archive", "--mirror"],
        "xfer fetches files, not directories, and creates no subdirectories; on the server, in the shared directory, run \
         'find . -type f > /tmp/LIST', copy that list to this machine, and type: xfer get --from-file LIST -H HOST",
        NONE,
    ),
    (&["-l", "--list", "--list-only"], "xfer does not list directories; see them on the server", NONE),
    (&["-L", "--location"], "xfer has no redirects; no option is needed", NOTHING),
    (&["--input-file", "--files-from"], "to read names from a list, use --from-file LIST", &["--from-file"]),
    // The names in a list go to the server: no command is shown that would send it the lines of a private key.
    (&["-i"], "xfer uses no keys; to read names from a list, use --from-file LIST", NONE),
    (&["-t", "--retry", "--tries", "--attempts"], "to choose the number of attempts, use --retries N", &["--retries"]),
    (
        &["-T", "--max-time", "--connect-timeout", "--read-timeout"],
        "to choose how long to wait for data, use --timeout SECONDS",
        &["--timeout"],
    ),
    (&["-f", "--overwrite"], "to fetch a file even if it is already up to date, use --force", &["--force"]),
    (
        &["-n", "--ignore-existing", "--no-overwrite", "--skip-existing"],
        "to keep existing files, use --no-clobber",
        &["--no-clobber"],
    ),
    (
        &["-N", "-u", "--update", "--timestamping"],
        "a file that is already up to date is not fetched again; no option is needed",
        NOTHING,
    ),
    (&["-4", "-6", "--ipv4", "--ipv6"], "to choose an address, give it with -H, for example -H 192.168.1.5", NONE),
    (
        &["--md5", "--blake3", "--sha256", "--digest"],
        "to choose the digest, use --checksum md5 or --checksum blake3",
        NONE,
    ),
    (&["--server"], "to name the server, use -H HOST", &["-H"]),
];

const SERVE: Habits = &[
    (
        &["-d", "-r", "--dir", "--directory", "--root", "--path", "--docroot"],
        "name the directory without an option",
        NOTHING,
    ),
    (
        &["-a", "-H", "-i", "-l", "--host", "--address", "--listen", "--interface"],
        "to choose the address, use -b ADDR",
        &["-b"],
    ),
    (&["-P"], "to choose the port, use -p PORT", &["-p"]),
    (
        &["-D", "--daemon", "--background", "--detach"],
        "xfer serve runs in the foreground; see AS A SERVICE in xfer-serve(8)",
        NONE,
    ),
    (&["-A", "--all", "--dotfiles"], "to share files whose names begin with a dot, use --hidden", &["--hidden"]),
    (&["--readonly", "--read-only"], "xfer serve never writes into the directory; no option is needed", NOTHING),
    (&["-w", "--upload", "--writable"], "xfer does not upload", NONE),
];

/// The words of a command, one of which begins with an option that it does not have.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub command: &'static str,
    pub flags: &'static [FlagInfo<'static>],
    pub args: &'a [OsString],
    /// Which word it is.
    pub at: usize,
}

/// What to say of an option that `xfer COMMAND` does not have. Options are not abbreviated: a new one could make two of
/// one.
pub fn option(context: Context<'_>, word: &str, name: &str) -> String {
    let place = if word.starts_with("--") || word == name { String::new() } else { format!(" in {}", shown(word)) };
    format!("unknown option {}{place}; {}", shown(name), advice(context, word, name))
}

fn advice(context: Context<'_>, word: &str, name: &str) -> String {
    let Context { command, flags, .. } = context;
    let (own, other, others) = match command {
        "serve" => (SERVE, "get", options_of("get")),
        _ => (GET, "serve", options_of("serve")),
    };
    // No option has a dot or a slash: `-n.txt` is a file.
    let letters = word.split('=').next().unwrap_or(word);
    if command == "get" && !letters.starts_with("--") && letters.contains(['.', '/']) {
        let right = then_type(context.with(&[&format!("./{word}")]));
        return format!("before a file name that begins with '-', write ./{right}");
    }
    if let Some((_, answer, instead)) = own.iter().chain(BOTH).find(|(names, _, _)| names.contains(&name)) {
        let line = instead.iter().find_map(|option| context.with_option(word, name, option));
        return format!("{answer}{}", then_type(line));
    }
    let is_it = |flag: &&FlagInfo<'_>| flag.long == name || flag.short.is_some_and(|short| name == format!("-{short}"));
    if let Some(long) = nearest(flags, word) {
        let line = context.with_option(word, name, long).map(|line| format!(" Type: {line}")).unwrap_or_default();
        return format!("did you mean {long}?{line}");
    }
    if let Some(long) = others.iter().find(is_it).map(|flag| flag.long).or_else(|| nearest(others, word)) {
        return format!("{long} is an option of xfer {other}");
    }
    let name_of_it = match command {
        "get" => shell::readable(word.as_bytes()).map(|word| format!("; for a file of this name: xfer get -- {word}")),
        _ => None,
    };
    format!("see xfer {command} --help{}", name_of_it.unwrap_or_default())
}

impl Context<'_> {
    /// The command with an option in place of the unknown one, or without it, if the command can be taken then.
    fn with_option(self, word: &str, name: &str, option: &str) -> Option<String> {
        let value =
            if word.starts_with("--") { word.strip_prefix(name)?.strip_prefix('=') } else { word.strip_prefix(name) };
        let value = value.filter(|value| !value.is_empty());
        if word != name && value.is_none() || !word.starts_with("--") && !self.takes_value(option) && value.is_some() {
            return None;
        }
        let words = [Some(option).filter(|option| !option.is_empty()), value];
        self.with(&words.into_iter().flatten().collect::<Vec<&str>>())
    }

    fn takes_value(self, option: &str) -> bool {
        let is_it = |flag: &&FlagInfo<'_>| flag.long == option || flag.short.is_some_and(|c| option == format!("-{c}"));
        self.flags.iter().find(is_it).is_some_and(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }))
    }

    /// The command with these words in place of the one.
    fn with(self, words: &[&str]) -> Option<String> {
        let (before, rest) = self.args.split_at_checked(self.at)?;
        let words = words.iter().map(|word| decode(word));
        let args: Vec<OsString> = before.iter().cloned().chain(words).chain(rest.iter().skip(1).cloned()).collect();
        let shown = args.iter().map(|arg| shell::readable(arg.as_bytes())).collect::<Option<Vec<String>>>()?;
        if !argv::is_taken(self.command, self.flags, &args) {
            return None;
        }
        let line = format!("xfer {} {}", self.command, shown.join(" "));
        // What else is wrong may have an answer, too. (A list may be standard input.)
        let has_input = self.args.iter().any(|arg| arg == "--from-file=-")
            || self.args.windows(2).any(|pair| pair[0] == "--from-file" && pair[1] == "-");
        let is_alone = self.command == "get" && !has_input;
        let next = is_alone.then(|| parse(get_line(&args)).err()).flatten().map(|error| error.to_string());
        let next = next.as_deref().filter(|message| !message.starts_with("bad URL "));
        let next = next.and_then(|message| message.split_once("; type: "));
        Some(next.map_or(line, |(_, command)| command.to_string()))
    }
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

/// What to say of the second of several words that `xfer serve` cannot share together.
pub fn argument(words: &[String], options: &[Given]) -> String {
    let paths: Vec<OsString> = words.iter().map(|word| decode(word)).collect();
    let (first, extra) = (paths.first().cloned().unwrap_or_default(), words.get(1).map_or("", String::as_str));
    let what = format!("unexpected argument {}: xfer serve takes one DIR|FILE", shown(extra));
    if let [_, port] = words
        && parse_port(port).is_ok()
    {
        let command = paste::serve(&first, &[("-p", port)], options);
        return format!("{what}; the port goes after -p{}", then_type(command));
    }
    let parent = |path: &OsString| Path::new(path).parent().map(Path::to_path_buf);
    match parent(&first).filter(|dir| paths.iter().all(|path| parent(path).as_ref() == Some(dir))) {
        Some(dir) => {
            let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
            let command = paste::serve(dir.as_os_str(), &[], options);
            format!("{what}; to share several files, share their directory{}", then_type(command))
        }
        None => format!("{what}; to share several directories, share the one that holds them"),
    }
}

/// The end of a message, if its command can be shown.
fn then_type(command: Option<String>) -> String {
    command.map(|command| format!("; type: {command}")).unwrap_or_default()
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
        _ if names_host(first) => match get_words(first, rest) {
            Some(line) => line,
            None => format!("no command given; {word} looks like a file on a server; see xfer --help"),
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

/// What `xfer get` says of the words of `xfer nas:f .`.
fn get_words(first: &[u8], rest: &[OsString]) -> Option<String> {
    let args: Vec<OsString> = std::iter::once(OsStr::from_bytes(first).into()).chain(rest.iter().cloned()).collect();
    // A list may be standard input.
    let has_list = rest.iter().any(|arg| arg.as_bytes().starts_with(b"--from-file"));
    match parse(get_line(&args)).map_err(|error| error.to_string()) {
        _ if has_list => None,
        Err(message) => Some(format!("no command given; {message}")),
        Ok(_) => {
            let shown = args.iter().map(|arg| shell::readable(arg.as_bytes())).collect::<Option<Vec<String>>>()?;
            Some(format!("no command given; type: xfer get {}", shown.join(" ")))
        }
    }
}

/// A whole command line of `xfer get`.
fn get_line(args: &[OsString]) -> Vec<OsString> {
    ["xfer", "get"].into_iter().map(OsString::from).chain(args.iter().cloned()).collect()
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
