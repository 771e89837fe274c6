//! Power cuts of the client's machine: each state that its disk could be left in, made from a record of what it did, and a
//! client that begins there.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::disk::{self, Choice, Fates};
use crate::harness::{Outcome, Plan, Program, Relay, Scratch, Server, content, get, md5_hex, wait_for};
use crate::recording::{self, Step};
use crate::table::{Line, number};
use crate::torture::Torture;
use crate::transfer::{NAME, OLD, assert_never_wrong};
use crate::trial::{Verdict, again, attempt, or_lost, safe};
use crate::{lanes, slots, strace};

/// States by chance beside the extreme ones, at each point.
const RANDOM_STATES: u64 = 3;

const MIB: u64 = 1 << 20;

/// A file that has a journal, a synced slot of it and a good deal behind that.
const LARGE: usize = 40_000_000;

/// Where a transfer that is to be resumed was interrupted.
const HELD: u64 = 36 * MIB;

const STATE: &str = ".a.xfer-part.state";
const PART: &str = ".a.xfer-part";

/// A transfer that the power is cut in.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    fault: &'static str,
    size: usize,
    has_old: bool,
    before: Before,
}

/// What an earlier run has left beside the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Most of this file.
    Part,
    /// Most of what the file was then.
    StalePart,
}

const SCENES: [Scene; 6] = [
    scene("small", "power cut while a small file is saved", 5_000, false, Before::Nothing),
    scene("small-old", "power cut while a small file replaces another", 5_000, true, Before::Nothing),
    scene("old", "power cut while a file of 3 MB replaces another", 3_000_000, true, Before::Nothing),
    scene("large", "power cut while a file of 40 MB is saved", LARGE, false, Before::Nothing),
    scene("resumed", "power cut while a file of 40 MB is resumed", LARGE, true, Before::Part),
    scene("stale", "power cut while a partial file of 40 MB is discarded", LARGE, false, Before::StalePart),
];

const fn scene(name: &'static str, fault: &'static str, size: usize, has_old: bool, before: Before) -> Scene {
    Scene { name, fault, size, has_old, before }
}

/// A scene that was played once and recorded.
struct Recorded {
    scene: Scene,
    /// What the server shares lies there.
    _scratch: Scratch,
    server: Server,
    body: Vec<u8>,
    /// What lay in the folder at first.
    before: Vec<(String, Vec<u8>)>,
    steps: Vec<Step>,
}

impl Recorded {
    fn new(scene: Scene) -> Recorded {
        let scratch = Scratch::new();
        let body = content(11, scene.size);
        fs::create_dir(scratch.out()).expect("a directory can be made");
        if scene.before == Before::StalePart {
            scratch.share(NAME, &content(12, scene.size));
        } else {
            scratch.share(NAME, &body);
        }
        let server = Server::of(&scratch);
        if scene.before != Before::Nothing {
            interrupt(&scratch, &server);
        }
        if scene.before == Before::StalePart {
            scratch.share(NAME, &body);
        }
        if scene.has_old {
            scratch.write("out/a", OLD);
        }
        let names = scratch.names("out");
        let before = names
            .iter()
            .map(|name| (name.clone(), fs::read(scratch.out().join(name)).expect("a file that is there")))
            .collect();
        let report = scratch.path("strace.txt");
        let client = client(&scratch, server.addr).after(&strace::before(recording::OPTIONS, &report));
        client.run().exits(0).stderr_has("verified");
        let record = scratch.text("strace.txt");
        let steps = recording::read(&record, &scratch.out(), &names);
        let recorded = Recorded { scene, _scratch: scratch, server, body, before, steps };
        recorded.assert_complete();
        recorded
    }

    /// With nothing cut, the record must lead to what is there: otherwise it has missed something.
    fn assert_complete(&self) {
        let all = disk::fates(&self.steps, usize::MAX, Choice::All);
        let left = disk::left(&self.steps, &all, &self.before, &self.body);
        let is_complete = left.len() == 1 && left[0].0 == NAME && left[0].1 == self.body;
        let found: Vec<_> = left.iter().map(|(name, bytes)| (name, bytes.len())).collect();
        assert!(
            is_complete,
            "the record of {} is not all that was done: {found:?}\n{:#?}",
            self.scene.name, self.steps
        );
    }

