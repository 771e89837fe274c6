//! Every system call of a transfer, failed with every error, on either end; in the manner of curl's torture tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::calls::{Calls, LEFT_OUT, can_fail_with};
use crate::harness::wait::{PATIENCE, look_until};
use crate::harness::{Outcome, Program, Running, Scratch, Server, content, get, md5_hex, serve};
use crate::strace;
use crate::table::{Line, number};
use crate::torture::Torture;
use crate::transfer::{NAME, OLD, assert_fits, assert_never_wrong};
use crate::trial::{again, attempt, or_lost};
use crate::{harness, lanes};

const ERRORS: [&str; 7] = ["EINTR", "EAGAIN", "EIO", "ENOSPC", "EMFILE", "ENOMEM", "ECONNRESET"];

/// Bytes of the file.
const SIZE: usize = 10_000_000;

/// What a plain client fetches to see whether the server still serves: little, since its calls are failed, too.
const SMALL: &str = "small";
const SMALL_SIZE: usize = 1000;

/// Numbers differ from run to run, as threads and packets meet: the most of so many runs.
const COUNTING_RUNS: usize = 3;

/// How long a server may take to end after a signal, beside the second that it leaves its clients.
const SIGNAL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(4);

/// Exit codes of a client that may end so when one of its own calls fails: done, the network, its own disk.
const CLIENT_CODES: [i32; 3] = [0, 3, 5];

/// And when one of the server's fails: done, refused, the network.
const SERVER_CODES: [i32; 3] = [0, 1, 3];

/// Whose calls are failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Client,
    /// Those on the paths of the target, its part, its journal and their folder: there the loader's do not count.
    ClientFiles,
    Server,
}

impl End {
    const ALL: [End; 3] = [End::Client, End::ClientFiles, End::Server];

    fn name(self) -> &'static str {
        match self {
            End::Client => "client",
            End::ClientFiles => "files",
            End::Server => "server",
        }
    }

    fn fault(self) -> &'static str {
        match self {
            End::Client => "a system call of the client fails",
            End::ClientFiles => "a system call on the client's own files fails",
            End::Server => "a system call of the server fails",
        }
    }
}

/// One call to be failed.
struct Job {
    end: End,
    call: String,
    error: &'static str,
    k: usize,
}

impl Job {
    fn name(&self) -> String {
        format!("{}:{}:{}:{}", self.end.name(), self.call, self.error, self.k)
    }
}

/// What a lane works with: a server that nothing is done to, and room on a disk and in memory.
struct Lane {
    disk: Scratch,
    memory: Scratch,
    server: Server,
    body: Vec<u8>,
    runs: usize,
}

impl Lane {
    fn new() -> Lane {
        let (disk, memory) = (Scratch::new(), Scratch::in_memory());
        let body = content(3, SIZE);
        disk.share(NAME, &body);
        disk.share(SMALL, &content(4, SMALL_SIZE));
        let server = Server::of(&disk);
        Lane { disk, memory, server, body, runs: 0 }
    }

    fn report(&self) -> PathBuf {
        self.memory.path("strace.txt")
    }

    fn reported(&self) -> String {
        self.memory.text("strace.txt")
    }

    /// A client that is patient with faults, but not for long.
    fn client(&self, addr: SocketAddr) -> Program {
        get(&self.memory, addr).args(["--retries", "8", "--max-backoff", "0.01", "--timeout", "1"])
    }

    /// Puts the folder in order for the next run, every other one with an old file of that name.
    fn prepare(&mut self) -> bool {
        self.runs += 1;
        let out = self.memory.out();
        let _ = fs::remove_dir_all(&out);
        let has_old = self.runs.is_multiple_of(2);
        // Its folder is there in one of the others.
        if has_old || self.runs % 4 == 1 {
            fs::create_dir(&out).expect("a directory can be made");
        }
        if has_old {
            fs::write(out.join(NAME), OLD).expect("an old file can be written");
        }
        let _ = fs::remove_file(self.report());
        has_old
    }

