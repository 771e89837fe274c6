//! What a person sees of `xfer get` on a terminal: pictures of the screen.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::fuse::{Fuse, Quirks};
use crate::harness::wire2::{self, Get, NOT_FOUND};
use crate::harness::{PATIENCE, Program, Scratch, Screen, Server, content, md5_hex, wait_for};
use crate::scripted_server::{ScriptedServer, full_listener, hold};

/// Bytes of a file, and how many of them come before the server pauses.
const WHOLE: usize = 10 << 20;
const PART: usize = 4 << 20;

/// A gate that a test opens, step by step, and a server waits at.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicUsize>);

impl Gate {
    fn open(&self, step: usize) {
        self.0.store(step, Ordering::SeqCst);
    }

    fn is_open(&self, step: usize) -> bool {
        self.0.load(Ordering::SeqCst) >= step
    }
}

/// Sends a file whose first half is slow: a byte every 50 ms, behind the first bytes, until the gate is open. Up to the
/// second step nothing comes at all.
fn send_slowly(stream: &mut TcpStream, get: &Get, body: &[u8], first: usize, gate: &Gate) -> Option<()> {
    let about = wire2::File { algorithm: get.algorithm, ..wire2::File::of(body) };
    let offset = if get.version == about.version { usize::try_from(get.offset).unwrap() } else { 0 };
    stream.write_all(&wire2::File { offset: offset as u64, ..about }.bytes()).ok()?;
    let mut sent = offset.max(first);
    stream.write_all(&wire2::data(&body[offset..sent])).ok()?;
    let start = std::time::Instant::now();
    while !gate.is_open(1) && start.elapsed() < PATIENCE {
        stream.write_all(&wire2::data(&body[sent..=sent])).ok()?;
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_for("the gate to open", || gate.is_open(2));
    stream.write_all(&wire2::data(&body[sent..])).ok()?;
    stream.write_all(&wire2::digest(&content::digest(get.algorithm, body))).ok()
}

/// A server of one file, slow as above.
fn slow_server(body: Vec<u8>, gate: &Gate) -> ScriptedServer {
    let gate = gate.clone();
    ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            if send_slowly(stream, &get, &body, PART, &gate).is_none() {
                return;
            }
        }
    })
}

fn get_on(screen: &Screen, scratch: &Scratch, server: &ScriptedServer, names: &[&str]) -> Program {
    let program = Program::xfer(scratch).on(screen).args(["get", "-d", "out", "--no-sync", "--timeout", "60", "-H"]);
    program.arg(server.addr.to_string()).args(names).log_file(scratch.path("client.log"))
}

fn saved(name: &str, body: &[u8], size: &str) -> String {
    format!("saved out/{name}: {size}, md5 {}, verified, TIME, SPEED/s\n", md5_hex(body))
}

/// What is on the screen in the middle of one file.
fn picture_of(name: &str, columns: u16, env: &[(&str, &str)], picture: &str) {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(columns));
    let server = slow_server(content(1, WHOLE), &gate);
    let program = get_on(&screen, &scratch, &server, &[name]);
    let running = env.iter().fold(program, |program, (name, value)| program.env(name, value)).spawn();
    screen.wait_for_picture(picture);
    gate.open(2);
    running.finish().exits(0);
    screen.wait_until("one line, and no bar", |last| last.starts_with("saved out/") && last.lines().count() == 1);
}

#[test]
fn a_file_at_80_columns() {
    let picture = "large.bin  40% 4.0 MiB of 10.0 MiB    [=====>-------]      SPEED/s    TIME left\n";
    picture_of("large.bin", 80, &[], picture);
}

#[test]
fn a_file_at_40_columns() {
    picture_of("large.bin", 40, &[], "large.bin  40%      SPEED/s    TIME\n");
}

#[test]
fn a_file_at_20_columns() {
    picture_of("large.bin", 20, &[], "large.bin  40%\n");
}

#[test]
fn a_file_at_200_columns() {
    let bar = format!("[{}>{}]", "=".repeat(53), "-".repeat(79));
    let picture = format!("large.bin  40% 4.0 MiB of 10.0 MiB    {bar}      SPEED/s    TIME left\n");
    picture_of("large.bin", 200, &[], &picture);
}

