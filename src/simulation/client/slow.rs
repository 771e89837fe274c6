//! Servers that are slow, of bad will or with good reason, in virtual time: the first are left within the limits that
//! xfer-get(1) states, the others are not.

use std::iter::{once, repeat_n};

use super::*;
use crate::proto::v1;
use crate::proto::v2::{self, File};
use crate::simulation::Chance;
use origin::{Content, Script, digest};

/// Runs of each test.
const SEEDS: u64 = 20;

/// Just within `--timeout`.
const NINE: Duration = Duration::from_secs(9);

/// How often a server says WAIT.
const SECOND: Duration = Duration::from_secs(1);

/// The two minutes of a slow server, which may end with a silence, the one in which that is seen, and the answer before.
const BOUND: Duration = Duration::from_secs(120 + 10 + 10 + 10);

/// What a run came to, how long it took, and what was printed.
struct Outcome {
    exit: ExitCode,
    took: Duration,
    printed: String,
}

/// A machine whose server has a file of this size, and says this instead of what it should.
fn machine(dice: &Dice, len: usize, script: Script) -> Machine {
    let mut origin = Origin::new(Kind::New, dice.clone());
    origin.script = Some(script);
    origin.rewrite(b"a", vec![7; len]);
    let mut machine = Machine::new(dice.clone(), Disk::new(Path::new(FOLDER), dice.clone()), origin, |_| ());
    machine.jumps = 0;
    machine
}

/// Fetches the file in one attempt.
fn fetch(machine: Machine, v1: bool) -> Outcome {
    fetch_in(machine, 1, v1)
}

fn fetch_in(mut machine: Machine, attempts: u32, v1: bool) -> Outcome {
    let setting = Setting {
        names: vec![b"a".to_vec()],
        old: BTreeMap::new(),
        algorithm: Algorithm::Md5,
        sync: true,
        resume: true,
        kind: Kind::New,
    };
    let config = GetConfig { v1, ..config(&setting, attempts, Existing::Compare) };
    let started = machine.now;
    let (ended, end) = get(machine, &config);
    machine = ended;
    let End::Returned(exit) = end else { panic!("nobody ends it by force") };
    let printed = String::from_utf8_lossy(&machine.printed).into_owned();
    Outcome { exit, took: machine.now - started, printed }
}

fn each_seed(one: impl Fn(&Dice)) {
    for seed in 0..SEEDS {
        Dice::lend(&mut Chance::new(seed), &one);
    }
}

/// The server is left in time, and the line says why and where.
fn assert_left(len: usize, script: Script, v1: bool, is_there: bool, when: &str) {
    each_seed(|dice| {
        let mut machine = machine(dice, len, script);
        if is_there {
            machine.disk.put(&target(b"a"), &vec![7; len]);
        }
        let Outcome { exit, took, printed } = fetch(machine, v1);
        let why = format!("was slower than 500 bytes/s for 120 s {when}");
        assert!(exit == ExitCode::Network && printed.contains(&why), "{exit:?} after {took:?}: {printed}");
        assert!(took <= BOUND, "{took:?}: {printed}");
    });
}

fn assert_waited_for(len: usize, script: Script, v1: bool, jumps: u32) {
    each_seed(|dice| {
        let mut machine = machine(dice, len, script);
        machine.jumps = jumps;
        let Outcome { exit, took, printed } = fetch(machine, v1);
        assert!(exit == ExitCode::Done, "{exit:?} after {took:?}: {printed}");
    });
}

fn now(piece: Vec<u8>) -> impl Iterator<Item = (Duration, Vec<u8>)> {
    once((Duration::ZERO, piece))
}

fn file(content: &Content) -> Vec<u8> {
    let mut out = Vec::new();
    let about = File {
        size: content.bytes.len() as u64,
        offset: 0,
        mtime: content.mtime,
        mode: 0o644,
        version: content.version(),
        algorithm: Algorithm::Md5,
        sizes_differ: false,
        digest: None,
    };
    v2::encode_file(&about, &mut out);
    out
}

fn header(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode_data_header(len, &mut out);
    out
}

fn data(bytes: &[u8]) -> Vec<u8> {
    [&header(bytes.len()), bytes].concat()
}

fn wait(done: u64, total: u64) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode_wait(done, total, &mut out);
    out
}

fn end(content: &Content) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode_digest(&digest(Algorithm::Md5, &content.bytes), &mut out);
    out
}

fn head_v1(content: &Content) -> Vec<u8> {
    let mut head = v1::Head::new(b"a", content.bytes.len() as u64);
    head.push_digest(&digest(Algorithm::Md5, &content.bytes));
    head.bytes
}

/// WAIT without end, each saying so much more than the one before.
fn waits(pause: Duration, step: u64) -> impl Iterator<Item = (Duration, Vec<u8>)> {
    (1..).map(move |number| (pause, wait(number * step, 1 << 40)))
}

#[test]
fn a_byte_now_and_then_ends() {
    assert_left(
        20_000,
        |content| {
            let begin = [file(content), header(20_000)].concat();
            Box::new(now(begin).chain(repeat_n((NINE, vec![7]), 20_000)))
        },
        false,
        false,
        "after 15 bytes of 19.5 KiB",
    );
    // Frames of a byte, twice a second.
    assert_left(
        20_000,
        |content| Box::new(now(file(content)).chain(repeat_n((Duration::from_millis(500), data(&[7])), 20_000))),
        false,
        false,
        "after 2",
    );
    assert_left(
        20_000,
        |content| Box::new(now(head_v1(content)).chain(repeat_n((NINE, vec![7]), 20_000))),
        true,
        false,
        "after 15 bytes of 19.5 KiB",
    );
}

