//! What lies in the place of a part or of its journal is hostile: never written through, never believed too much.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::harness::{Outcome, Plan, Program, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{MIB, part, part_len, state};

/// As small as possible, since many of them are made here: a journal has a synced slot and one that is not from 32 MiB on.
const SIZE: usize = 38 * MIB as usize + 100_000;

/// Where the transfers are interrupted.
const HELD: u64 = 36 * MIB;

const LANES: usize = 4;

fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01", "--retries", "2", "--force"])
}

/// A server, and what an interrupted client has left: copies of it are what is tampered with.
struct Remains {
    scratch: Scratch,
    server: Server,
    relay: Relay,
    body: Vec<u8>,
    part: Vec<u8>,
    state: Vec<u8>,
}

impl Remains {
    fn new() -> Remains {
        Remains::after(Signal::INT)
    }

    /// Of a client that this signal ended.
    fn after(signal: Signal) -> Remains {
        let scratch = Scratch::in_memory();
        let body = content(1, SIZE);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        // The origin is the relay's address, so it stays for all that follows.
        let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(HELD) } else { Plan::faithful() });
        let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
        relay.wait_until_held(0);
        wait_for("the part", || part_len(&scratch) >= HELD - 2 * MIB);
        wait_for("a slot that is synced", || {
            let state = fs::read(state(&scratch)).unwrap();
            [11, 8192 + 11].iter().any(|flags| state.get(*flags).is_some_and(|flags| flags & 1 != 0))
        });
        running.finish_after(signal);
        let [part, state] = [part(&scratch), state(&scratch)].map(|path| fs::read(path).unwrap());
        Remains { scratch, server, relay, body, part, state }
    }

    /// The remains in a directory of their own, tampered with.
    fn laid_out(&self, tamper: impl FnOnce(&Scratch)) -> Scratch {
        let scratch = Scratch::in_memory();
        fs::create_dir(scratch.out()).unwrap();
        fs::write(part(&scratch), &self.part).unwrap();
        fs::write(state(&scratch), &self.state).unwrap();
        fs::write(scratch.out().join("a"), b"old body").unwrap();
        tamper(&scratch);
        scratch
    }

    fn run(&self, scratch: &Scratch) -> Outcome {
        impatient_get(scratch, self.relay.addr).arg("a").run()
    }

    /// Saved as it should be, with nothing left; or an error of the local disk, and the old file.
    fn assert_right_or_refused(&self, scratch: &Scratch, what: &str) -> Outcome {
        let outcome = self.run(scratch);
        let target = fs::read(scratch.out().join("a")).unwrap();
        match outcome.status.code() {
            Some(0) => {
                outcome.assert(target == self.body, &format!("{what}: the file that was served"));
                outcome.stderr_has("verified");
            }
            Some(5) => _ = outcome.assert(target == b"old body", &format!("{what}: the old file")).has_one_error_line(),
            _ => _ = outcome.assert(false, &format!("{what}: saved, or an error of the local disk")),
        }
        outcome.shows_no_control_characters();
        outcome
    }

    /// The same, where nothing is in the way of a clean start: saved, and nothing left.
    fn assert_right(&self, scratch: &Scratch, what: &str) {
        self.assert_right_or_refused(scratch, what).exits(0);
        assert_eq!(scratch.names("out"), ["a"], "{what}");
    }

    fn last_offset(&self) -> u64 {
        self.relay.all_gets().last().unwrap().offset
    }

    fn stop(self) {
        drop(self.relay);
        self.server.stop();
        drop(self.scratch);
    }
}

/// Untouched, the remains are good for almost all of the file, or the tests below would show nothing.
#[test]
fn what_an_interrupted_client_leaves_is_resumed() {
    let remains = Remains::new();
    let scratch = remains.laid_out(|_| ());
    remains.assert_right(&scratch, "as it was");
    assert!(remains.last_offset() > HELD - MIB, "{}", remains.relay.report());
    remains.stop();
}

#[test]
fn a_journal_with_one_bit_flipped() {
    let remains = Remains::new();
    // Every sixteenth byte, but for the room between the slots, where there is nothing to damage.
    let is_room = |at: &usize| remains.state[*at..remains.state.len().min(at + 256)].iter().all(|byte| *byte == 0);
    let places: Vec<usize> = (0..remains.state.len()).step_by(16).filter(|at| !is_room(at)).collect();
    assert!((20..200).contains(&places.len()), "{} places in {} bytes", places.len(), remains.state.len());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (remains, places) = (&remains, &places);
            scope.spawn(move || {
                for at in places.iter().skip(lane).step_by(LANES) {
                    let mut state_now = remains.state.clone();
                    state_now[*at] ^= 1 << (*at / 16 % 8);
                    let scratch = remains.laid_out(|scratch| fs::write(state(scratch), &state_now).unwrap());
                    remains.assert_right(&scratch, &format!("a bit of byte {at} flipped"));
                }
            });
        }
    });
    remains.stop();
}

