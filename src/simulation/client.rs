//! Simulated clients: several lives of `xfer get` on one machine, each ended by itself, a signal, force or a power cut, and
//! a last one in which nothing fails.

mod disk;
pub mod machine;
mod origin;
mod slow;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Dice;
use crate::error::ExitCode;
use crate::get::journal::slots;
use crate::get::part::journal_path;
use crate::get::slot::Entry;
use crate::get::{Existing, GetConfig, Output, ProgressMode, fetch_all};
use crate::logging::{LogTarget, Logs, OnConsole, Verbosity};
use crate::proto::digest::Algorithm;
use crate::proto::{Version, Wanted};
use disk::{Disk, Lacks, Survives};
use machine::{End, Machine};
use origin::{Kind, Origin};

/// Runs in `make check`; some seconds of them.
const SEEDS: u64 = 4_000;

const FOLDER: &str = "/simulated/downloads";

/// Bytes of the blocks that may be on their way when a client is killed, those behind the last slot, and a frame: what a
/// kill may lose of an undisturbed transfer (xfer-get(1): below 8 MiB, here scaled).
const LOST_MAX: u64 = (8 << 20) / 4096 + 701;

/// Bytes from which on a file has a journal from its first byte on (xfer-get(1): 1 MiB, here scaled).
const JOURNAL_FROM: usize = (1 << 20) / 4096;

/// What is true of all lives of one machine.
#[derive(Clone)]
struct Setting {
    names: Vec<Vec<u8>>,
    /// What was under the names before, and may be kept.
    old: BTreeMap<PathBuf, Vec<u8>>,
    algorithm: Algorithm,
    sync: bool,
    resume: bool,
    kind: Kind,
}

/// What has happened to a machine so far.
#[derive(Default)]
struct Past {
    /// Calls of its file system failed, or somebody took files of ours away.
    has_failed: bool,
    /// Somebody may have taken files of ours away.
    was_robbed: bool,
    /// Somebody else wrote to a part.
    has_been_written_to: bool,
    /// Its power was cut.
    was_cut: bool,
    /// A part was without a journal: in version 1, or since nothing could be locked.
    lacked_journal: bool,
    /// Bytes of each part that were synced, and said to be so, and of which version.
    promised: BTreeMap<Vec<u8>, (Version, u64)>,
}

fn target(name: &[u8]) -> PathBuf {
    Path::new(FOLDER).join(std::str::from_utf8(name).expect("a name of ours"))
}

fn beside(name: &[u8]) -> PathBuf {
    Path::new(FOLDER).join(format!(".{}.xfer-part", std::str::from_utf8(name).expect("a name of ours")))
}

fn journal_of(name: &[u8]) -> PathBuf {
    journal_path(&beside(name))
}

#[test]
fn whatever_happens() {
    super::run("client", SEEDS, |chance| Dice::lend(chance, lives));
}

fn lives(dice: &Dice) {
    let (setting, mut machine) = begin(dice);
    let mut past = Past::default();
    for _ in 0..dice.within(0..4) {
        machine = one_life(machine, &setting, &mut past, dice);
        if dice.happens(6, 1) {
            between_lives(&mut machine, &setting, dice);
            // Somebody may have taken away what was kept.
            past.promised.clear();
        }
    }
    last_life(machine, &setting, &past);
}

/// A machine with files on its server, and maybe some of them, or others, in its folder.
fn begin(dice: &Dice) -> (Setting, Machine) {
    let kind = *dice.pick(&[Kind::New, Kind::New, Kind::New, Kind::Old, Kind::Hostile]);
    let mut origin = Origin::new(kind, dice.clone());
    let mut disk = Disk::new(Path::new(FOLDER), dice.clone());
    disk.lacks = Lacks { folder_syncs: dice.happens(6, 1), modes: dice.happens(6, 1), locks: false };
    let names: Vec<Vec<u8>> = (0..dice.within(1..4)).map(|number| vec![b'a' + number as u8]).collect();
    let mut old = BTreeMap::new();
    for name in &names {
        let bytes = random_bytes(dice);
        match dice.within(0..6) {
            0 => {
                disk.put(&target(name), &bytes);
                old.insert(target(name), bytes.clone());
            }
            1 => {
                let other = random_bytes(dice);
                disk.put(&target(name), &other);
                old.insert(target(name), other);
            }
            _ => {}
        }
        origin.rewrite(name, bytes);
    }
    let setting = Setting {
        names,
        old,
        algorithm: *dice.pick(&[Algorithm::Md5, Algorithm::Blake3]),
        sync: dice.happens(8, 7),
        resume: dice.happens(8, 7),
        kind,
    };
    dice.step(|| format!("{kind:?}, {:?}, sync {}, resume {}", setting.algorithm, setting.sync, setting.resume));
    let machine = Machine::new(dice.clone(), disk, origin, watch);
    SETTING.set(Some(setting.clone()));
    SEEN.take();
    (setting, machine)
}