    fn traced(&self, end: End, options: &str) -> String {
        let out = self.memory.out();
        let paths = ["", "a", ".a.xfer-part", ".a.xfer-part.state"].map(|name| match name {
            "" => out.clone(),
            name => out.join(name),
        });
        let on_files = if end == End::ClientFiles { strace::only_on(&paths) } else { String::new() };
        // A filter by paths needs to see every call.
        let options = if end == End::ClientFiles { options.replace("--seccomp-bpf ", "") } else { options.to_owned() };
        strace::before(&format!("{on_files}{options}"), &self.report())
    }

    /// A transfer in which the calls of one end go through strace.
    fn run(&mut self, end: End, options: &str) {
        let has_old = self.prepare();
        let line = self.traced(end, options);
        match end {
            End::Server => self.run_server(&line, has_old),
            End::Client | End::ClientFiles => {
                let outcome = self.client(self.server.addr).arg(NAME).after(&line).run();
                self.check(&outcome, has_old, &CLIENT_CODES);
            }
        }
        self.finish();
    }

    fn run_server(&self, line: &str, has_old: bool) {
        let log = self.memory.path("torn.log");
        let _ = fs::remove_file(&log);
        let program = serve(&self.disk).args(["--drain", "1"]).log_file(&log).after(line);
        let (mut running, addr) = match start(program) {
            Ok(started) => started,
            // It says why it does not serve, and nobody has been promised anything.
            Err(outcome) => {
                outcome.exits(1).has_one_error_line().stderr_lacks("internal error");
                return;
            }
        };
        let outcome = self.client(addr).arg(NAME).run();
        self.check(&outcome, has_old, &SERVER_CODES);
        assert!(!running.has_ended(), "the server has ended\n{}", outcome.report());
        let mut plain = self.plain(addr);
        if matches!(plain.status.code(), Some(1 | 3)) {
            // The call that failed was made for this one; the next has nothing to do with it.
            plain.has_one_error_line();
            plain = self.plain(addr);
        }
        plain.exits(0).assert(plain.stdout == content(4, SMALL_SIZE), "the server still serves what is right");
        assert!(!running.has_ended(), "the server has ended\n{}", plain.report());
        running.signal(Signal::TERM);
        if look_until(SIGNAL_PATIENCE, || running.has_ended().then_some(())).is_none() {
            // The call that failed was the one by which the first signal wakes the loop.
            running.signal(Signal::TERM);
        }
        running.finish().exits(0).stderr_lacks("internal error");
    }

    /// A client that nothing was done to.
    fn plain(&self, addr: SocketAddr) -> Outcome {
        let plain = Program::xfer(&self.memory).args(["get", SMALL, "-q", "-o", "-", "-H"]).arg(addr.to_string());
        plain.args(["--no-log", "--timeout", "1", "--retries", "8", "--max-backoff", "0.01"]).run()
    }

    fn check(&self, outcome: &Outcome, has_old: bool, codes: &[i32]) {
        let is_right = assert_never_wrong(&self.memory.out(), has_old, &self.body, &|| outcome.report());
        assert_fits(outcome, codes, is_right, &self.body);
    }

    /// A plain run must end with the file, whatever lies there.
    fn finish(&self) {
        let out = self.memory.out();
        or_lost(|| {
            let outcome = get(&self.memory, self.server.addr).arg(NAME).run();
            outcome.exits(0).stderr_has(&md5_hex(&self.body));
            outcome.assert(fs::read(out.join(NAME)).is_ok_and(|now| now == self.body), "the file that is served");
            outcome.assert(self.memory.names("out") == [NAME], "nothing else is left");
        });
    }
}

/// Waits until a server listens; the other way is that it has ended.
fn start(program: Program) -> Result<(Running, SocketAddr), Outcome> {
    let mut running = program.spawn();
    let addr = look_until(PATIENCE, || {
        let listens = String::from_utf8_lossy(&running.stdout()).into_owned();
        let serves = running.stderr() + &running.log();
        // If the write that fails is that of the one, there is the other.
        let said = listens.strip_prefix("listening on ").and_then(|addr| addr.strip_suffix('\n'));
        let said = said.or_else(|| Some(serves.split_once(" on ")?.1.split_once(": whoever")?.0));
        let addr = said.and_then(|addr| addr.parse().ok());
        addr.map(Some).or_else(|| running.has_ended().then_some(None))
    });
    match addr.unwrap_or_else(|| panic!("a server that neither listens nor ends")) {
        Some(addr) => Ok((running, addr)),
        None => Err(running.finish()),
    }
}

