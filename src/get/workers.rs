//! Threads for what may block: hashing, writing, syncing, looking up names.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::clock;
use super::wait::{Stop, Waits};
use crate::error::reason;
#[cfg(test)]
use crate::simulation::machine;

/// A thread that does one job after the other, in order. It ends with the process: nobody waits for a hung disk.
///
/// Threads can be used up (RLIMIT_NPROC, pids.max of a control group, memory): then a worker shares the thread of another,
/// or does each job at once, on the thread that gives it.
pub struct Worker {
    jobs: Jobs,
    waker: Arc<Waker>,
}

/// Something to do.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where jobs go.
#[derive(Clone)]
enum Jobs {
    /// To a thread.
    Thread(Sender<Job>),
    /// To nobody: each is done at once. Set meanwhile, so that a signal ends the process: nobody else would see it.
    Here(Arc<AtomicBool>),
    /// To a thread of the simulated machine, with this number.
    #[cfg(test)]
    Simulated(usize),
}

impl Worker {
    /// Starts a thread of this name.
    pub fn start(name: &str, waker: Arc<Waker>) -> Result<Worker, Stop> {
        #[cfg(test)]
        if let Some(thread) = machine::start_thread() {
            let number = thread.map_err(|error| cannot_start(name, &error))?;
            return Ok(Worker { jobs: Jobs::Simulated(number), waker });
        }
        let (jobs, todo) = channel::<Job>();
        thread::Builder::new()
            .name(name.to_string())
            .spawn(move || todo.into_iter().for_each(|job| job()))
            .map_err(|error| cannot_start(name, &error))?;
        Ok(Worker { jobs: Jobs::Thread(jobs), waker })
    }

    /// Starts a thread of this name, or does without one.
    pub fn start_or_here(name: &str, waits: &Waits) -> Worker {
        Worker::start(name, waits.waker()).unwrap_or_else(|stop| {
            log::warn!(target: "main", "{}; the main thread does its work", stop.into_error());
            waits.flush();
            Worker::here(waits)
        })
    }

    /// Does without a thread.
    pub fn here(waits: &Waits) -> Worker {
        Worker { jobs: Jobs::Here(waits.dies_of_signals()), waker: waits.waker() }
    }

    /// Starts a thread of this name, or shares that of another worker.
    pub fn start_or_share(name: &str, other: &Worker) -> Worker {
        Worker::start(name, Arc::clone(&other.waker)).unwrap_or_else(|stop| {
            log::warn!(target: "main", "{}; another thread does its work", stop.into_error());
            Worker { jobs: other.jobs.clone(), waker: Arc::clone(&other.waker) }
        })
    }

    /// Does this after all that was given before; nobody waits for it.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) {
        match &self.jobs {
            // Were the thread gone, the next `run` would tell: its job is dropped, and with it the sender.
            Jobs::Thread(jobs) => drop(jobs.send(Box::new(job))),
            Jobs::Here(dies_of_signals) => {
                // A job may give another one.
                let before = dies_of_signals.swap(true, Ordering::SeqCst);
                job();
                dies_of_signals.store(before, Ordering::SeqCst);
            }
            #[cfg(test)]
            Jobs::Simulated(number) => machine::post(*number, Box::new(job)),
        }
    }

    /// Does this after all that was given before, for a result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (sender, receiver) = channel();
        let waker = Arc::clone(&self.waker);
        self.post(move || {
            // Nobody may want the result any more, and the main thread may be past all waiting.
            let _ = sender.send(job());
            wake(&waker);
        });
        Pending { receiver }
    }
}

fn cannot_start(name: &str, error: &io::Error) -> Stop {
    Stop::local(format!("cannot start a thread ({name}): {}", reason(error)))
}

/// Wakes whoever waits in a poll; who is not woken waits for ever, so a wake-up that fails is tried once more.
pub fn wake(waker: &Waker) {
    let _ = waker.wake().or_else(|_| waker.wake());
}

/// The result of a job, to come.
pub struct Pending<T> {
    receiver: Receiver<T>,
}

impl<T> Pending<T> {
    /// The result, if the job is done.
    pub fn poll(&self) -> Result<Option<T>, Stop> {
        match self.receiver.try_recv() {
            Ok(result) => Ok(Some(result)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Stop::local("a worker thread failed; please report this")),
        }
    }

    /// Waits for the result, or a signal.
    pub fn wait(&self, waits: &mut Waits) -> Result<T, Stop> {
        loop {
            if let Some(result) = self.poll()? {
                return Ok(result);
            }
            waits.wait(None)?;
        }
    }

    /// The result, if it comes within this time, whatever signals come.
    pub fn wait_at_most(&self, time: Duration) -> Option<T> {
        #[cfg(test)]
        if machine::is_simulated() {
            machine::run_threads_for(time);
            return self.receiver.try_recv().ok();
        }
        self.receiver.recv_timeout(time).ok()
    }

    /// Waits for the end; after a signal only for this much longer. Whether it came.
    pub fn ends_through_signal(&self, waits: &mut Waits, grace: Duration) -> Result<bool, Stop> {
        match self.wait(waits) {
            Ok(_) => Ok(true),
            Err(Stop::Signal(_)) => Ok(self.wait_at_most(grace).is_some()),
            Err(stop) => Err(stop),
        }
    }

    /// Waits for the result until this time, or a signal.
    pub fn wait_until(&self, waits: &mut Waits, until: Instant) -> Result<Option<T>, Stop> {
        loop {
            if let Some(result) = self.poll()? {
                return Ok(Some(result));
            }
            if clock::now() >= until {
                return Ok(None);
            }
            waits.wait(Some(until))?;
        }
    }
}
