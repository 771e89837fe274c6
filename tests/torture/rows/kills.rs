//! Both ends killed and stopped at random moments, and a bit damaged of what a killed client has left: what is under the
//! target's name is never wrong, what was synced is not fetched again, and a last run finishes the file.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::content::Random;
use crate::harness::{Outcome, Plan, Program, Relay, Running, Scratch, Server, content, get, md5_hex, serve};
use crate::table::Line;
use crate::torture::Torture;
use crate::transfer::{NAME, OLD, assert_never_wrong};
use crate::trial::{Verdict, again, attempt, or_lost, safe};
use crate::{lanes, slots};

/// Kills of clients in a full run.
const KILLS: u64 = 2000;

/// Bytes of a file, at least and at most.
const SIZES: std::ops::Range<u64> = 1_000_000..100_000_001;

/// Kills of the client of one file at most.
const KILLS_A_FILE: u32 = 12;

/// What stops for a moment does so at most this long.
const PAUSE_MAX_MS: u64 = 60;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    KillClient,
    KillServer,
    PauseClient,
    PauseServer,
}

/// How often each comes, of ten: most of them kill clients.
const BLOWS: [Blow; 10] = [
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillClient,
    Blow::KillServer,
    Blow::PauseClient,
    Blow::PauseServer,
];

const FAULTS: [(Blow, &str); 4] = [
    (Blow::KillClient, "client killed (SIGKILL) at a random moment"),
    (Blow::KillServer, "server killed (SIGKILL) at a random moment"),
    (Blow::PauseClient, "client stopped and continued (SIGSTOP, SIGCONT)"),
    (Blow::PauseServer, "server stopped and continued (SIGSTOP, SIGCONT)"),
];

/// Where a bit is damaged after every second kill: at rest, as a disk does it, or by somebody else's hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    Synced,
    Tail,
    Journal,
}

const DAMAGES: [(Damage, &str); 3] = [
    (Damage::Synced, "one bit damaged in the synced bytes of a partial file"),
    (Damage::Tail, "one bit damaged in the other bytes of a partial file"),
    (Damage::Journal, "one bit damaged in a journal"),
];

/// How many blows of each kind fell, and what came of the files.
struct Counts {
    blows: [AtomicU64; 4],
    damages: [AtomicU64; 3],
    verdicts: Mutex<Vec<Verdict>>,
    again: AtomicU64,
}

impl Counts {
    fn count(&self, blow: Blow) {
        let index = FAULTS.iter().position(|(kind, _)| *kind == blow).unwrap_or(0);
        self.blows[index].fetch_add(1, Ordering::Relaxed);
    }

    fn kills(&self) -> u64 {
        self.blows[0].load(Ordering::Relaxed)
    }
}

pub fn run(torture: &Torture) -> Vec<Line> {
    let counts = Counts {
        blows: [const { AtomicU64::new(0) }; 4],
        damages: [const { AtomicU64::new(0) }; 3],
        verdicts: Mutex::default(),
        again: AtomicU64::new(0),
    };
    let body = content(torture.seed, usize::try_from(SIZES.end).expect("memory for the largest file"));
    // Each file has its own seed, so that one can be seen again alone.
    let seeds: Vec<u64> = (0..KILLS).map(|number| torture.seed.wrapping_mul(1_000_003).wrapping_add(number)).collect();
    let wanted: Vec<u64> = seeds.into_iter().filter(|seed| torture.wants(&format!("file-{seed}:"))).collect();
    let end = torture.end();
    lanes::run(
        &wanted,
        end,
        |_| (),
        |(), seed| {
            if counts.kills() >= KILLS {
                return;
            }
            let verdict = attempt(&again("kills", torture.seed, &format!("file-{seed}:")), || {
                File::new(*seed, &body).suffer(&counts);
            });
            counts.verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        },
    );
    lines(&counts)
}