/// The calls of one end to be failed, each with each error.
fn jobs_of(lane: &mut Lane, end: End) -> (Vec<Job>, usize) {
    let mut most: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut total = 0;
    for _ in 0..COUNTING_RUNS {
        lane.run(end, "");
        let calls = Calls::of(&lane.reported());
        total = total.max(calls.total());
        for (name, numbers) in calls.numbers() {
            let (first, last) = most.entry(name.to_owned()).or_insert((*numbers.start(), 0));
            (*first, *last) = ((*first).min(*numbers.start()), (*last).max(*numbers.end()));
        }
    }
    let mut jobs = Vec::new();
    for (call, (first, last)) in most {
        for k in first..=last {
            let errors = ERRORS.into_iter().filter(|error| can_fail_with(&call, error));
            jobs.extend(errors.map(|error| Job { end, call: call.clone(), error, k }));
        }
    }
    (jobs, total)
}

pub fn run(torture: &Torture) -> Vec<Line> {
    if let Some(why) = strace::missing() {
        return vec![Line::missing("a system call fails", why)];
    }
    let mut lines = Vec::new();
    let mut jobs = Vec::new();
    let mut lane = Lane::new();
    for end in End::ALL {
        let mut found = Vec::new();
        let counted = attempt(&again("syscalls", torture.seed, ""), || found.push(jobs_of(&mut lane, end)));
        let mut line = Line::of(end.fault());
        if let Some((of_end, total)) = found.pop() {
            line.of = Some(of_end.len() as u64);
            let names: std::collections::BTreeSet<_> = of_end.iter().map(|job| job.call.as_str()).collect();
            let names: Vec<_> = names.into_iter().collect();
            line = line.note(format!("{} system calls in a run: {}.", number(total as u64), names.join(", ")));
            jobs.extend(of_end);
        } else {
            line.count(counted);
        }
        lines.push(line);
    }
    drop(lane);
    spread(&mut jobs, torture.seed);
    jobs.retain(|job| torture.wants(&job.name()));
    fail_each(torture, &jobs, &mut lines);
    let left_out: Vec<_> = LEFT_OUT.iter().map(|(names, why)| format!("{}: {why}", names.join(", "))).collect();
    let last = lines.pop().map(|line| line.note(format!("Not tried, on both ends: {}.", left_out.join("; "))));
    lines.extend(last);
    lines
}

fn fail_each(torture: &Torture, jobs: &[Job], lines: &mut Vec<Line>) {
    let shared = Mutex::new(&mut *lines);
    let hits = [const { AtomicUsize::new(0) }; End::ALL.len()];
    let index_of = |job: &Job| End::ALL.iter().position(|end| *end == job.end).unwrap_or(0);
    lanes::run(
        jobs,
        torture.end(),
        |_| Lane::new(),
        |lane, job| {
            let options = strace::failing(&job.call, job.error, job.k);
            let verdict = attempt(&again("syscalls", torture.seed, &job.name()), || lane.run(job.end, &options));
            hits[index_of(job)].fetch_add(lane.reported().matches("(INJECTED)").count(), Ordering::Relaxed);
            shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index_of(job)].count(verdict);
        },
    );
    for (line, hits) in lines.iter_mut().zip(hits) {
        let hits = number(hits.into_inner() as u64);
        line.notes
            .push(format!("{hits} calls were failed: none in a run that made fewer of a kind than the longest one."));
    }
}

/// Puts jobs into an order in which each call has had its turn before any has another: whatever time there is, it is
/// spent on all of them alike.
fn spread(jobs: &mut Vec<Job>, seed: u64) {
    let mut random = harness::content::Random::new(seed);
    let mut turns: BTreeMap<(End, String), usize> = BTreeMap::new();
    let mut keyed: Vec<(u64, Job)> = jobs.drain(..).map(|job| (random.next(), job)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let mut turned: Vec<(usize, u64, Job)> = Vec::new();
    for (key, job) in keyed {
        let turn = turns.entry((job.end, job.call.clone())).or_insert(0);
        turned.push((*turn, key, job));
        *turn += 1;
    }
    turned.sort_by_key(|(turn, key, _)| (*turn, *key));
    jobs.extend(turned.into_iter().map(|(_, _, job)| job));
}
