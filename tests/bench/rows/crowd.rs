//! Thousands of connections, each with half a request, and what they cost the server and its other clients.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use crate::bench::Bench;
use crate::cost;
use crate::files::Source;
use crate::reader::{Reader, connect};
use crate::row::{Measured, Run, against_nginx, in_turn};
use crate::servers::{self, Server};
use crate::sizes::Unit;
use crate::speech::Speech;
use crate::timed::{curl, way, xfer_get};
use crate::trouble::{Doing, Trouble, ensure};

pub fn memory(bench: &Bench) -> Result<Measured, Trouble> {
    let file = bench.files.small(1)?.remove(0);
    let growth = |server: Server, speech| {
        Reader::connect(server.addr(), speech)?.fetch(&speech.request(&file.name))?;
        let before = cost::resident(server.pid())?;
        let crowd = gather(bench, &server, speech, &file)?;
        let after = cost::resident(server.pid())?;
        // The server ends before the crowd does, so that its port keeps the remains of the connections.
        drop(server);
        Ok((after as f64 - before as f64) / crowd.len() as f64)
    };
    let ours = |_: Run| growth(servers::xfer(bench)?, Speech::Xfer);
    let theirs = |_: Run| growth(servers::nginx(bench)?, Speech::Http);
    in_turn(bench, Unit::Bytes, Ok(ours), bench.tools.need("nginx").map(|_| theirs))
}

/// A command line that makes a copy, beside a crowd that stays.
pub fn request(bench: &Bench) -> Result<Measured, Trouble> {
    let file = &bench.files.small(1)?[0];
    against_nginx(bench, Unit::Seconds, |server, speech| {
        let crowd = gather(bench, &server, speech, file)?;
        let commands = move |target: &Path| {
            // Each of the crowd must still be there: its descriptor is, beside those that the server had before.
            ensure(cost::descriptors(server.pid())? > crowd.len(), || "the crowd has gone".to_owned())?;
            Ok(vec![match speech {
                Speech::Xfer => xfer_get(bench, server.addr(), &file.name, target),
                Speech::Http => curl(bench, server.addr(), &file.name, target)?,
            }])
        };
        way(bench, commands, |_, target| file.check_copy(target))
    })
}

/// Connects many times and sends half a request on each; the server has read them all then.
fn gather(bench: &Bench, server: &Server, speech: Speech, file: &Source) -> Result<Vec<TcpStream>, Trouble> {
    let wanted = bench.sizes.half_asked;
    bench.can_connect(wanted)?;
    let request = speech.request(&file.name);
    let mut crowd = Vec::new();
    for _ in 0..wanted {
        let mut stream = connect(server.addr())?;
        stream.write_all(&request[..request.len() / 2]).doing("cannot ask half")?;
        crowd.push(stream);
    }
    // Asked last and answered: by then the rest was accepted and read. Twice, since it may have come in the same pass.
    let mut reader = Reader::connect(server.addr(), speech)?;
    reader.fetch(&request)?;
    reader.fetch(&request)?;
    Ok(crowd)
}