thread_local! {
    /// What each part was promised in this life.
    static SEEN: std::cell::RefCell<BTreeMap<Vec<u8>, (Version, u64)>> = const { std::cell::RefCell::new(BTreeMap::new()) };
    /// For the checks after every step.
    static SETTING: std::cell::RefCell<Option<Setting>> = const { std::cell::RefCell::new(None) };
}

/// Sizes around those of blocks, of what is held in memory, of files with a journal, of early syncs.
fn random_bytes(dice: &Dice) -> Vec<u8> {
    let around = *dice.pick(&[0u64, 64, 256, 1024, 3000, 8192, 8192, 16_384, 20_000]);
    let len = (around + dice.within(0..3)).saturating_sub(1).min(around + 2);
    let seed = dice.within(0..256);
    // Every content is its own in every part: 251 is no power of two.
    (0..len).map(|at| (at % 251 + at / 251 + seed) as u8).collect()
}

fn config(setting: &Setting, attempts: u32, existing: Existing) -> GetConfig {
    GetConfig {
        host: String::from("192.0.2.1"),
        is_host_named: true,
        port: 9999,
        files: setting.names.clone(),
        output: Output::Dir(PathBuf::from(FOLDER)),
        attempts: NonZeroU32::new(attempts),
        timeout: Duration::from_secs(10),
        max_backoff: Duration::from_secs(32),
        algorithm: setting.algorithm,
        existing,
        resume: setting.resume,
        v1: false,
        sync: setting.sync,
        progress: ProgressMode::Never,
        log: LogTarget::Off,
        verbosity: Verbosity::Normal,
    }
}

/// Runs `xfer get` on the machine.
fn get(mut machine: Machine, config: &GetConfig) -> (Machine, End<ExitCode>) {
    machine.printed.clear();
    let (machine, end) = machine.run(|| {
        let logs =
            Logs::start("client", &config.log, config.verbosity, OnConsole::DebugOnly).expect("no log is opened");
        fetch_all(config, &logs).unwrap_or_else(|error| error.exit)
    });
    assert!(!machine.disk.has_read_early, "a part was read before the rest of it was asked for");
    (machine, end)
}

/// Decides what will go wrong in a life.
fn plan_failures(machine: &mut Machine, setting: &Setting, past: &mut Past, dice: &Dice) {
    machine.disk.failing = *dice.pick(&[0, 0, 0, 3, 20]);
    machine.disk.lacks.locks = dice.happens(8, 1);
    machine.origin.failing = *dice.pick(&[0, 30, 200]);
    if dice.happens(10, 1) {
        dice.count("a disk that is full");
        machine.disk.capacity = dice.within(0..30_000);
    }
    if dice.happens(20, 1) {
        machine.disk.thief = Some((beside(any_of(setting, dice)), dice.within(0..60)));
    }
    machine.origin.dies_after = dice.happens(8, 1).then(|| (dice.within(1..4) as usize, 1 + dice.len(700)));
    past.was_robbed |= machine.disk.thief.is_some();
    past.has_failed |= machine.disk.failing != 0 || machine.disk.capacity != u64::MAX || machine.disk.thief.is_some();
    match dice.within(0..5) {
        0 | 1 => machine.disk.ends_after = Some(dice.within(0..400)),
        2 => machine.signal_after = Some(dice.within(0..150)),
        _ => {}
    }
}