/// Where an escape sequence is not understood there is no bar, unless it is asked for, and then it needs none.
#[test]
fn a_terminal_that_is_dumb() {
    for term in ["dumb", ""] {
        let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
        let body = content(1, WHOLE);
        let server = slow_server(body.clone(), &gate);
        let running = get_on(&screen, &scratch, &server, &["a"]).env("TERM", term).spawn();
        running.wait_for_log("attempt 1");
        gate.open(2);
        running.finish().exits(0);
        screen.wait_for_picture(&saved("a", &body, "10.0 MiB"));
        assert!(!screen.raw().contains(['\x1b', '[']), "no bar: {:?}", screen.raw());
    }
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let server = slow_server(content(1, WHOLE), &gate);
    let program = get_on(&screen, &scratch, &server, &["a", "--progress", "always"]).env("TERM", "dumb");
    let running = program.spawn();
    screen.wait_for_picture("a  40% 4.0 MiB of 10.0 MiB    [========>------------]      SPEED/s    TIME left\n");
    screen.resize(60);
    screen.wait_for("a  40%");
    gate.open(2);
    running.finish().exits(0);
    assert!(!screen.raw().contains('\x1b'), "no escape sequence: {:?}", screen.raw());
}

/// The letters of a name take no more columns than it has.
#[test]
fn wide_and_combining_letters() {
    let wide = "測定結果測定結果測定結果測定結果.csv";
    picture_of(wide, 80, &[], &format!("{wide}  40% [===>-----]      SPEED/s    TIME left\n"));
    picture_of(wide, 40, &[], "...定結果.csv  40%      SPEED/s    TIME\n");
    picture_of("wu\u{308}rfel-wu\u{308}rfel.csv", 40, &[], "...wu\u{308}rfel.csv  40%      SPEED/s    TIME\n");
    picture_of("👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀", 20, &[], "...👩\u{200d}🚀👩\u{200d}🚀     40%\n");
}

#[test]
fn a_locale_without_utf_8() {
    for locale in ["C", "de_DE.ISO-8859-1"] {
        let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
        let server = slow_server(content(1, WHOLE), &gate);
        let running = get_on(&screen, &scratch, &server, &["größe.bin"]).env("LC_ALL", locale).spawn();
        screen.wait_for_picture("gr??e.bin  40% 4.0 MiB of 10.0 MiB    [=====>-------]      SPEED/s    TIME left\n");
        assert!(screen.raw().is_ascii());
        gate.open(2);
        running.finish().exits(0);
    }
}

/// Narrower and wider: what was drawn for the old width is gone.
#[test]
fn a_window_that_changes_its_size() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let body = content(1, WHOLE);
    let server = slow_server(body.clone(), &gate);
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for("large.bin  40% 4.0 MiB of 10.0 MiB");
    screen.resize(40);
    screen.wait_for_picture("large.bin  40%      SPEED/s    TIME\n");
    screen.resize(20);
    screen.wait_for_picture("large.bin  40%\n");
    screen.resize(100);
    screen.wait_for("large.bin  40% 4.0 MiB of 10.0 MiB    [==");
    gate.open(2);
    running.finish().exits(0);
    screen.wait_for_picture(&saved("large.bin", &body, "10.0 MiB"));
}

/// A bar that stands still would look like one that is about to move.
#[test]
fn a_stall() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let body = content(1, WHOLE);
    let server = slow_server(body.clone(), &gate);
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for("SPEED/s");
    gate.open(1);
    screen.wait_for("[=====>-------]  stalled");
    let began = screen.raw().len();
    // It counts on, by a timer.
    wait_for("two more seconds", || screen.raw()[began..].matches("stalled").count() >= 4);
    let drawn = screen.raw()[began..].matches('\r').count();
    assert!(drawn <= 10, "drawn {drawn} times in two seconds in which nothing comes");
    assert!(!screen.picture().contains("left"), "no time is known: {}", screen.picture());
    gate.open(2);
    running.finish().exits(0);
    screen.wait_for_picture(&saved("large.bin", &body, "10.0 MiB"));
}