fn lines(counts: &Counts) -> Vec<Line> {
    let verdicts = counts.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
    let blows = FAULTS.iter().map(|(_, fault)| *fault).zip(&counts.blows);
    let damages = DAMAGES.iter().map(|(_, fault)| *fault).zip(&counts.damages);
    let line =
        |(fault, tried): (&'static str, &AtomicU64)| Line { tried: tried.load(Ordering::Relaxed), ..Line::of(fault) };
    let mut lines: Vec<Line> = blows.chain(damages).map(line).collect();
    // A file that suffers all kinds: what goes wrong with it stands in the first line.
    lines[0].lost = verdicts.iter().filter(|verdict| **verdict == Verdict::Lost).count() as u64;
    lines[0].wrong = verdicts.iter().filter(|verdict| **verdict == Verdict::Wrong).count() as u64;
    let note = format!(
        "{} files of 1 to 100 MB, with all kinds of faults mixed; the first row counts what was lost or wrong in any of them. \
         After a kill, at most {} bytes that the partial file already held were fetched again.",
        verdicts.len(),
        crate::table::number(counts.again.load(Ordering::Relaxed)),
    );
    lines[0].notes.push(note);
    lines
}

/// One file on its way, and all that it needs.
struct File<'a> {
    scratch: Scratch,
    server: Option<Server>,
    relay: Relay,
    body: &'a [u8],
    random: Random,
    has_old: bool,
    /// Whether anything that a client has left was damaged: then it may come again from the beginning.
    is_damaged: bool,
    /// About how long it takes untroubled.
    usual: Duration,
}

