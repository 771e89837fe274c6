//! What a server needs of a core while one connection reads and throws away.

use crate::bench::Bench;
use crate::cost;
use crate::files::Source;
use crate::load::{Asks, Load};
use crate::reader::check;
use crate::row::{Measured, Run, Way, against_nginx};
use crate::servers::Server;
use crate::sizes::Unit;
use crate::speech::Speech;
use crate::trouble::Trouble;

/// Requests for small files on the way at most.
const AHEAD: u64 = 64;

const GIB: f64 = (1_u64 << 30) as f64;

pub fn a_gib(bench: &Bench) -> Result<Measured, Trouble> {
    let (files, rounds) = ([bench.large()?], bench.sizes.large_rounds);
    let per = (rounds * bench.sizes.large) as f64 / GIB;
    against_nginx(bench, Unit::Seconds, |server, speech| Ok(cpu(server, speech, &files, rounds, 1, per)))
}

pub fn pipelined(bench: &Bench) -> Result<Measured, Trouble> {
    let (files, total) = (bench.files.small(bench.sizes.pipelined_names)?, bench.sizes.pipelined);
    against_nginx(bench, Unit::Seconds, |server, speech| Ok(cpu(server, speech, &files, total, AHEAD, 1.0)))
}

/// Seconds of a core for `total` requests, divided by `per`.
fn cpu(server: Server, speech: Speech, files: &[Source], total: u64, ahead: u64, per: f64) -> impl Way {
    let requests: Vec<_> = files.iter().map(|file| speech.request(&file.name)).collect();
    move |run: Run| {
        if run == Run::Check {
            check(server.addr(), speech, files)?;
        }
        let asks = Asks { requests: &requests, ahead, total, cold: None };
        let before = cost::cpu(server.pid())?;
        Load::start(server.addr(), speech, [asks])?.finish()?;
        Ok((cost::cpu(server.pid())? - before).as_secs_f64() / per)
    }
}
