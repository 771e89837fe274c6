//! The machine on which a simulated client runs: the clock, the threads, the network and the disk of this thread, as long
//! as there is one.
//!
//! Threads do their jobs one at a time, in an order that chance decides, while the main one waits; so a run that is
//! ended by force ends everywhere, and the same seed is the same run.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::origin::Origin;
use crate::get::workers::Job;
use crate::net::Io;
use crate::simulation::Dice;

/// Waits in a row that come to nothing before a run counts as hanging.
const WAITS_MAX: u64 = 200_000;

/// The machine.
pub struct Machine {
    dice: Dice,
    /// The time on it.
    pub now: Instant,
    /// Of 400 waits, so many end late, since the program was suspended.
    pub jumps: u32,
    threads: Vec<VecDeque<Job>>,
    /// Whether a thread does a job: whatever that gives to another begins later.
    is_in_job: bool,
    /// Its disk.
    pub disk: Disk,
    /// The server at the other end of its network.
    pub origin: Origin,
    /// What the program has printed.
    pub printed: Vec<u8>,
    /// Waits after which a signal comes; `None` for never.
    pub signal_after: Option<u64>,
    signal: Option<u8>,
    waits: u64,
    links_unnamed: Option<bool>,
    /// Looked at after every call of the file system: what is always true of the disk.
    pub always: fn(&Machine),
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// The program was ended by force.
struct Ended;

/// How a program came to its end.
pub enum End<T> {
    /// By itself.
    Returned(T),
    /// By force.
    Killed,
}

impl Machine {
    /// A machine with this disk and this server.
    pub fn new(dice: Dice, disk: Disk, origin: Origin, always: fn(&Machine)) -> Machine {
        Machine {
            dice,
            now: Instant::now(),
            jumps: 1,
            threads: Vec::new(),
            is_in_job: false,
            disk,
            origin,
            printed: Vec::new(),
            signal_after: None,
            signal: None,
            waits: 0,
            links_unnamed: None,
            always,
        }
    }

    /// The chance of its run.
    pub fn dice(&self) -> &Dice {
        &self.dice
    }