/// The same fields in the same order as from the first byte on, and the speed is that of the new bytes.
#[test]
fn a_resume() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let body = content(1, WHOLE);
    let server = slow_server(body.clone(), &gate);
    let running = get_on(&screen, &scratch, &server, &["large.bin", "-q"]).spawn();
    wait_for("a part", || {
        std::fs::metadata(scratch.out().join(".large.bin.xfer-part")).is_ok_and(|part| part.len() >= PART as u64)
    });
    running.finish_after(Signal::INT).exits(130);
    let screen = Screen::new(80);
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for_picture(
        "resuming 'large.bin' at 40% (4.0 MiB of 10.0 MiB)\n\
         large.bin  40% 4.0 MiB of 10.0 MiB    [=====>-------]      SPEED/s    TIME left\n",
    );
    // A byte every 50 ms.
    assert!(screen.raw().contains(" bytes/s "), "{:?}", screen.raw());
    gate.open(2);
    running.finish().exits(0);
    let lines = format!("resuming 'large.bin' at 40% (4.0 MiB of 10.0 MiB)\n{}", saved("large.bin", &body, "10.0 MiB"));
    screen.wait_for_picture(&lines);
}

/// A thousand files are one line, below those about the files that are saved.
#[test]
fn twelve_hundred_files() {
    let scratch = Scratch::new();
    let names: Vec<String> = (0..1200).map(|number| format!("f{number:04}.bin")).collect();
    scratch.write("list", names.join("\n").as_bytes());
    let small = content(2, 2048);
    let gate = Gate::default();
    let (gate_of_server, small_of_server) = (gate.clone(), small.clone());
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let is_slow = get.name == b"f0003.bin" || get.name == b"f1000.bin";
            let sent = match is_slow && !gate_of_server.is_open(2) {
                true => send_slowly(stream, &get, &content(1, WHOLE), PART, &gate_of_server),
                false => stream.write_all(&wire2::honest_reply(&get, &small_of_server)).ok(),
            };
            if sent.is_none() {
                return;
            }
        }
    });
    let screen = Screen::new(100);
    let running = get_on(&screen, &scratch, &server, &["--from-file", "list"]).spawn();
    let lines: String = (0..3).map(|number| saved(&names[number], &small, "2.0 KiB")).collect();
    let bar = "   3 of 1200 f0003.bin                4.0 MiB    [>------------------]      SPEED/s    TIME elapsed\n";
    screen.wait_for_picture(&format!("{lines}{bar}"));
    screen.resize(40);
    screen.wait_for("   3 of 1200 f0003.bin      SPEED/s\n");
    screen.resize(20);
    screen.wait_for("   3 of 1200\n");
    screen.resize(100);
    gate.open(2);
    running.finish().exits(0);
    let summary = "1200 of 1200 saved: 12.3 MiB, TIME, SPEED/s";
    screen.wait_for(&format!("\n{summary}\n"));
    screen.wait_until("no bar", |last| last.lines().all(|line| line.starts_with("saved out/") || line == summary));
    assert_counts_never_lag(&screen.raw());
}

/// Below the lines of so many files, no bar says that fewer are done.
fn assert_counts_never_lag(raw: &str) {
    let (mut saved, mut bars) = (0, 0);
    for drawn in raw.split(['\r', '\n']) {
        saved += usize::from(drawn.starts_with("saved out/"));
        if let Some((count, _)) = drawn.split_once(" of 1200 f") {
            bars += 1;
            let count: usize = count.trim().parse().unwrap();
            assert!(count >= saved, "{saved} files are saved: {drawn}");
        }
    }
    assert!(bars > 10, "only {bars} bars");
}