impl File<'_> {
    fn new(seed: u64, body: &[u8]) -> File<'_> {
        let mut random = Random::new(seed);
        let size = SIZES.start + random.below(SIZES.end - SIZES.start);
        let body = &body[..usize::try_from(size).expect("smaller than the body")];
        let scratch = Scratch::new();
        scratch.share(NAME, body);
        let has_old = random.below(2) == 0;
        if has_old {
            scratch.write("out/a", OLD);
        } else {
            fs::create_dir(scratch.out()).expect("a directory can be made");
        }
        let server = Server::start(serve(&scratch).args(["--drain", "1"]));
        let relay = Relay::of(server.addr, Plan::faithful());
        // Faster than most machines: the moments that fall behind the end of a transfer are tried again.
        let usual = Duration::from_millis(20) + Duration::from_secs_f64(size as f64 / 250e6);
        File { scratch, server: Some(server), relay, body, random, has_old, is_damaged: false, usual }
    }

    /// Blow after blow, until the file is there all the same; then a last run.
    fn suffer(mut self, counts: &Counts) {
        let mut kills = 0;
        while kills < KILLS_A_FILE {
            let synced = self.synced();
            let held = fs::metadata(self.part()).map_or(0, |part| part.len());
            let asked = self.relay.connections();
            let mut client = self.client().spawn();
            let outcome = loop {
                if !self.wait_for_a_moment(&mut client) {
                    break None;
                }
                let blow = BLOWS[self.random.below(BLOWS.len() as u64) as usize];
                counts.count(blow);
                match blow {
                    Blow::KillClient => break Some(()),
                    Blow::KillServer => self.replace_server(),
                    Blow::PauseClient => self.pause(&client),
                    Blow::PauseServer => self.pause(self.server.as_ref().expect("there is one")),
                }
            };
            match outcome {
                Some(()) => {
                    let outcome = client.finish_after(Signal::KILL);
                    kills += 1;
                    self.relay.settle();
                    self.check(&outcome);
                    self.check_again(&outcome, asked, synced, held, counts);
                    if !self.is_old() {
                        break;
                    }
                    if kills % 2 == 0 {
                        self.is_damaged |= self.damage(counts);
                    }
                }
                None => {
                    let outcome = client.finish();
                    outcome.exits(0).stderr_has("verified");
                    self.check(&outcome);
                    self.check_again(&outcome, asked, synced, held, counts);
                    break;
                }
            }
        }
        self.finish();
    }

    fn client(&self) -> Program {
        get(&self.scratch, self.relay.addr).args(["--retries", "0", "--max-backoff", "0.01", "--timeout", "30", NAME])
    }

    /// Whether the client still runs then.
    fn wait_for_a_moment(&mut self, client: &mut Running) -> bool {
        let most = u64::try_from(self.usual.as_micros()).unwrap_or(u64::MAX);
        // Half of them early, where more happens.
        let most = if self.random.below(2) == 0 { most / 4 } else { most };
        let until = Instant::now() + Duration::from_micros(self.random.below(most));
        while Instant::now() < until {
            if client.has_ended() {
                return false;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
        !client.has_ended()
    }

    fn replace_server(&mut self) {
        let server = self.server.take().expect("there is one");
        server.into_running().finish_after(Signal::KILL);
        let server = Server::start(serve(&self.scratch).args(["--drain", "1"]));
        self.relay.lead_to(server.addr);
        self.server = Some(server);
    }

    fn pause(&self, running: &Running) {
        let millis = Random::new(running.pid().into()).below(PAUSE_MAX_MS);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(running.process(), Signal::STOP);
        std::thread::sleep(Duration::from_millis(millis));
        let _ = rustix::process::kill_process(running.process(), Signal::CONT);
    }

    fn part(&self) -> PathBuf {
        self.scratch.out().join(".a.xfer-part")
    }

    /// How far the journal says that the part was synced.
    fn synced(&self) -> u64 {
        let journal = fs::read(self.scratch.out().join(".a.xfer-part.state")).unwrap_or_default();
        slots::synced(&journal).unwrap_or(0)
    }

    /// Flips one bit of what the client has left; whether there was anything.
    fn damage(&mut self, counts: &Counts) -> bool {
        let synced = self.synced();
        let held = fs::metadata(self.part()).map_or(0, |part| part.len());
        let journal = self.scratch.out().join(".a.xfer-part.state");
        let (damage, path, range) = match self.random.below(4) {
            0 if journal.exists() => (Damage::Journal, journal, 0..2 * slots::SLOT_LEN as u64),
            1 if held > synced => (Damage::Tail, self.part(), synced..held),
            _ if synced > 0 => (Damage::Synced, self.part(), 0..synced),
            _ if held > 0 => (Damage::Tail, self.part(), 0..held),
            _ => return false,
        };
        let at = range.start + self.random.below(range.end - range.start);
        let file = fs::File::options().read(true).write(true).open(path).expect("it is there");
        let mut byte = [0];
        if file.read_at(&mut byte, at).expect("it can be read") == 0 {
            return false;
        }
        byte[0] ^= 1 << self.random.below(8);
        file.write_all_at(&byte, at).expect("it can be written");
        let index = DAMAGES.iter().position(|(kind, _)| *kind == damage).unwrap_or(0);
        counts.damages[index].fetch_add(1, Ordering::Relaxed);
        true
    }

    fn is_old(&self) -> bool {
        let there = fs::metadata(self.scratch.out().join(NAME)).ok();
        if self.has_old { there.is_some_and(|there| there.len() == OLD.len() as u64) } else { there.is_none() }
    }

    fn check(&self, outcome: &Outcome) {
        assert_never_wrong(&self.scratch.out(), self.has_old, self.body, &|| outcome.report());
    }

    /// What the journal said was synced before this client began is not asked for again.
    fn check_again(&self, outcome: &Outcome, asked: usize, synced: u64, held: u64, counts: &Counts) {
        let gets = self.relay.gets().split_off(asked).into_iter().flatten().flatten();
        let offsets: Vec<u64> =
            gets.filter(|get| get.flags & crate::harness::wire2::NO_DATA == 0).map(|get| get.offset).collect();
        // A run may be killed before it has seen the damage, or before it has begun again because of it.
        if self.is_damaged {
            return;
        }
        for offset in offsets {
            safe(offset >= synced, || {
                let report = outcome.report();
                format!("{synced} bytes were synced, and it asks from {offset} on\n{report}{}", self.relay.report())
            });
            // Files below 1 MiB are held in memory for a second, and begin at the beginning.
            if self.body.len() as u64 >= 1 << 20 {
                counts.again.fetch_max(held.saturating_sub(offset), Ordering::Relaxed);
            }
        }
    }

    /// A last run must end with the file, whatever lies there.
    fn finish(mut self) {
        or_lost(|| {
            let outcome = self.client().run();
            outcome.exits(0).stderr_has(&md5_hex(self.body));
            let now = fs::read(self.scratch.out().join(NAME)).unwrap_or_default();
            outcome.assert(now == self.body, "the file that is served");
            outcome.assert(self.scratch.names("out") == [NAME], "nothing else is left");
        });
        let server = self.server.take().expect("there is one");
        server.into_running().finish_after(Signal::TERM).exits(0);
    }
}