    /// Runs a program on it, to its end.
    pub fn run<T>(self, program: impl FnOnce() -> T) -> (Machine, End<T>) {
        MACHINE.set(Some(self));
        let result = catch_unwind(AssertUnwindSafe(program));
        // Jobs that wait hold files, which close while the machine is there.
        let jobs: Vec<_> = with(|machine| machine.threads.drain(..).collect());
        drop(jobs);
        let Some(mut machine) = MACHINE.take() else { unreachable!("it was put there above") };
        machine.disk.end_program();
        machine.origin.hang_up();
        (machine.signal, machine.signal_after, machine.waits) = (None, None, 0);
        machine.links_unnamed = None;
        machine.is_in_job = false;
        match result {
            Ok(value) => (machine, End::Returned(value)),
            Err(panic) if panic.is::<Ended>() => (machine, End::Killed),
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn with<T>(call: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with_borrow_mut(|machine| call(machine.as_mut().expect("a simulated thing has a machine")))
}

/// Whether this thread has a machine.
pub fn is_simulated() -> bool {
    MACHINE.try_with(|machine| machine.try_borrow().is_ok_and(|machine| machine.is_some())).unwrap_or(false)
}

/// The time on it, if there is one.
pub fn now() -> Option<Instant> {
    is_simulated().then(|| with(|machine| machine.now))
}

/// Asks its disk, if there is one.
pub fn disk<T>(call: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    is_simulated().then(|| on_disk(call))
}

/// Asks its disk.
pub fn on_disk<T>(call: impl FnOnce(&mut Disk) -> T) -> T {
    let (result, ended) = with(|machine| {
        let before = machine.disk.has_ended;
        let result = call(&mut machine.disk);
        if !machine.disk.has_ended && !std::thread::panicking() {
            (machine.always)(machine);
        }
        (result, machine.disk.has_ended && !before)
    });
    if ended && !std::thread::panicking() {
        resume_unwind(Box::new(Ended) as Box<dyn Any + Send>);
    }
    result
}

/// What was found out about files without a name.
pub fn links_unnamed() -> Option<bool> {
    with(|machine| machine.links_unnamed)
}

/// Remembers it.
pub fn remember_links_unnamed(links: bool) -> bool {
    with(|machine| *machine.links_unnamed.insert(links))
}

/// Takes what the program prints, if there is a machine.
pub fn print(bytes: &[u8]) -> bool {
    is_simulated() && {
        with(|machine| machine.printed.extend_from_slice(bytes));
        true
    }
}

/// Starts a thread, if there is a machine: its number.
pub fn start_thread() -> Option<io::Result<usize>> {
    is_simulated().then(|| {
        with(|machine| {
            if machine.dice.fault("no thread could be started", 30, 1) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            machine.threads.push(VecDeque::new());
            Ok(machine.threads.len() - 1)
        })
    })
}

/// Gives a thread a job, which it may do at once.
pub fn post(thread: usize, job: Job) {
    let runs = with(|machine| {
        machine.threads[thread].push_back(job);
        !machine.is_in_job && machine.dice.happens(4, 1)
    });
    if runs {
        run_one_job();
    }
}

/// One thread, if any has something to do, does one job; whether there was one.
fn run_one_job() -> bool {
    let job = with(|machine| {
        let busy: Vec<usize> = (0..machine.threads.len()).filter(|at| !machine.threads[*at].is_empty()).collect();
        if busy.is_empty() {
            return None;
        }
        let thread = *machine.dice.pick(&busy);
        machine.threads[thread].pop_front()
    });
    match job {
        Some(job) => {
            with(|machine| machine.is_in_job = true);
            job();
            with(|machine| machine.is_in_job = false);
            true
        }
        None => false,
    }
}

/// Threads go on for a while: some of what they have to do gets done.
pub fn run_threads_for(time: Duration) {
    while with(|machine| machine.dice.happens(10, 9)) && run_one_job() {}
    with(|machine| machine.now += time);
}

/// The main thread waits: jobs are done, bytes come, a signal comes, or time passes. The signal, if that is what it was.
pub fn wait(until: Option<Instant>) -> Option<u8> {
    let has_signal = with(|machine| {
        machine.waits += 1;
        assert!(machine.waits < WAITS_MAX, "{WAITS_MAX} waits, and no end");
        match &mut machine.signal_after {
            Some(0) => {
                machine.signal_after = None;
                machine.signal = Some(*machine.dice.pick(&[1, 2, 15]));
                machine.dice.count("a signal");
            }
            Some(left) => *left -= 1,
            None => {}
        }
        machine.now += Duration::from_micros(machine.dice.within(0..200));
        machine.signal
    });
    if has_signal.is_some() {
        return has_signal;
    }
    // A look, and no wait.
    if until.is_some_and(|until| with(|machine| until <= machine.now)) {
        return None;
    }
    if with(|machine| machine.dice.happens(2, 1)) && run_one_job() {
        return None;
    }
    let is_ready = with(|machine| {
        let now = machine.now;
        machine.origin.may_be_ready(now)
    });
    if is_ready || run_one_job() {
        return None;
    }
    with(|machine| {
        let next = [until, machine.origin.next_at()].into_iter().flatten().min();
        let next = next.expect("the program waits for something that never comes");
        machine.now = machine.now.max(next);
        // It was suspended meanwhile.
        if machine.dice.fault("time jumped", 400, machine.jumps) {
            machine.now += Duration::from_secs(machine.dice.within(0..100));
        }
    });
    None
}

/// Connects to the server.
pub fn connect(deadline: Instant) -> io::Result<Socket> {
    with(|machine| {
        let now = machine.now;
        let result = machine.origin.connect(now);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            machine.now = machine.now.max(deadline);
        }
        result.map(Socket)
    })
}

/// The program's end of a connection.
pub struct Socket(u64);

impl Socket {
    /// Reads what has come.
    pub fn read(&mut self, rooms: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        with(|machine| {
            let now = machine.now;
            machine.origin.read(self.0, rooms, now)
        })
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> Io {
        with(|machine| {
            machine.disk.has_asked = true;
            machine.origin.write(self.0, bytes)
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        with(|machine| machine.origin.close(self.0));
    }
}

/// An open file of the simulated disk.
#[derive(Debug)]
pub struct Handle(pub u64);

impl Drop for Handle {
    fn drop(&mut self) {
        with(|machine| machine.disk.close(self.0));
    }
}