#[test]
fn a_journal_that_is_torn_empty_or_foreign() {
    let remains = Remains::new();
    let length = remains.state.len();
    let cut = |length: usize| remains.state[..length].to_vec();
    let (first, second) = remains.state.split_at(length / 2);
    let states = [
        ("empty", Vec::new()),
        ("one byte", cut(1)),
        ("half", cut(length / 2)),
        ("all but a byte", cut(length - 1)),
        ("zeros", vec![0; length]),
        ("ones", vec![0xff; length]),
        ("noise", content(9, length)),
        ("twice", remains.state.repeat(2)),
        ("halves exchanged", [second, first].concat()),
        ("a megabyte of noise", content(10, MIB as usize)),
        ("text", b"{\"version\": 3}\n".repeat(100)),
    ];
    for (what, bytes) in states {
        let scratch = remains.laid_out(|scratch| fs::write(state(scratch), &bytes).unwrap());
        remains.assert_right(&scratch, what);
    }
    let scratch = remains.laid_out(|scratch| fs::remove_file(state(scratch)).unwrap());
    remains.assert_right(&scratch, "no journal");
    remains.stop();
}

/// As a later version of the program may write it: whole by its checksum, and not to be understood.
#[test]
fn a_journal_of_another_form() {
    let remains = Remains::new();
    let later = with_slots(&remains.state, |slot| slot[9] += 1);
    assert_ne!(later, remains.state);
    let scratch = remains.laid_out(|scratch| fs::write(state(scratch), &later).unwrap());
    remains.assert_right(&scratch, "another form");
    assert_eq!(remains.last_offset(), 0, "{}", remains.relay.report());
    // Changed to what it is already, and with its checksum made anew, it is as good as before.
    let same = with_slots(&remains.state, |_| ());
    assert_eq!(same, remains.state);
    remains.stop();
}

/// The slots of a journal, changed, and each with a checksum that is right again: it is the BLAKE3 of what is before it.
fn with_slots(journal: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut changed = journal.to_vec();
    for slot in [0, 8192] {
        let sum_of = |end: usize| *blake3::hash(&journal[slot..end]).as_bytes();
        let Some(end) = (slot..journal.len() - 31).find(|end| journal[*end..end + 32] == sum_of(*end)) else {
            continue;
        };
        change(&mut changed[slot..end]);
        let sum = blake3::hash(&changed[slot..end]);
        changed[end..end + 32].copy_from_slice(sum.as_bytes());
    }
    changed
}

/// The journal is whole, and the part is not what it tells of.
#[test]
fn a_part_that_does_not_fit_its_journal() {
    let remains = Remains::new();
    let cases: [Tampered; 5] = [
        ("a part that is gone", |scratch| fs::remove_file(part(scratch)).unwrap()),
        ("an empty part", |scratch| open_part(scratch).set_len(0).unwrap()),
        ("half of the part", |scratch| open_part(scratch).set_len(15 * MIB).unwrap()),
        // Synced at 32 MiB, and compared up to there.
        ("other bytes behind the synced ones", |scratch| open_part(scratch).write_all_at(b"other", 35 * MIB).unwrap()),
        ("a longer part", |scratch| open_part(scratch).set_len(SIZE as u64 * 2).unwrap()),
    ];
    for (what, tamper) in cases {
        let scratch = remains.laid_out(tamper);
        remains.assert_right(&scratch, what);
    }
    remains.stop();
}

/// After a kill there is nobody who would say when the part changed last. One bit of what was synced is found by the
/// comparison with the journal, one behind it by the digest of the whole; neither ever makes a wrong file, and either costs
/// no more than the file from the beginning.
#[test]
fn a_part_with_one_bit_flipped_after_a_kill() {
    for signal in [Signal::KILL, Signal::INT] {
        let remains = Remains::after(signal);
        let synced = [0, 1, MIB, 17 * MIB + 5, 32 * MIB - 1].map(|at| (at, "the partial file is damaged"));
        let behind = [32 * MIB, 32 * MIB + 1, 33 * MIB].map(|at| (at, "arrived damaged"));
        for (at, why) in synced.into_iter().chain(behind) {
            let scratch = remains.laid_out(|scratch| flip(&part(scratch), at));
            let outcome = remains.assert_right_or_refused(&scratch, &format!("a bit of byte {at} flipped"));
            outcome.exits(0).stderr_has(why);
            assert_eq!(scratch.names("out"), ["a"]);
            assert_eq!(remains.last_offset(), 0, "{}", remains.relay.report());
        }
        remains.stop();
    }
}

