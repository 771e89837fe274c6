//! Every example of README.md and of the manual pages is run against a real server, and what the pages show is compared
//! with what is printed. What cannot be run here is parsed, and listed with the reason.

mod conversations;
mod masks;
mod pages;
mod safety;
mod world;

use std::process::{Command, Stdio};

use masks::masked;
use pages::{Body, Example, README, Step};
use world::{Done, World};

/// Commands that are not run, by how they begin. A shell parses them, and `xfer` parses its own words in them.
const ONLY_PARSED: [(&str, &str); 17] = [
    ("make demo", "the next test runs the demo"),
    ("make", "builds the project"),
    ("sudo ", "installs"),
    ("cargo ", "builds the project"),
    ("install -d ", "needs root"),
    ("systemd-sysusers", "needs root and systemd"),
    ("systemctl ", "needs root and systemd"),
    ("journalctl ", "needs systemd"),
    ("ufw ", "needs root, changes the firewall"),
    ("firewall-cmd ", "needs root, changes the firewall"),
    ("nft ", "needs root, changes the firewall"),
    ("ssh -", "needs another machine"),
    ("setsid ", "leaves a server behind"),
    ("xfer serve /srv/app/current", "speaks of releases; the test of the sandbox swaps some"),
    ("ln -s releases/43", "the same"),
    ("kill -HUP PID", "the same"),
    ("man ", "needs man"),
];

/// Programs that an example uses and a machine may lack, by how a command has them. There it is only parsed.
const NEEDED: [(&str, &str); 2] = [("| jq ", "jq"), ("/dev/tcp/", "bash")];

/// Half of what it had in version 0.2.0, which new users found too long.
const README_BYTES_MAX: u64 = 11_000;

#[test]
fn every_example_of_readme() {
    run_page(README);
}

#[test]
fn every_example_of_the_manual_page_of_xfer() {
    run_page("man/xfer.1");
}

#[test]
fn every_example_of_the_manual_page_of_get() {
    run_page("man/xfer-get.1");
}

#[test]
fn every_example_of_the_manual_page_of_serve() {
    run_page("man/xfer-serve.8");
}

#[test]
fn every_example_of_the_manual_page_of_the_protocol() {
    run_page("man/xfer-protocol.5");
}

/// A stranger reads it in a minute.
#[test]
fn readme_is_short() {
    let bytes = std::fs::metadata(pages::project().join(README)).unwrap().len();
    assert!(bytes <= README_BYTES_MAX, "{README} has {bytes} bytes, at most {README_BYTES_MAX} are allowed");
}

/// A page that comes later needs a test, too.
#[test]
fn there_are_no_other_pages() {
    assert_eq!(pages::all(), [README, "man/xfer-get.1", "man/xfer-protocol.5", "man/xfer-serve.8", "man/xfer.1"]);
}

/// Only what is on a list is found, and `rm` removes no more than single files.
#[test]
fn no_example_runs_other_programs() {
    let world = World::new();
    let fails = |command: &str| !world.run(&[command]).remove(0).success;
    assert!(fails("uname"), "a program that is not on the list");
    world.scratch.write("home/sub/a", b"a");
    world.scratch.write("home/b", b"b");
    for command in ["rm -r sub", "rm -rf sub", "rm sub/a", "rm -- b"] {
        assert!(fails(command), "{command}");
    }
    assert_eq!(world.scratch.names("home/sub"), ["a"]);
    assert!(!fails("rm -f b") && !world.scratch.path("home/b").exists());
    assert!(!fails("[ \"$(cd && ls sub)\" = a ]"), "the home directory is that of the examples");
}

/// The examples of one page, one after the other, as a reader might try them.
fn run_page(page: &str) {
    let mut world = World::new();
    let mut started: Vec<(String, Vec<String>)> = Vec::new();
    let mut conversations = Vec::new();
    for example in pages::examples(page) {
        match &example.body {
            Body::Session(steps) => run_session(&mut world, &example, steps, &mut started),
            Body::Quoted(command) => assert_accepted(&world, &example.place, command),
            Body::Text(lines) if conversations::is_one(lines) => conversations.push((example.place, lines.clone())),
            Body::Text(lines) if example.section == "EXAMPLES" => run_script(&world, &example.place, lines),
            Body::Text(lines) => assert_no_command(&world, &example.place, lines),
        }
    }
    conversations::hold(world.nas(), &conversations);
    for ((place, shown), done) in started.iter().zip(world.stop_servers()) {
        assert_shown(place, shown, &done, false);
    }
}

