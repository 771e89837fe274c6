//! How long the slowest hundredth of small requests takes while others read large files.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bench::Bench;
use crate::cost;
use crate::files::Source;
use crate::load::{Asks, Load};
use crate::reader::{Reader, check};
use crate::row::{Measured, Run, Way, against_nginx};
use crate::servers::Server;
use crate::sizes::Unit;
use crate::speech::Speech;
use crate::statistics::percentile;
use crate::trouble::{Trouble, ensure};

pub const BULK_READERS: usize = 16;
pub const COLD_READERS: usize = 4;

const P99: f64 = 0.99;

/// Between a reply and the next request, so that the samples are spread over what the others do.
const PAUSE: Duration = Duration::from_millis(1);

pub fn beside_bulk(bench: &Bench) -> Result<Measured, Trouble> {
    let files = vec![bench.large()?; BULK_READERS];
    against_nginx(bench, Unit::Seconds, |server, speech| beside(bench, server, speech, &files, None))
}

pub fn beside_cold(bench: &Bench) -> Result<Measured, Trouble> {
    let names = (0..COLD_READERS).map(|number| format!("cold-{number}.bin"));
    let files = bench.files.random(names, bench.sizes.cold)?;
    // Only clean pages can be taken out of memory.
    bench.scratch.settle_disk()?;
    let open = files.iter().map(Source::open).collect::<Result<Vec<_>, _>>()?;
    against_nginx(bench, Unit::Seconds, |server, speech| beside(bench, server, speech, &files, Some(&open)))
}

/// Beside one reader of each of these files, which are taken out of memory before each reading if `cold` has them open.
fn beside<'a>(
    bench: &'a Bench,
    server: Server,
    speech: Speech,
    files: &'a [Source],
    cold: Option<&'a [File]>,
) -> Result<impl Way + 'a, Trouble> {
    let small = bench.files.small(1)?;
    let requests: Vec<_> = files.iter().map(|file| vec![speech.request(&file.name)]).collect();
    let request = speech.request(&small[0].name);
    Ok(move |run: Run| {
        if run == Run::Check {
            check(server.addr(), speech, &small)?;
            check(server.addr(), speech, &files[..1])?;
        }
        let cold = |index| cold.and_then(|files: &[File]| files.get(index));
        let asks = requests.iter().enumerate();
        let asks = asks.map(|(index, request)| Asks { cold: cold(index), ..Asks::again_and_again(request) });
        let load = Load::start(server.addr(), speech, asks)?;
        let disk_before = cost::read_from_disk(server.pid())?;
        let mut reader = Reader::connect(server.addr(), speech)?;
        let wanted = if cold(0).is_some() { bench.sizes.cold_samples } else { bench.sizes.samples };
        let (mut samples, body) = while_busy(load, wanted, || {
            std::thread::sleep(PAUSE);
            reader.fetch(&request)
        })?;
        let read = cost::read_from_disk(server.pid())? - disk_before;
        let was_cold = cold(0).is_none() || read >= body / 2;
        ensure(was_cold, || format!("of {body} bytes sent only {read} were read from the disk"))?;
        percentile(&mut samples, P99).ok_or_else(|| Trouble::Failed("no samples".to_owned()))
    })
}

/// Takes samples, in seconds, while another thread keeps the load going; says how many bytes that brought, too.
fn while_busy(
    mut load: Load,
    samples: usize,
    mut sample: impl FnMut() -> Result<Duration, Trouble>,
) -> Result<(Vec<f64>, u64), Trouble> {
    let (busy, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                load.turn()?;
                busy.store(load.all_served(), Ordering::Relaxed);
            }
            Ok(load.body())
        });
        while !busy.load(Ordering::Relaxed) && !others.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let taken: Result<Vec<_>, _> = (0..samples).map(|_| sample().map(|time| time.as_secs_f64())).collect();
        done.store(true, Ordering::Relaxed);
        let body = others.join().unwrap_or_else(|_| Err(Trouble::Failed("the readers failed".to_owned())))?;
        Ok((taken?, body))
    })
}