/// A life in which things fail, as this machine has it.
fn one_life(mut machine: Machine, setting: &Setting, past: &mut Past, dice: &Dice) -> Machine {
    plan_failures(&mut machine, setting, past, dice);
    let existing = *dice.pick(&[Existing::Compare, Existing::Compare, Existing::Fetch, Existing::Keep]);
    let mut config = config(setting, 1 + dice.within(0..5) as u32, existing);
    config.v1 = dice.happens(12, 1);
    past.lacked_journal |= config.v1 || machine.disk.lacks.locks;
    let (mut machine, end) = get(machine, &config);
    match end {
        End::Returned(exit) => {
            dice.step(|| format!("returned {exit:?}: {}", String::from_utf8_lossy(&machine.printed)));
            check_end(&machine, setting, exit, existing);
            if !past.has_failed && !past.was_robbed && !past.has_been_written_to {
                check_kept(&machine, setting, &config);
            }
            if setting.sync && dice.happens(6, 1) {
                cut_power(&mut machine, setting, past, dice);
                if exit == ExitCode::Done && existing != Existing::Keep && !machine.disk.lacks.folder_syncs {
                    check_whole(&machine, setting, "after a power cut");
                }
            }
        }
        End::Killed => {
            dice.step(|| String::from("killed"));
            // Without syncing, what a power cut leaves is anybody's guess (xfer-get(1), --no-sync).
            if setting.sync && dice.happens(2, 1) {
                cut_power(&mut machine, setting, past, dice);
            } else {
                dice.count("the program was killed");
                if !past.has_failed && !past.was_cut && !past.lacked_journal && setting.resume {
                    check_loss(&machine, setting);
                }
            }
        }
    }
    if dice.happens(4, 1) {
        damage(&mut machine, setting, past, dice);
    }
    machine.disk.capacity = u64::MAX;
    machine.disk.thief = None;
    // What --no-resume and version 1 throw away, they may.
    let keeps = setting.resume && !config.v1 && setting.kind == Kind::New && !machine.origin.has_damaged;
    check_promises(&machine, setting, past, keeps);
    machine
}

/// What was once synced stays so: as long as the server has this content, nobody else touches the part, and the disk
/// works, its journal says no less from one life to the next, until the file has its name.
fn check_promises(machine: &Machine, setting: &Setting, past: &mut Past, keeps: bool) {
    let printed = String::from_utf8_lossy(&machine.printed);
    for name in &setting.names {
        let present = machine.origin.present(name).expect("the server has it");
        let now = promised(machine, name).map_or(0, |(_, offset)| offset);
        let in_this_life = SEEN.with_borrow_mut(|seen| seen.remove(name));
        let before = [past.promised.get(name).copied(), in_this_life].into_iter().flatten();
        let before = before.filter(|(version, _)| *version == present.version()).map(|(_, offset)| offset).max();
        let is_saved = machine.disk.content(&target(name)) == Some(&present.bytes);
        // No error throws away what was synced.
        // Nor is anything held of a file that --no-clobber keeps from its name.
        let is_lost =
            past.has_been_written_to || past.was_robbed || printed.contains("it was created during the transfer");
        let is_held = keeps && !is_lost && !is_saved;
        assert!(
            !is_held || before.is_none_or(|before| now >= before),
            "{before:?} bytes of {} were synced, {now} are left: {printed}",
            String::from_utf8_lossy(name)
        );
        past.promised.insert(name.clone(), (present.version(), now));
    }
}

/// How much of a part is synced, and said to be so by what was synced of its journal, if that is of what the server has.
fn promised(machine: &Machine, name: &[u8]) -> Option<(Version, u64)> {
    let version = machine.origin.present(name)?.version();
    let entries = slots(machine.disk.synced_content(&journal_of(name))?);
    // Somebody may have taken the part away, and left its journal.
    let len = machine.disk.content(&beside(name))?.len() as u64;
    let counts = |entry: &&Entry| entry.is_synced && entry.about.version == version && entry.offset <= len;
    let synced = entries.iter().filter(counts);
    Some((version, synced.map(|entry| entry.offset).max()?))
}

/// A bit of a part or of its journal is not what it was: below the file system, or by somebody else's hand.
fn damage(machine: &mut Machine, setting: &Setting, past: &mut Past, dice: &Dice) {
    let name = any_of(setting, dice);
    let path = if dice.happens(4, 1) { journal_of(name) } else { beside(name) };
    if machine.disk.scribble(&path) {
        past.has_been_written_to = true;
        dice.count("a bit of a part or its journal was damaged");
    }
}

fn any_of<'a>(setting: &'a Setting, dice: &Dice) -> &'a [u8] {
    &setting.names[dice.within(0..setting.names.len() as u64) as usize]
}