/// Commands behind a prompt. Those between two that need a terminal of their own share a shell.
fn run_session(world: &mut World, example: &Example, steps: &[Step], started: &mut Vec<(String, Vec<String>)>) {
    let place = &example.place;
    let mut together: Vec<&Step> = Vec::new();
    for step in steps {
        let interrupted = step.output.first().is_some_and(|line| line.contains("Ctrl-C (SIGINT)"));
        let only_parsed = is_only_parsed(step);
        if !(only_parsed || interrupted || is_server(&step.command)) {
            together.push(step);
            continue;
        }
        run_together(world, place, &std::mem::take(&mut together));
        if only_parsed {
            assert!(step.output.is_empty(), "{place}: the output of a command that is not run: {}", step.command);
            assert_parsed(world, place, &step.command);
        } else if interrupted {
            assert_shown(place, &step.output, &world.interrupted(&step.command), true);
        } else {
            world.serve(&step.command);
            started.push((place.clone(), step.output.clone()));
        }
    }
    run_together(world, place, &together);
}

fn run_together(world: &World, place: &str, steps: &[&Step]) {
    if steps.is_empty() {
        return;
    }
    let commands: Vec<&str> = steps.iter().map(|step| step.command.as_str()).collect();
    for (step, done) in steps.iter().zip(world.run(&commands)) {
        assert!(done.success, "{place}: {}: failed\n{}", step.command, done.report);
        assert_shown(place, &step.output, &done, true);
    }
}

/// A script runs twice, the second time with all that the first one has left.
fn run_script(world: &World, place: &str, lines: &[String]) {
    let script = lines.join("\n");
    for time in ["first", "second"] {
        let done = world.run(&[&script]).remove(0);
        assert!(done.success, "{place}: the script failed the {time} time\n{}", done.report);
    }
}

/// `whole`: nothing else is printed.
fn assert_shown(place: &str, shown: &[String], done: &Done, whole: bool) {
    if shown.is_empty() {
        return;
    }
    let shown: Vec<String> = shown.iter().map(|line| masked(line)).collect();
    let printed: Vec<String> = done.lines.iter().map(|line| masked(line)).collect();
    let same = if whole { shown == printed } else { shown.iter().all(|line| printed.contains(line)) };
    let (shown, printed) = (shown.join("\n"), printed.join("\n"));
    assert!(same, "{place}: the page shows\n{shown}\nand this is printed\n{printed}\n{}", done.report);
}

fn is_server(command: &str) -> bool {
    command.starts_with("xfer serve") && !command.contains(['|', ';', '&'])
}

fn is_only_parsed(step: &Step) -> bool {
    let listed = ONLY_PARSED.iter().any(|(start, _)| step.command.starts_with(start));
    assert!(listed || !step.as_root, "a command for root that is not listed: {}", step.command);
    listed || NEEDED.iter().any(|(sign, program)| step.command.contains(sign) && !is_installed(program))
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn assert_parsed(world: &World, place: &str, command: &str) {
    // What stands in brackets at the end of a line is for the reader.
    let command = command.split("   (").next().unwrap();
    world.is_shell(command).unwrap_or_else(|report| panic!("{place}: {command}: no shell reads this\n{report}"));
    for part in simple_commands(command) {
        assert_accepted(world, place, &part);
    }
}

/// Words of `xfer` within a command, or a sentence.
fn assert_accepted(world: &World, place: &str, command: &str) {
    let Some((before, words)) = command.split_once("xfer ") else { return };
    // `xfer serve` names the command, and brackets stand in a synopsis.
    let is_run = before.is_empty() || before.ends_with([' ', '/']);
    if is_run && words.contains(' ') && !words.contains('[') {
        world.accepts(words).unwrap_or_else(|report| panic!("{place}: {command}: xfer does not accept it\n{report}"));
    }
}

/// What stands between `|`, `;`, `&` and ends of lines, but for quoted ones.
fn simple_commands(command: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for char in command.chars() {
        quote = match quote {
            None if char == '\'' || char == '"' => Some(char),
            Some(open) if open == char => None,
            other => other,
        };
        match parts.last_mut() {
            Some(part) if quote.is_some() || !['|', ';', '&', '\n'].contains(&char) => part.push(char),
            // As in `2>&1`.
            Some(part) if part.ends_with('>') => part.push(char),
            _ => parts.push(String::new()),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// A block without a prompt, and not among the examples, is a sample of output or of a file. Commands need a prompt.
fn assert_no_command(world: &World, place: &str, lines: &[String]) {
    assert!(!place.starts_with(README), "{place}: begin each command with `$ `: {}", lines.join("\n"));
    for line in lines {
        assert!(!line.starts_with("xfer ") || line.contains(": "), "{place}: begin a command with `$ `: {line}");
        if let Some(command) = line.strip_prefix("ExecStart=") {
            assert_accepted(world, place, command);
        }
    }
}