#[test]
fn two_files_of_which_one_fails() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(100));
    let body = content(1, WHOLE);
    let (gate_of_server, body_of_server) = (gate.clone(), body.clone());
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let sent = match get.name == b"none" {
                true => stream.write_all(&wire2::error(NOT_FOUND, "File 'none' not found on server")).ok(),
                false => send_slowly(stream, &get, &body_of_server, PART, &gate_of_server),
            };
            if sent.is_none() {
                return;
            }
        }
    });
    let running = get_on(&screen, &scratch, &server, &["none", "a"]).spawn();
    // The size of all files that may still come is known.
    screen.wait_for(
        "1 of 2 a                        4.0 MiB of 10.0 MiB    [======>------]      SPEED/s       TIME left",
    );
    gate.open(2);
    running.finish().exits(1);
    let lines = saved("a", &body, "10.0 MiB") + "xfer: 1 of 2 saved: 10.0 MiB, TIME, SPEED/s; 1 failed: 'none'\n";
    screen.wait_until(&lines, |last| {
        last.starts_with("xfer: ") && last.contains("'none'") && last.ends_with(&lines) && last.lines().count() == 3
    });
}

/// A server may claim what it likes: no number of it makes the line longer than the screen is wide.
#[test]
fn a_server_that_claims_too_much() {
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    let server = ScriptedServer::of_any_version(|_, stream| {
        let said = [wire2::File::of(b"").bytes(), wire2::wait(u64::MAX, 1)].concat();
        if Get::read(stream).is_some() && stream.write_all(&said).is_ok() {
            hold(stream);
        }
    });
    let running = get_on(&screen, &scratch, &server, &["a"]).spawn();
    screen.wait_for("server hashing");
    let raw = screen.raw();
    assert!(raw.contains("a  server hashing 100% 1 byte of 1 byte ") && !raw.contains("18446744"), "{raw}");
    running.finish_after(Signal::INT).exits(130);
}

/// Where the sizes of all files are known before the bytes of the last one come, so is the time left.
#[test]
fn files_that_differ_from_those_that_are_here() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(100));
    let body = content(1, WHOLE);
    ["a", "b", "c"].iter().for_each(|name| drop(scratch.write(format!("out/{name}"), &content(2, WHOLE))));
    let gate_of_server = gate.clone();
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let sent = match get.flags & wire2::NO_DATA != 0 || get.name == b"a" {
                true => stream.write_all(&wire2::honest_reply(&get, &body)).ok(),
                false => send_slowly(stream, &get, &body, PART, &gate_of_server),
            };
            if sent.is_none() {
                return;
            }
        }
    });
    let running = get_on(&screen, &scratch, &server, &["a", "b", "c"]).spawn();
    screen.wait_for(" 14.0 MiB of 30.0 MiB ");
    screen.wait_for("TIME left");
    gate.open(2);
    running.finish().exits(0);
    screen.wait_for("\n3 of 3 saved (3 replaced): 30.0 MiB, TIME, SPEED/s\n");
}

/// A server of one file that sends this after every request, and then nothing.
fn silent_after(said: Vec<u8>) -> ScriptedServer {
    ScriptedServer::of_any_version(move |_, stream| {
        if Get::read(stream).is_some() && stream.write_all(&said).is_ok() {
            hold(stream);
        }
    })
}