/// What was synced, and is said so in a journal that was synced, is there when the machine comes back.
fn cut_power(machine: &mut Machine, setting: &Setting, past: &mut Past, dice: &Dice) {
    let survives = any_of_what_survives(dice);
    dice.count("the power was cut");
    dice.step(|| format!("{survives:?} survives"));
    let promised = |machine: &Machine, name: &Vec<u8>| {
        let entries = slots(machine.disk.synced_content(&journal_of(name))?);
        entries.iter().filter(|entry| entry.is_synced).map(|entry| entry.offset).max()
    };
    let before: Vec<_> = setting.names.iter().map(|name| promised(machine, name)).collect();
    machine.disk.cut_power(survives);
    past.was_cut = true;
    if machine.disk.lacks.folder_syncs {
        // Whatever was synced may have lost its name.
        past.promised.clear();
        SEEN.take();
        return;
    }
    // A part that somebody has written to is not what was synced any more, and its journal forgets that it was.
    if past.has_failed || past.has_been_written_to {
        return;
    }
    for (name, before) in setting.names.iter().zip(before) {
        let part = machine.disk.content(&beside(name)).map(<[u8]>::len);
        let after = machine.disk.content(&journal_of(name)).map(|_| promised(machine, name));
        let is_saved = machine.disk.content(&target(name)).is_some();
        let is_kept = after >= Some(before) && part.is_some_and(|len| Some(len as u64) >= before);
        assert!(
            before.is_none() || is_kept || is_saved,
            "{before:?} bytes were synced, {after:?} are left, of {part:?}"
        );
    }
}

fn any_of_what_survives(dice: &Dice) -> Survives {
    use Survives::*;
    *dice.pick(&[Nothing, Everything, Names, Bytes, Some, Some, Some])
}

/// Somebody else is at work on the server or in the folder.
fn between_lives(machine: &mut Machine, setting: &Setting, dice: &Dice) {
    let name = any_of(setting, dice).to_vec();
    match dice.within(0..4) {
        0 | 1 => {
            dice.count("the file changed on the server");
            let bytes = random_bytes(dice);
            machine.origin.rewrite(&name, bytes);
        }
        2 if machine.disk.steal(&beside(&name)) => dice.count("the part was removed"),
        3 if machine.disk.steal(&journal_of(&name)) => dice.count("the journal was removed"),
        _ => {}
    }
}

/// A life in which nothing fails: all is there in the end, and what was saved for it is used.
fn last_life(mut machine: Machine, setting: &Setting, past: &Past) {
    machine.disk.failing = 0;
    machine.disk.lacks.locks = false;
    machine.origin.failing = 0;
    machine.origin.dies_after = None;
    if machine.origin.kind == Kind::Hostile {
        machine.origin.kind = Kind::New;
    }
    let saved: Vec<(Vec<u8>, u64)> =
        setting.names.iter().filter_map(|name| Some((name.clone(), saved(&machine, name)?))).collect();
    machine.origin.asked.clear();
    let (machine, end) = get(machine, &config(setting, 5, Existing::Compare));
    let End::Returned(exit) = end else { panic!("nobody ends the last life") };
    let printed = String::from_utf8_lossy(&machine.printed);
    assert_eq!(exit, ExitCode::Done, "the last life, undisturbed: {printed}");
    check_whole(&machine, setting, "in the end");
    let is_unharmed = !past.has_failed && !past.has_been_written_to && !machine.origin.has_damaged;
    if is_unharmed && setting.kind != Kind::Hostile {
        assert!(!printed.contains("arrived damaged"), "what was kept was not what came: {printed}");
    }
    // What a killed run has left where nothing can be locked is nobody's.
    let is_unlocked_part =
        |path: &Path| path.extension().is_some_and(|end| end.to_str().is_some_and(|end| end.parse::<u32>().is_ok()));
    let left =
        machine.disk.names().filter(|path| !((past.lacked_journal || past.has_failed) && is_unlocked_part(path)));
    let left: Vec<&Path> = left.collect();
    assert_eq!(left.len(), setting.names.len(), "nothing else is left: {left:?}");
    if setting.resume && setting.kind == Kind::New {
        for (name, offset) in saved {
            check_resumed(&machine, &name, offset, &printed);
        }
    }
}

/// How far the journal of a part says that it is good, where that is of the present content, and the part has so much.
fn saved(machine: &Machine, name: &[u8]) -> Option<u64> {
    let part = machine.disk.content(&beside(name))?;
    let present = machine.origin.present(name)?;
    let boot = machine.disk.boot();
    let entries = slots(machine.disk.content(&journal_of(name))?);
    let counts = entries.iter().filter(|entry| entry.is_synced || entry.boot == boot);
    let best = counts.max_by_key(|entry| entry.offset)?;
    let is_present = best.about.version == present.version() && best.about.size == present.bytes.len() as u64;
    (is_present && best.offset > 0 && best.offset <= part.len() as u64).then_some(best.offset)
}

fn check_resumed(machine: &Machine, name: &[u8], offset: u64, printed: &str) {
    let first = machine.origin.asked.iter().find_map(|(asked, wanted)| match wanted {
        Wanted::Bytes { offset, .. } if asked == name => Some(*offset),
        _ => None,
    });
    if let Some(first) = first {
        assert!(first >= offset, "{offset} bytes were saved, and it went on at {first}: {printed}");
    }
}