    /// The states to be tried: after each event each choice, where it differs from all before it.
    fn jobs(&self, seed: u64) -> Vec<(usize, Choice, Fates)> {
        let mut seen = BTreeSet::new();
        let mut jobs = Vec::new();
        let cuts: BTreeSet<usize> = self.steps.iter().flat_map(|step| [step.began, step.ended]).collect();
        for (number, cut) in cuts.into_iter().enumerate() {
            let random = (0..RANDOM_STATES).map(|which| {
                let mixed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64 * RANDOM_STATES + which);
                Choice::Random(mixed)
            });
            for choice in disk::EXTREMES.into_iter().chain(random) {
                let fates = disk::fates(&self.steps, cut, choice);
                let told: Vec<_> = fates.iter().filter(|(_, fate)| *fate != disk::Fate::Gone).copied().collect();
                if seen.insert(told) {
                    jobs.push((cut, choice, fates));
                }
            }
        }
        jobs
    }

    /// Makes the folder as the cut has left it, and lets a client begin there.
    fn play(&self, lane: &Lane, fates: &Fates) {
        let left = disk::left(&self.steps, fates, &self.before, &self.body);
        let out = lane.scratch.out();
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).expect("a directory can be made");
        for (name, bytes) in &left {
            let bytes = if name == STATE { slots::after_a_reboot(bytes) } else { bytes.clone() };
            fs::write(out.join(name), bytes).expect("memory for a file");
        }
        let told: Vec<_> = left.iter().map(|(name, bytes)| format!("{name}: {} bytes", bytes.len())).collect();
        let context = || format!("left by the power cut: {told:?}");
        assert_never_wrong(&out, self.scene.has_old, &self.body, &context);
        let asked = lane.relay.connections();
        lane.relay.lead_to(self.server.addr);
        let outcome = client(&lane.scratch, lane.relay.addr).run();
        let is_right = assert_never_wrong(&out, self.scene.has_old, &self.body, &|| {
            format!("{}\n{}", context(), outcome.report())
        });
        or_lost(|| {
            outcome.exits(0).stderr_has(&md5_hex(&self.body)).assert(is_right, "the file that is served");
            // The journal of a part that has its name already means nothing, and goes with the next part.
            let names = lane.scratch.names("out");
            outcome.assert(!names.iter().any(|name| name == PART), "no part is left");
        });
        self.check_synced(lane, &left, asked, &outcome);
    }

    /// What the journal says was synced is not fetched again.
    fn check_synced(&self, lane: &Lane, left: &[(String, Vec<u8>)], asked: usize, outcome: &Outcome) {
        let lies = |name: &str| left.iter().find(|(there, _)| there == name).map(|(_, bytes)| bytes);
        let (Some(part), Some(journal)) = (lies(PART), lies(STATE)) else { return };
        let Some(synced) = slots::synced(journal).filter(|_| self.scene.before != Before::StalePart) else { return };
        safe(part.len() as u64 >= synced, || format!("{synced} bytes were synced, and {} are there", part.len()));
        for get in lane.relay.gets().split_off(asked).into_iter().flatten().flatten() {
            safe(get.offset >= synced, || {
                format!("{synced} bytes were synced, and it asks from {} on\n{}", get.offset, outcome.report())
            });
        }
    }
}

fn client(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--force", "--max-backoff", "0.01", NAME])
}

/// Leaves a part and its journal, by a client that is interrupted behind the first sync.
fn interrupt(scratch: &Scratch, server: &Server) {
    let relay = Relay::of(server.addr, Plan::hold(HELD));
    // A busy disk may take longer for a sync than a client waits for its server.
    let running = client(scratch, relay.addr).args(["--timeout", "300"]).spawn();
    let journal = || fs::read(scratch.out().join(STATE)).unwrap_or_default();
    wait_for("the first synced slot", || relay.is_held(0) && slots::synced(&journal()).is_some());
    running.finish_after(Signal::INT).exits(130);
}

/// Room for a folder, and a link that tells what is asked for.
struct Lane {
    scratch: Scratch,
    relay: Relay,
}

pub fn run(torture: &Torture) -> Vec<Line> {
    if let Some(why) = strace::missing() {
        return vec![Line::missing("power cut of the client's machine", why)];
    }
    let end = torture.end();
    let mut lines = Vec::new();
    for scene in SCENES {
        let mut recorded = Vec::new();
        let verdict = attempt(&again("power", torture.seed, scene.name), || recorded.push(Recorded::new(scene)));
        let mut line = Line::of(scene.fault);
        match recorded.pop() {
            Some(recorded) => cut(torture, end, &recorded, &mut line),
            None => line.count(verdict),
        }
        lines.push(line);
    }
    lines
}

/// Tries the states of one scene, in an order of chance: whatever time there is, it is spent on all of them alike.
fn cut(torture: &Torture, end: Option<std::time::Instant>, recorded: &Recorded, line: &mut Line) {
    let mut jobs = recorded.jobs(torture.seed);
    line.of = Some(jobs.len() as u64);
    let mut random = crate::harness::content::Random::new(torture.seed);
    jobs.sort_by_cached_key(|_| random.next());
    let job_name =
        |cut: usize, choice: Choice| format!("{}:{cut}:{choice:?}:", recorded.scene.name).replace(['(', ')'], "-");
    jobs.retain(|(cut, choice, _)| torture.wants(&job_name(*cut, *choice)));
    let share = end.map(|_| std::time::Instant::now() + torture.share / SCENES.len() as u32);
    let verdicts = std::sync::Mutex::new(Vec::<Verdict>::new());
    let prepare = |_| Lane { scratch: Scratch::in_memory(), relay: Relay::of(recorded.server.addr, Plan::faithful()) };
    lanes::run(&jobs, share, prepare, |lane, (cut, choice, fates)| {
        let again = again("power", torture.seed, &job_name(*cut, *choice));
        let verdict = attempt(&again, || recorded.play(lane, fates));
        verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(verdict);
    });
    verdicts.into_inner().unwrap_or_default().into_iter().for_each(|verdict| line.count(verdict));
    let changes = number(recorded.steps.len() as u64);
    line.notes.push(format!("{changes} writes, syncs and changes of names or lengths were recorded."));
}