#[test]
fn a_server_that_hashes() {
    let body = content(1, WHOLE);
    let (quarter, size) = (WHOLE as u64 / 4, WHOLE as u64);
    let server =
        silent_after([wire2::File::of(&body).bytes(), wire2::data(&body), wire2::wait(quarter, size)].concat());
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    let picture = "large.bin  server hashing  25% 2.5 MiB of 10.0 MiB    [==>-------]\n";
    screen.wait_for_picture(picture);
    screen.resize(40);
    screen.wait_for_picture("large.bin  server hashing  25%\n");
    screen.resize(20);
    screen.wait_for_picture("server hashing  25%\n");
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn a_server_that_has_still_to_send_the_digest() {
    let body = content(1, WHOLE);
    let server = silent_after([wire2::File::of(&body).bytes(), wire2::data(&body)].concat());
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for_picture("large.bin  verifying 100% 10.0 MiB of 10.0 MiB   [===============]\n");
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn a_comparison() {
    let size = 50 << 30;
    let about = wire2::File { size, version: wire2::version_of(size, 1_700_000_000, 0), ..wire2::File::of(b"") };
    let server = silent_after([about.bytes(), wire2::digest(&[1; 16])].concat());
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    std::fs::File::create(scratch.write("out/large.bin", b"")).unwrap().set_len(size).unwrap();
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_until("the comparison, in GiB with two decimals", |shown| {
        let numbers = shown.strip_prefix("large.bin  comparing ");
        numbers.is_some_and(|numbers| numbers.contains(" of 50.00 GiB ") && numbers.ends_with("TIME left\n"))
    });
    running.finish_after(Signal::INT).exits(130);
}

/// All that is new comes within two seconds, and what an earlier run has fetched takes ten to be compared with its journal:
/// no time says less while the rest comes, and it is plain what is done then.
#[test]
fn a_check_that_takes_longer_than_the_transfer() {
    const FIRST: usize = 40_000_000;
    const LAST: usize = 100_000;
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    let quirks = Quirks { read_time: Duration::from_millis(40), ..Quirks::none() };
    let Some(fuse) = Fuse::mount(&scratch, "slow", quirks) else { return };
    let body = content(1, 42_000_000);
    let server = ScriptedServer::of_any_version(move |_, stream| {
        let Some(get) = Get::read(stream) else { return };
        let about = wire2::File::of(&body);
        let offset = if get.version == about.version { usize::try_from(get.offset).unwrap() } else { 0 };
        let mut send = |bytes: &[u8]| stream.write_all(bytes).is_ok();
        let is_begun = send(&wire2::File { offset: offset as u64, ..about }.bytes());
        if offset == 0 {
            let _ = is_begun && send(&wire2::data(&body[..FIRST]));
            return hold(stream);
        }
        let (at_once, slowly) = body[offset..].split_at(body.len() - LAST - offset);
        let _ = send(&wire2::data(at_once))
            && slowly.chunks(LAST / 100).all(|bytes| {
                std::thread::sleep(Duration::from_millis(20));
                send(&wire2::data(bytes))
            })
            && send(&wire2::digest(&content::digest(wire2::MD5, &body)));
        hold(stream);
    });
    let get = |screen: &Screen| {
        let program = Program::xfer(&scratch).on(screen).args(["get", "large.bin", "--timeout", "60", "-d"]);
        program.arg(fuse.folder()).arg("-H").arg(server.addr.to_string()).log_file(scratch.path("client.log")).spawn()
    };
    let running = get(&Screen::new(80));
    let part = fuse.path(".large.bin.xfer-part");
    wait_for("a part", || std::fs::metadata(&part).is_ok_and(|part| part.len() > FIRST as u64 - (1 << 20)));
    running.finish_after(Signal::INT).exits(130);
    let running = get(&screen);
    screen.wait_until("the check", |shown| {
        let bar = shown.lines().last().unwrap_or_default();
        let check = bar.strip_prefix("large.bin  checking ");
        check.is_some_and(|check| check.contains(" MiB of 32.0 MiB ") && check.ends_with("TIME left"))
    });
    let raw = screen.raw();
    for drawn in raw.split('\r').take_while(|drawn| !drawn.contains("checking")) {
        let left = drawn.trim().strip_suffix(" s left").and_then(|drawn| drawn.rsplit(' ').next());
        let is_honest = left.is_none_or(|seconds| seconds.parse::<u32>().unwrap() >= 5);
        assert!(is_honest, "the check takes longer: {drawn}");
    }
    running.finish_after(Signal::INT).exits(130);
}

/// From the first second on, in the pauses and in all attempts, until the first byte.
#[test]
fn a_server_that_does_not_answer() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(120));
    let body = content(1, WHOLE);
    let (gate_of_server, body_of_server) = (gate.clone(), body.clone());
    let server = ScriptedServer::of_any_version(move |_, stream| {
        let Some(get) = Get::read(stream) else { return };
        if !gate_of_server.is_open(1) {
            return hold(stream);
        }
        let _ = stream.write_all(&wire2::honest_reply(&get, &body_of_server));
    });
    let program =
        Program::xfer(&scratch).on(&screen).args(["get", "dir/large.bin", "-d", "out", "--no-sync", "--no-log"]);
    let running = program.args(["--timeout", "3", "-H"]).arg(server.addr.to_string()).spawn();
    let waiting = format!("large.bin  waiting for {} to answer, TIME\n", server.addr);
    screen.wait_for_picture(&waiting);
    let why = format!("xfer: {} did not reply within TIME (is this an xfer server? check the port)", server.addr);
    let first = format!("{why}; retrying in TIME (attempt 2 of 5)\n");
    screen.wait_for_picture(&format!("{first}large.bin  attempt 2 of 5 in TIME\n"));
    screen.wait_for_picture(&format!("{first}{waiting}"));
    let second = format!("{first}xfer: {} did not reply within TIME; retrying in TIME (attempt 3 of 5)\n", server.addr);
    screen.wait_for_picture(&format!("{second}large.bin  attempt 3 of 5 in TIME\n"));
    let drawn = screen.raw();
    assert!(drawn.contains("large.bin  attempt 3 of 5 in 2 s"), "it counts down: {drawn}");
    gate.open(1);
    running.finish().exits(0);
    screen.wait_for_picture(&format!("{second}{}", saved("large.bin", &body, "10.0 MiB")));
    assert!(screen.raw().contains("large.bin  attempt 3 of 5 in 1 s"), "it counts down: {:?}", screen.raw());
}