#[test]
fn waits_that_count_bytes_end_wherever_they_come() {
    // Before FILE, behind it, between DATA, and behind the last one.
    assert_left(1000, |_| Box::new(waits(NINE, 1)), false, false, "before replying");
    assert_left(
        1000,
        |content| Box::new(now(file(content)).chain(waits(NINE, 1))),
        false,
        false,
        "after 0 bytes of 1000",
    );
    assert_left(
        1000,
        |content| Box::new(now([file(content), data(&[7; 10])].concat()).chain(waits(NINE, 1))),
        false,
        false,
        "after 10 bytes of 1000",
    );
    assert_left(
        1000,
        |content| Box::new(now([file(content), data(&[7; 1000])].concat()).chain(waits(NINE, 1))),
        false,
        false,
        "after 1000 bytes of 1000",
    );
    // Instead of a digest.
    assert_left(
        1000,
        |content| Box::new(now(file(content)).chain(waits(NINE, 1))),
        false,
        true,
        "before sending the digest",
    );
}

/// Much is said to be done while bytes are due, or beyond all that there is to do.
#[test]
fn waits_that_count_what_cannot_be_done_end() {
    assert_left(
        20_000,
        |content| Box::new(now([file(content), data(&[7; 10])].concat()).chain(waits(SECOND, 1000))),
        false,
        false,
        "after 10 bytes of 19.5 KiB",
    );
    assert_left(
        1000,
        |content| Box::new(now([file(content), data(&[7; 1000])].concat()).chain(waits(SECOND, 1 << 20))),
        false,
        false,
        "after 1000 bytes of 1000",
    );
}

/// 520 bytes a second for three minutes, also for a client that is suspended now and then.
#[test]
fn a_slow_line_is_waited_for() {
    let script: Script = |content| {
        let pieces = repeat_n((Duration::from_millis(250), data(&[7; 130])), 100_100 / 130);
        Box::new(now(file(content)).chain(pieces).chain(now(end(content))))
    };
    for jumps in [0, 1, 40] {
        assert_waited_for(100_100, script, false, jumps);
    }
    let script: Script = |content| {
        let pieces = repeat_n((Duration::from_millis(250), vec![7; 130]), 100_100 / 130);
        Box::new(now(head_v1(content)).chain(pieces))
    };
    for jumps in [0, 1, 40] {
        assert_waited_for(100_100, script, true, jumps);
    }
}

/// A disk that spins up, and once more for the digest: our server says WAIT for it for 40 s, a number more each time.
#[test]
fn a_disk_that_spins_up_is_waited_for() {
    assert_waited_for(
        1000,
        |content| {
            let waits = |from: u64| (from..from + 40).map(|done| (SECOND, wait(done, 1000)));
            let begin = now(file(content)).chain(waits(1));
            Box::new(begin.chain(now(data(&[7; 1000]))).chain(waits(41)).chain(now(end(content))))
        },
        false,
        1,
    );
}

/// A server with so many digests to make that this one gets 600 bytes a second.
#[test]
fn a_digest_that_takes_its_time_is_waited_for() {
    assert_waited_for(
        200_000,
        |content| {
            let hashed = (1..=200_000 / 5400).map(|number| (NINE, wait(number * 5400, 200_000)));
            let begin = now([file(content), data(&[7; 200_000])].concat());
            Box::new(begin.chain(hashed).chain(now(end(content))))
        },
        false,
        1,
    );
}

/// A machine with a file of this size, whose line dies after every frame of so many bytes.
fn dying_machine(dice: &Dice, len: usize, frame: usize) -> Machine {
    let mut machine = machine(dice, len, |_| Box::new(std::iter::empty()));
    machine.origin.script = None;
    machine.origin.dies_after = Some((1, frame));
    machine
}

/// However often a line dies, what comes each time is enough: far more attempts than five. (A simulated connection may take
/// all of its 10 s.)
#[test]
fn a_line_that_dies_again_and_again_brings_the_file() {
    each_seed(|dice| {
        let Outcome { exit, took, printed } = fetch_in(dying_machine(dice, 160_000, 8000), 5, false);
        assert!(exit == ExitCode::Done, "{exit:?} after {took:?}: {printed}");
        assert!(printed.matches("; retrying in ").count() >= 19, "{printed}");
    });
}

/// A byte more each time is progress for two minutes, and then the attempts run out.
#[test]
fn a_byte_an_attempt_ends() {
    each_seed(|dice| {
        let Outcome { exit, took, printed } = fetch_in(dying_machine(dice, 20_000, 1), 5, false);
        assert!(exit == ExitCode::Network && printed.contains("(gave up after 5 attempts"), "{exit:?}: {printed}");
        // Each of the last five may bring its byte late, as the others did.
        assert!(took <= Duration::from_secs(120) + 5 * BOUND, "{took:?}: {printed}");
        assert!(printed.contains("; kept "), "{printed}");
    });
}
