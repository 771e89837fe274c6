//! What grows, and what must not: speed, time of a core and memory over connections and over sizes of files.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::cost;
use crate::files::SETTLED;
use crate::load::{Asks, Load};
use crate::process::Process;
use crate::reader::Reader;
use crate::servers::{self, Server};
use crate::sizes::{Unit, count};
use crate::speech::Speech;
use crate::table::markdown;
use crate::timed::{remove, xfer_get};
use crate::trouble::{Doing, Trouble};

/// A table that `--rows` names.
pub struct Growth {
    pub name: &'static str,
    pub title: &'static str,
    pub measure: fn(&Bench) -> Result<String, Trouble>,
}

pub const ALL: [Growth; 2] = [
    Growth { name: "connections", title: "Simultaneous readers of one large file", measure: over_connections },
    Growth { name: "sizes", title: "One file to disk, BLAKE3, synced", measure: over_sizes },
];

/// Bytes of the disk that are nobody's.
const ROOM_BESIDE: u64 = 1 << 30;

/// Between two looks at how much memory a client needs.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

const GIB: f64 = (1_u64 << 30) as f64;

fn over_connections(bench: &Bench) -> Result<String, Trouble> {
    let head = ["connections", "xfer", "CPU per GiB", "server memory", "nginx", "CPU per GiB", "worker memory"];
    let large = bench.large()?;
    let mut rows = Vec::new();
    for &readers in bench.sizes.connections {
        eprintln!("  {readers} connections");
        let mut cells = vec![count(readers)];
        match bench.can_connect(readers) {
            Err(missing) => cells.push(missing.to_string()),
            Ok(()) => {
                cells.extend(serve_many(bench, servers::xfer(bench), Speech::Xfer, &large.name, readers)?);
                cells.extend(serve_many(bench, servers::nginx(bench), Speech::Http, &large.name, readers)?);
            }
        }
        cells.resize(head.len(), String::new());
        rows.push(cells);
    }
    Ok(markdown(&head, &rows))
}

/// Bytes a second in all, seconds of a core for a GiB, memory; counted from when each reader has had its first bytes.
fn serve_many(
    bench: &Bench,
    server: Result<Server, Trouble>,
    speech: Speech,
    name: &str,
    readers: usize,
) -> Result<Vec<String>, Trouble> {
    let server = match server {
        Err(trouble @ Trouble::Missing(_)) => return Ok(vec![trouble.to_string()]),
        server => server?,
    };
    let request = [speech.request(name)];
    // The digest is cached then.
    Reader::connect(server.addr(), speech)?.fetch(&request[0])?;
    let asks = std::iter::repeat_n(Asks::again_and_again(&request), readers);
    let mut load = Load::start(server.addr(), speech, asks)?;
    while !load.all_served() {
        load.turn()?;
    }
    let (start, body, cpu) = (Instant::now(), load.body(), cost::cpu(server.pid())?);
    while start.elapsed() < bench.sizes.watched {
        load.turn()?;
    }
    let (seconds, body) = (start.elapsed().as_secs_f64(), (load.body() - body) as f64);
    let cpu = (cost::cpu(server.pid())? - cpu).as_secs_f64() * GIB / body;
    let memory = cost::resident(server.pid())? as f64;
    Ok(vec![format!("{}/s", Unit::Bytes.show(body / seconds)), Unit::Seconds.show(cpu), Unit::Bytes.show(memory)])
}

fn over_sizes(bench: &Bench) -> Result<String, Trouble> {
    let head = ["size", "time", "per GB", "client memory", "server memory"];
    let mut rows = Vec::new();
    for &size in bench.sizes.growing {
        let mut cells = vec![format!("{} MB", count((size / 1_000_000) as usize))];
        if bench.scratch.room()? < size + ROOM_BESIDE {
            cells.push("missing: room on the disk".to_owned());
        } else {
            eprintln!("  {}", cells[0]);
            cells.extend(fetch_one(bench, size)?);
        }
        cells.resize(head.len(), String::new());
        rows.push(cells);
    }
    Ok(markdown(&head, &rows))
}

/// Time, time a GB, and what client and server need of memory at most. The file is one hole, whose zeros the server
/// still has to read; the client writes them all.
fn fetch_one(bench: &Bench, size: u64) -> Result<Vec<String>, Trouble> {
    let source = bench.scratch.files().join("hole.bin");
    File::create(&source).and_then(|file| file.set_len(size)).doing("cannot make a file")?;
    std::thread::sleep(SETTLED);
    let server = servers::xfer(bench)?;
    // The first time hashes, and brings the file to memory.
    watch_get(bench, &server)?;
    let (seconds, client) = watch_get(bench, &server)?;
    let memory = cost::peak(server.pid())?;
    remove(&source)?;
    let (client, memory) = (Unit::Bytes.show(client as f64), Unit::Bytes.show(memory as f64));
    Ok(vec![Unit::Seconds.show(seconds), Unit::Seconds.show(seconds * 1e9 / size as f64), client, memory])
}

/// Seconds and bytes of memory of one `xfer get`.
fn watch_get(bench: &Bench, server: &Server) -> Result<(f64, u64), Trouble> {
    let target = bench.scratch.path().join("copy");
    remove(&target)?;
    bench.scratch.settle_disk()?;
    let mut get = xfer_get(bench, server.addr(), "hole.bin", &target);
    get.args(["--checksum", "blake3"]);
    let mut process = Process::start(get, bench.scratch.path().join("errors"))?;
    let mut memory = 0;
    while !process.ends_within(LOOK_AGAIN) {
        // Nothing to see any more if it is just ending.
        memory = memory.max(cost::peak(process.pid()).unwrap_or(0));
    }
    let seconds = (process.succeed()? - process.started).as_secs_f64();
    remove(&target)?;
    Ok((seconds, memory))
}