/// A kill loses what is on its way and not recorded, and no more: nothing is written to a part without a journal, but for a
/// whole file that is small.
fn check_loss(machine: &Machine, setting: &Setting) {
    for name in &setting.names {
        let Some(part) = machine.disk.content(&beside(name)) else { continue };
        let len = part.len() as u64;
        let Some(journal) = machine.disk.content(&journal_of(name)) else {
            let needs_none = setting.kind != Kind::New || part.len() < JOURNAL_FROM;
            assert!(needs_none || len == 0, "{len} bytes are there, without a journal");
            continue;
        };
        // A new one, and the part that it is for is not cut yet: what is there was given up.
        let Some(recorded) = slots(journal).iter().map(|entry| entry.offset).max() else { continue };
        assert!(len <= recorded + LOST_MAX, "{len} bytes are there, and {recorded} recorded");
    }
}

/// After every call of the file system, and after a power cut at this moment: under each name is nothing, what was there,
/// or all of what the server has had.
fn watch(machine: &Machine) {
    SETTING.with_borrow(|setting| {
        let Some(setting) = setting else { return };
        for name in &setting.names {
            let path = target(name);
            let now = machine.disk.content(&path);
            check_content(machine, setting, name, now, "now");
            if let Some(promised) = promised(machine, name) {
                SEEN.with_borrow_mut(|seen| {
                    let best = seen.entry(name.clone()).or_insert(promised);
                    let is_more = best.0 != promised.0 || best.1 < promised.1;
                    *best = if is_more { promised } else { *best };
                });
            }
            if setting.sync {
                let survives = any_of_what_survives(machine.dice());
                let then = machine.disk.content_after_power_cut(&path, survives);
                check_content(machine, setting, name, then.as_deref(), "after a power cut");
            }
        }
    });
}

fn check_content(machine: &Machine, setting: &Setting, name: &[u8], content: Option<&[u8]>, when: &str) {
    let Some(bytes) = content else {
        return assert!(!setting.old.contains_key(&target(name)), "{when}: the old file is gone");
    };
    let is_old = setting.old.get(&target(name)).is_some_and(|old| old == bytes);
    assert!(
        is_old || machine.origin.has_had(name, bytes),
        "{when}: {} bytes under the name {}, which nobody has ever had",
        bytes.len(),
        String::from_utf8_lossy(name)
    );
}

/// What a run says, and what is there.
fn check_end(machine: &Machine, setting: &Setting, exit: ExitCode, existing: Existing) {
    let printed = String::from_utf8_lossy(&machine.printed);
    assert!(printed.contains("xfer: ") || exit == ExitCode::Done, "{exit:?}: {printed}");
    if exit == ExitCode::Done && existing != Existing::Keep {
        check_whole(machine, setting, "after success");
    }
    if setting.kind != Kind::Hostile {
        assert!(!matches!(exit, ExitCode::Usage), "{exit:?}: {printed}");
    }
}

/// What is said to be kept can be resumed, and what is large and came whole is not said to be lost.
fn check_kept(machine: &Machine, setting: &Setting, config: &GetConfig) {
    let printed = String::from_utf8_lossy(&machine.printed);
    for name in &setting.names {
        let line = format!(" in {}; run the same command to resume", beside(name).display());
        let is_lie = setting.kind == Kind::Hostile || machine.origin.has_damaged;
        assert!(is_lie || !printed.contains(&line) || saved(machine, name).is_some(), "{printed}");
    }
    // Less than a KB is a small file, or a piece of a frame. Where nothing can be locked, nothing can be resumed.
    let may_lose = config.v1 || setting.kind != Kind::New || machine.disk.lacks.locks;
    assert!(may_lose || !printed.contains("KiB received were not kept"), "{printed}");
}

/// Every file is there as the server has it, or has said that it has it.
fn check_whole(machine: &Machine, setting: &Setting, when: &str) {
    for name in &setting.names {
        let there = machine.disk.content(&target(name));
        let present = machine.origin.present(name).map(|content| &content.bytes[..]);
        let is_lie = there.is_some_and(|bytes| machine.origin.lies.iter().any(|lie| lie == bytes));
        assert!(
            there.is_some() && (there == present || is_lie),
            "{when}: {:?} bytes are there, {:?} on the server",
            there.map(<[u8]>::len),
            present.map(<[u8]>::len)
        );
    }
}