#[test]
fn a_server_that_takes_no_connection() {
    let (listener, _queued) = full_listener();
    let addr = listener.local_addr().unwrap();
    for (columns, picture) in [(80, format!("connecting to {addr}, TIME\n")), (20, String::from("connecting, TIME\n"))]
    {
        let (scratch, screen) = (Scratch::new(), Screen::new(columns));
        let program = Program::xfer(&scratch).on(&screen).args(["get", "a", "-d", "out", "--no-log", "-H"]);
        let running = program.arg(addr.to_string()).spawn();
        screen.wait_for_picture(&picture);
        running.finish_after(Signal::INT).exits(130);
    }
}

#[test]
fn a_server_that_does_not_answer_for_any_of_many_files() {
    let (scratch, screen) = (Scratch::new(), Screen::new(80));
    let names: Vec<String> = (0..300).map(|number| format!("f{number:03}")).collect();
    scratch.write("list", names.join("\n").as_bytes());
    let server = silent_after(Vec::new());
    let running = get_on(&screen, &scratch, &server, &["--from-file", "list"]).spawn();
    screen.wait_for_picture(&format!("  0 of 300  waiting for {} to answer, TIME\n", server.addr));
    running.finish_after(Signal::INT).exits(130);
}

/// Whoever is answered within a second sees none of it.
#[test]
fn a_quick_run_does_not_wait() {
    for names in [&["a"][..], &["a", "b"]] {
        let (scratch, screen) = (Scratch::new(), Screen::new(80));
        names.iter().for_each(|name| drop(scratch.share(name, &content(1, WHOLE))));
        let server = Server::of(&scratch);
        let program = Program::xfer(&scratch).on(&screen).args(["get", "-d", "out", "--no-log", "-H"]);
        program.arg(server.addr.to_string()).args(names).run().exits(0);
        screen.wait_for("saved out/a");
        let raw = screen.raw();
        ["waiting", "connecting", "attempt"].iter().for_each(|word| assert!(!raw.contains(word), "{word}: {raw:?}"));
        server.stop();
    }
}

/// A full bar would say that all is done.
#[test]
fn a_bar_is_full_only_at_the_end() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let (body, gate_of_server) = (content(1, WHOLE), gate.clone());
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let sent = send_slowly(stream, &get, &body, WHOLE - WHOLE / 64, &gate_of_server);
            if sent.is_none() {
                return;
            }
        }
    });
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for_picture("large.bin  98% 9.8 MiB of 10.0 MiB    [============>]      SPEED/s    TIME left\n");
    gate.open(2);
    running.finish().exits(0);
}