/// It is no failure of the server's, and takes no attempt away.
#[test]
fn a_damaged_part_costs_no_attempt() {
    let remains = Remains::after(Signal::KILL);
    let scratch = remains.laid_out(|scratch| flip(&part(scratch), 0));
    let outcome = get(&scratch, remains.relay.addr).args(["--retries", "1", "--force", "a"]).run();
    outcome.exits(0).stderr_has("cannot resume ").stderr_has("; starting over");
    assert!(fs::read(scratch.out().join("a")).unwrap() == remains.body);
    remains.stop();
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// What is done to the remains.
type Tampered = (&'static str, fn(&Scratch));

fn open_part(scratch: &Scratch) -> File {
    File::options().write(true).open(part(scratch)).unwrap()
}

/// The journal of another file, under this one's name: its bytes must not become a beginning of this one.
#[test]
fn the_remains_of_another_file() {
    let remains = Remains::new();
    remains.scratch.share("b", &content(2, SIZE));
    let scratch = remains.laid_out(|scratch| {
        fs::rename(part(scratch), scratch.out().join(".b.xfer-part")).unwrap();
        fs::rename(state(scratch), scratch.out().join(".b.xfer-part.state")).unwrap();
    });
    let outcome = impatient_get(&scratch, remains.relay.addr).arg("b").run();
    outcome.exits(0).stderr_has("verified");
    assert!(fs::read(scratch.out().join("b")).unwrap() == content(2, SIZE));
    assert_eq!(remains.last_offset(), 0, "{}", remains.relay.report());
    assert_eq!(scratch.names("out"), ["a", "b"]);
    remains.stop();
}

/// Puts something else in the place of the part or the journal.
type Planted = (&'static str, fn(&Scratch, &Path));

const PLANTED: [Planted; 6] = [
    ("a link to a file", |scratch, path| symlink(scratch.path("precious"), path).unwrap()),
    ("a link to nothing", |scratch, path| symlink(scratch.path("to-be-made"), path).unwrap()),
    ("a link to a device", |_, path| symlink("/dev/full", path).unwrap()),
    ("a hard link", |scratch, path| fs::hard_link(scratch.path("precious"), path).unwrap()),
    ("a FIFO", |_, path| mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap()),
    ("a directory", |_, path| fs::create_dir(path).unwrap()),
];

fn assert_planted_is_harmless(place: fn(&Scratch) -> PathBuf) {
    let remains = Remains::new();
    for (what, plant) in PLANTED {
        let mut precious = Vec::new();
        let scratch = remains.laid_out(|scratch| {
            // What would be there otherwise, to be believed and written to if it were followed.
            precious = fs::read(place(scratch)).unwrap();
            scratch.write("precious", &precious);
            fs::remove_file(place(scratch)).unwrap();
            plant(scratch, &place(scratch));
        });
        let before = fs::metadata(scratch.path("precious")).unwrap();
        remains.assert_right_or_refused(&scratch, what);
        let after = fs::metadata(scratch.path("precious")).unwrap();
        assert!(fs::read(scratch.path("precious")).unwrap() == precious, "{what}: written through");
        assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()), "{what}");
        assert!(!scratch.path("to-be-made").exists(), "{what}: made through the link");
        assert!(fs::symlink_metadata(scratch.out().join("a")).unwrap().is_file(), "{what}");
    }
    remains.stop();
}

#[test]
fn something_else_in_the_place_of_the_part() {
    assert_planted_is_harmless(part);
}

#[test]
fn something_else_in_the_place_of_the_journal() {
    assert_planted_is_harmless(state);
}

/// Of somebody else, who could write into it while it is received.
#[test]
fn a_part_that_others_may_write_to_ends_right_or_not_at_all() {
    let remains = Remains::new();
    let scratch = remains.laid_out(|scratch| {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(part(scratch), everybody).unwrap();
    });
    remains.assert_right_or_refused(&scratch, "a part for everybody");
    remains.stop();
}
