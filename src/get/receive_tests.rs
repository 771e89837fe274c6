//! Disks that fail or hang, where no file system can be brought to it: a device that cannot be synced, a pipe that is full.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::Instant;

use signal_hook::consts::SIGINT;

use super::super::slot::PIECE;
use super::*;
use crate::error::ExitCode;
use crate::proto::digest::Algorithm;

/// Long beside what a test does meanwhile: a wait that is left out is seen.
const LATE: Duration = Duration::from_millis(100);

fn file(path: &str) -> Sink {
    let file = OpenOptions::new().write(true).open(Path::new(path)).expect("the device can be opened");
    Sink::File { file: Arc::new(File::Real(file)), passes_cache: Arc::new(AtomicBool::new(false)), path: path.into() }
}

/// Takes writes at any place, and answers every sync with EINVAL (fsync(2)).
const UNSYNCABLE: &str = "/dev/null";

/// The beginning of a file, of so many bytes in frames of a block.
fn receive<'a>(receiver: &'a Receiver, sink: Sink, len: u64, waits: &mut Waits) -> Body<'a> {
    let start = Start::behind(Digested::nothing(Algorithm::Md5));
    let mut body = receiver.begin(sink, start, None, true);
    while body.received() < len {
        let room = body.room(len - body.received(), waits).expect("there is room").len();
        body.add(room);
        body.end_frame();
    }
    body
}

fn start() -> (Waits, Receiver) {
    let waits = Waits::for_test();
    let receiver = Receiver::start(&waits);
    (waits, receiver)
}

#[test]
fn a_failed_early_sync_fails_the_file() {
    let (mut waits, receiver) = start();
    // As far as no sync is due before the last one.
    let mut body = receive(&receiver, file(UNSYNCABLE), PIECE - 1, &mut waits);
    assert!(body.finish(&mut waits).is_ok());
    let mut body = receive(&receiver, file(UNSYNCABLE), PIECE, &mut waits);
    match body.finish(&mut waits) {
        Err(Stop::Final(error)) => assert_eq!(error.exit, ExitCode::Local, "{error}"),
        other => panic!("{other:?}"),
    }
}

/// The last sync would not be told of it (fsync(2)).
#[test]
fn the_end_of_an_early_sync_is_waited_for() {
    let (mut waits, receiver) = start();
    receiver.syncer.post(|| sleep(LATE));
    let mut body = receive(&receiver, file(UNSYNCABLE), PIECE, &mut waits);
    assert!(body.finish(&mut waits).is_err());
    receiver.syncer.post(|| sleep(LATE));
    let body = receive(&receiver, file(UNSYNCABLE), PIECE, &mut waits);
    assert!(matches!(body.stop(&mut waits), Ok(Stopped::InDoubt(_))));
}

#[test]
fn what_an_attempt_leaves() {
    let (mut waits, receiver) = start();
    let good = |stopped| match stopped {
        Ok(Stopped::Good(resumable)) => Some(resumable.offset),
        _ => None,
    };
    let body = receive(&receiver, file(UNSYNCABLE), PIECE, &mut waits);
    assert!(matches!(body.stop(&mut waits), Ok(Stopped::InDoubt(_))), "not on the disk");
    let body = receive(&receiver, file(UNSYNCABLE), PIECE - 1, &mut waits);
    assert_eq!(good(body.stop(&mut waits)), Some(PIECE - 1), "nobody has asked");
    // What was written before the disk was full is what was written.
    let body = receive(&receiver, file("/dev/full"), BLOCK_LEN as u64, &mut waits);
    assert_eq!(good(body.stop(&mut waits)), Some(0), "no room is no doubt");
}

/// Bytes that a pipe holds at first (pipe(7)).
const PIPE_LEN: usize = 16 * 4096;

/// A disk that does not answer: a signal waits for it a moment, and then nobody knows what is there.
#[test]
fn a_signal_does_not_wait_for_a_writer_that_is_stuck() {
    let (mut waits, receiver) = start();
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    writer.write_all(&[0; PIPE_LEN]).expect("it is empty");
    let (file, written) =
        (Arc::new(std::fs::File::from(std::os::fd::OwnedFd::from(writer))), Arc::new(AtomicU64::new(0)));
    let sink = Sink::Stream { file, written, shown: "a pipe".to_string() };
    let body = receive(&receiver, sink, 2 * BLOCK_LEN as u64, &mut waits);
    waits.set_signal(SIGINT);
    let started = Instant::now();
    let stopped = body.stop(&mut waits);
    assert!(matches!(stopped, Ok(Stopped::Unknown)), "what is written is not known");
    let took = started.elapsed();
    assert!((SIGNAL_GRACE..3 * SIGNAL_GRACE).contains(&took), "{took:?}");
    drop(reader);
}