#[test]
fn ctrl_c_in_the_middle() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let server = slow_server(content(1, WHOLE), &gate);
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).spawn();
    screen.wait_for("SPEED/s");
    screen.press(b"\x03");
    running.finish().exits(130);
    screen.wait_until("one line, and no bar", |last| {
        last.starts_with("xfer: stopped by Ctrl-C (SIGINT): 'large.bin' not saved; ") && last.lines().count() == 1
    });
}

/// A shell has the screen, and what is drawn there would be in the middle of what somebody types.
#[test]
fn in_the_background_nothing_is_drawn() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let body = content(1, WHOLE);
    let server = slow_server(body.clone(), &gate);
    let job = "set -m; \"$0\" \"$@\" & read line; fg >/dev/null; exit";
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).after(job).spawn();
    running.wait_for_log("attempt 1");
    wait_for("a part", || {
        std::fs::metadata(scratch.out().join(".large.bin.xfer-part")).is_ok_and(|part| part.len() >= PART as u64)
    });
    // Longer than between two drawings.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(screen.raw(), "", "nothing in the background");
    screen.press(b"\n");
    screen.wait_for("large.bin  40% 4.0 MiB of 10.0 MiB    [=====>-------]      SPEED/s    TIME left\n");
    gate.open(2);
    running.finish().exits(0);
    screen.wait_for(&saved("large.bin", &body, "10.0 MiB"));
    screen.wait_until("no bar", |last| !last.contains('['));
}

/// The bar was on the screen when Ctrl-Z gave that to the shell: a line that is printed before the bar is due again neither
/// erases what the shell has written since, nor brings the bar back.
#[test]
fn a_line_in_the_background_leaves_the_screen_alone() {
    let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
    let server = slow_server(content(1, WHOLE), &gate);
    let job =
        "set -m; \"$0\" \"$@\"; echo STOPPED; kill -USR1 %1; bg >/dev/null; read line; echo BACK; fg >/dev/null; exit";
    let running = get_on(&screen, &scratch, &server, &["large.bin"]).after(job).spawn();
    screen.wait_for("SPEED/s");
    // From now on nothing comes that would have the bar drawn.
    gate.open(1);
    screen.wait_for(" stalled");
    screen.press(b"\x1a");
    screen.wait_for("receiving 'large.bin': ");
    screen.press(b"\n");
    screen.wait_for("BACK");
    screen.wait_until("the bar again", |last| last.trim_end().lines().last().is_some_and(|line| line.contains('[')));
    let raw = screen.raw();
    let (_, after) = raw.split_once("STOPPED").unwrap();
    let (background, _) = after.split_once("BACK").unwrap();
    assert!(!background.contains("[=") && !background.contains(&" ".repeat(40)), "{background:?}");
    gate.open(2);
    running.finish().exits(0);
}

/// The file itself has the screen.
#[test]
fn a_file_to_the_terminal_has_no_bar() {
    let lines = "line of text\n".repeat(20);
    for target in ["-", "/dev/tty", "/dev/stdout"] {
        for progress in ["auto", "always"] {
            let (scratch, screen) = (Scratch::new(), Screen::new(80));
            let body = lines.clone().into_bytes();
            let server = ScriptedServer::answering_gets(move |_, get| wire2::honest_reply(get, &body));
            let program = Program::xfer(&scratch).on(&screen).args(["get", "a", "-o", target, "--progress", progress]);
            program.args(["--no-log", "-H"]).arg(server.addr.to_string()).run().exits(0);
            screen.wait_for("verified");
            let drawn = screen.raw().replace("\r\n", "\n");
            assert!(drawn.starts_with(&lines) && !drawn.contains('\r'), "{drawn:?}");
        }
    }
}

#[test]
fn quiet_and_never_draw_nothing() {
    for words in [["-q", "a"].as_slice(), &["--progress", "never", "-q", "a"]] {
        let (scratch, gate, screen) = (Scratch::new(), Gate::default(), Screen::new(80));
        let server = slow_server(content(1, WHOLE), &gate);
        let running = get_on(&screen, &scratch, &server, words).spawn();
        running.wait_for_log("attempt 1");
        gate.open(2);
        running.finish().exits(0);
        assert_eq!(screen.raw(), "");
    }
}
