//! Thousands of slow and hostile connections, and a normal transfer beside them: what it costs that one, and what they
//! cost the server.

mod crowd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::logfile;
use crate::harness::{Program, Scratch, Server, content, get, md5_hex, process, serve};
use crate::table::{Line, number};
use crate::torture::Torture;
use crate::trial::{Verdict, again, attempt};
use crowd::{Crowd, Kind};

/// Strangers of each kind.
const STRANGERS: usize = 500;

/// How long they stay in a full run.
const HOLD: Duration = Duration::from_secs(60);

/// Bytes of the file that the normal client fetches.
const SIZE: usize = 100_000_000;

/// What a transfer beside strangers may take, for each second that it takes alone.
const RATIO_MAX: f64 = 1.2;

/// What the server may hold in memory, in KiB.
const MEMORY_MAX_KIB: u64 = 50 * 1024;

/// Pairs of transfers at least, so that there is a middle one; and at most, where the middle one is over the limit: on a
/// machine that does other things, too, a few pairs say little.
const PAIRS_MIN: usize = 5;
const PAIRS_MAX: usize = 31;

/// What came of one crowd.
struct Held {
    ratios: Vec<f64>,
    peak_kib: u64,
    opened: u64,
    reasons: BTreeMap<String, usize>,
}

pub fn run(torture: &Torture) -> Vec<Line> {
    Kind::ALL.into_iter().filter(|kind| torture.wants(kind.name())).map(|kind| against(torture, kind)).collect()
}

fn against(torture: &Torture, kind: Kind) -> Line {
    let hold = if torture.all { HOLD } else { torture.share / Kind::ALL.len() as u32 };
    let mut line = Line::of(format!("{STRANGERS} connections: {}", kind.fault()));
    let mut held = Vec::new();
    let verdict = attempt(&again("strangers", torture.seed, kind.name()), || held.push(beside(kind, hold)));
    let Some(held) = held.pop() else {
        line.count(verdict);
        return line;
    };
    line.tried = held.opened;
    let ratio = median(&held.ratios);
    let is_good = ratio <= RATIO_MAX && held.peak_kib <= MEMORY_MAX_KIB;
    if !is_good {
        eprintln!(
            "VIOLATION: {ratio:.2} times as long, {} KiB; to see it again: {}",
            held.peak_kib,
            again("strangers", torture.seed, kind.name())
        );
    }
    line.wrong = u64::from(!is_good || verdict != Verdict::Good);
    let reasons: Vec<_> =
        held.reasons.iter().map(|(reason, count)| format!("{reason} ({})", number(*count as u64))).collect();
    line.note(format!(
        "a transfer of 100 MB beside them took {ratio:.2} times as long as without them (median of {} pairs, {:.2} to \
         {:.2}), and the server used at most {:.1} MiB. Close reasons: {}.",
        held.ratios.len(),
        held.ratios.iter().copied().fold(f64::INFINITY, f64::min),
        held.ratios.iter().copied().fold(0.0, f64::max),
        held.peak_kib as f64 / 1024.0,
        reasons.join(", "),
    ))
}

/// Holds a crowd for a while, and fetches a file beside it and alone, in turn.
fn beside(kind: Kind, hold: Duration) -> Held {
    let (scratch, alone) = (Scratch::new(), Scratch::new());
    let body = content(8, SIZE);
    scratch.share("a", &body);
    let memory = Scratch::in_memory();
    let crowded = Server::start(with_room(serve(&scratch)));
    // The same files, and nobody but us.
    let quiet = Server::start(serve(&scratch).log_file(alone.path("server.log")));
    let (active, ended, opened) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let mut ratios = Vec::new();
    std::thread::scope(|scope| {
        let mut crowd = Crowd::gather(kind, crowded.addr, STRANGERS);
        let guard = EndsOnDrop(&ended);
        let (active, ended, opened) = (&active, &ended, &opened);
        scope.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                // Quiet while the other server is measured: it costs this machine something, too.
                if active.load(Ordering::SeqCst) {
                    crowd.turn();
                }
                std::thread::sleep(crowd::TURN);
            }
            opened.store(crowd.opened(), Ordering::SeqCst);
        });
        let digest = md5_hex(&body);
        let time = |addr| fetch(&memory, addr, &digest);
        time(quiet.addr);
        let until = Instant::now() + hold;
        let is_unclear = |ratios: &[f64]| ratios.len() < PAIRS_MAX && median(ratios) > RATIO_MAX;
        while ratios.len() < PAIRS_MIN || Instant::now() < until || is_unclear(&ratios) {
            let without = time(quiet.addr);
            active.store(true, Ordering::SeqCst);
            let with = time(crowded.addr);
            // They go on for a while as they are, or nothing would come of a byte a second.
            std::thread::sleep(Duration::from_millis(500).min(until.saturating_duration_since(Instant::now())));
            active.store(false, Ordering::SeqCst);
            ratios.push(with.as_secs_f64() / without.as_secs_f64());
        }
        drop(guard);
    });
    let peak_kib = process::peak_resident_kib(crowded.pid());
    quiet.stop();
    let log = crowded.stop().log;
    logfile::assert_each_connection_closed_once(&log);
    let mut reasons = BTreeMap::new();
    for reason in logfile::reasons(&log) {
        *reasons.entry(reason).or_insert(0) += 1;
    }
    Held { ratios, peak_kib, opened: opened.into_inner(), reasons }
}

/// Lets the other thread end, also when this one fails.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One whole transfer, from the start of the program to its end.
fn fetch(memory: &Scratch, addr: SocketAddr, digest: &str) -> Duration {
    let _ = std::fs::remove_dir_all(memory.out());
    let outcome = get(memory, addr).arg("a").run();
    outcome.exits(0).stderr_has(digest);
    outcome.elapsed
}

/// Lets all of them in, where the server would take only so many from one address.
fn with_room(program: Program) -> Program {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_xfer")).args(["serve", "--help"]).output();
    let help = help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match help.contains("--max-conns-per-ip") {
        true => program.args(["--max-conns-per-ip", &(4 * STRANGERS).to_string()]),
        false => program,
    }
}

fn median(ratios: &[f64]) -> f64 {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::INFINITY)
}
