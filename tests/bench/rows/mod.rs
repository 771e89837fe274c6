//! All rows, in the order of the report.

mod crowd;
mod large;
mod latency;
mod many;
mod resumed;
mod served;

use super::bench::Bench;
use super::row::{Goal, Measured, Row};
use super::sizes::{Sizes, count, size};
use super::trouble::Trouble;

fn row(
    name: &'static str,
    work: String,
    against: &'static str,
    goal: Goal,
    measure: fn(&Bench) -> Result<Measured, Trouble>,
) -> Row {
    Row { name, work, against, goal, measure }
}

/// The rows, whose names say how much these sizes are.
pub fn all(sizes: &Sizes) -> Vec<Row> {
    use Goal::{AtMost, Interest, Ratio};
    let (large, small, crowd) = (size(sizes.large), count(sizes.small), count(sizes.half_asked));
    let pipelined = count(sizes.pipelined as usize);
    let saved = |how: &str| format!("{large} to disk, {how}");
    let resumed = |digest: &str| format!("second half of {large} to disk, {digest}, resumed, all of it verified");
    let many = |how: &str| format!("{small} files of 4 KiB in one command, {how}");
    let md5 = || saved("MD5, synced, digest cached");
    let served = format!("server CPU time for {pipelined} pipelined requests of 4 KiB files");
    let memory = format!("server memory per connection, of {crowd} with a partial request");
    let beside = format!("`get` of a 4 KiB file beside {crowd} such connections");
    let bulk = format!("p99 latency of a 4 KiB file beside {} bulk readers", latency::BULK_READERS);
    let cold = format!("p99 latency of a 4 KiB file beside {} readers of uncached files", latency::COLD_READERS);
    let neither = ["nginx, `curl -o`, unverified, unsynced", "`http.server`, `curl -o`, unverified, unsynced"];
    vec![
        row("md5", md5(), "`md5sum` of the same file", Ratio(1.15), large::md5_against_md5sum),
        row("md5-tee", md5(), "nginx, `curl \\| tee \\| md5sum`", Ratio(0.70), large::md5_against_tee),
        row("blake3", saved("BLAKE3, synced"), neither[0], Ratio(0.60), large::blake3_against_curl),
        row("rsync", saved("BLAKE3, `--no-sync`"), "rsync daemon, `-W`", Ratio(0.80), large::blake3_against_rsync),
        row(
            "first",
            saved("MD5, synced, digest not cached"),
            "the same, digest cached",
            Ratio(1.35),
            large::first_against_next,
        ),
        row("resume-md5", resumed("MD5"), "the complete transfer", Ratio(0.75), resumed::md5),
        row("resume-blake3", resumed("BLAKE3"), "the complete transfer", Ratio(0.75), resumed::blake3),
        row("cpu", "server CPU time per GiB".to_owned(), "nginx worker, sendfile", Ratio(1.10), served::a_gib),
        row("cpu-small", served, "nginx worker, keep-alive", Ratio(1.00), served::pipelined),
        row("many", many("`--no-sync`"), "rsync daemon, `-r`", Ratio(1.00), many::not_synced),
        row("many-synced", many("synced"), "rsync daemon, `-r --fsync`", Ratio(0.80), many::synced),
        row("memory", memory, "nginx worker", AtMost(2048.0), crowd::memory),
        row("idle", beside, "nginx, `curl -o`", AtMost(0.5), crowd::request),
        row("p99", bulk, "nginx", Ratio(1.00), latency::beside_bulk),
        row("p99-cold", cold, "nginx without aio", Ratio(0.70), latency::beside_cold),
        row("python", saved("BLAKE3, synced"), neither[1], Interest, large::blake3_against_python),
    ]
}
