//! What is committed of the fuzzer's corpus, and every prefix of it, through what the fuzzer calls.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::get::slot::{About, Checkpoint};
use crate::proto::tree::Prefix;

/// Writes the seeds instead of comparing them.
const WRITE: &str = "XFER_WRITE_SEEDS";

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

fn committed(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let file = |entry: fs::DirEntry| {
        let bytes = fs::read(entry.path()).expect("a file of the corpus");
        (entry.file_name().into_string().expect("a plain name"), bytes)
    };
    entries.map(|entry| file(entry.expect("an entry of the corpus"))).collect()
}

/// Tries one target with its corpus, and says which bytes it was that it failed with.
fn every_prefix(target: &str) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    for (name, bytes) in committed(target) {
        for end in 0..=bytes.len() {
            let outcome = std::panic::catch_unwind(|| run(&bytes[..end]));
            assert!(outcome.is_ok(), "{target} fails with the first {end} bytes of {name}: the panic is above");
        }
    }
}

#[test]
fn requests_of_the_corpus() {
    every_prefix("request");
}

#[test]
fn replies_of_the_corpus() {
    every_prefix("reply");
}

#[test]
fn frames_of_the_corpus() {
    every_prefix("frames");
}

#[test]
fn journals_of_the_corpus() {
    every_prefix("journal");
}

#[test]
fn names_of_the_corpus() {
    every_prefix("names");
}

/// Beside the seeds, the corpus holds what the fuzzer once failed with: such files stay.
#[test]
fn the_seeds_are_those_that_are_committed() {
    let is_writing = std::env::var_os(WRITE).is_some();
    for (target, _) in TARGETS {
        let seeds = seeds(target);
        if is_writing {
            fs::create_dir_all(corpus(target)).expect("a directory for the corpus");
            for (name, bytes) in &seeds {
                fs::write(corpus(target).join(name), bytes).expect("a file of the corpus");
            }
        }
        let committed = committed(target);
        for (name, bytes) in seeds {
            assert_eq!(committed.get(name), Some(&bytes), "{target}/{name} is not its seed; to write it: {WRITE}=1");
        }
    }
}

/// A few inputs of each kind, to begin with.
fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "request" => request_seeds(),
        "reply" => reply_seeds(),
        "frames" => frame_seeds(),
        "journal" => journal_seeds(),
        _ => name_seeds(),
    }
}

fn request_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let get = |name, wanted, rehash| v2::encode_get(&Request { name, algorithm: Algorithm::Blake3, wanted, rehash });
    let resumed = get(b"sub/b.bin", Wanted::Bytes { offset: 1 << 20, version: Version([7; 16]) }, true);
    vec![
        ("old", v1::encode_request("größe.txt")),
        ("old-long", 4097u32.to_be_bytes().to_vec()),
        ("get", get(b"a.bin", Wanted::ALL, false)),
        ("pipelined", [get(b"a\xff", Wanted::Digest { size: 5 }, false), resumed].concat()),
        ("reserved", [&[2, 0, 0, 1, 9][..], &get(b"a", Wanted::ALL, false)].concat()),
        ("too-long", vec![1, 0, 0x10, 0x1d, 1]),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

fn file(digest: Option<Digest>) -> Reply {
    let mtime = Mtime { seconds: -5, nanos: 999_999_999 };
    let algorithm = digest.map_or(Algorithm::Blake3, |digest| digest.algorithm());
    let version = Version::of(9, mtime);
    Reply::File(File { size: 9, offset: 4, mtime, mode: 0o644, version, algorithm, sizes_differ: false, digest })
}

fn stream(replies: &[Reply]) -> Vec<u8> {
    let frame = |reply: &Reply| match reply {
        Reply::Data(len) => [encode(reply).expect("a frame"), vec![b'x'; *len as usize]].concat(),
        _ => encode(reply).expect("a message that is text"),
    };
    replies.iter().flat_map(frame).collect()
}

fn reply_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let md5 = Digest::Md5([0xab; 16]);
    let mut head = v1::Head::new(b"a.bin", 5);
    head.push_digest(&md5);
    let wait = Reply::Wait { done: 1, total: 9 };
    let error = |code, message: &str| Reply::Error(code, message.as_bytes().to_vec());
    vec![
        ("old", head.bytes.clone()),
        ("old-metadata", head.bytes.split_off(v1::OK.len())),
        ("old-error", v1::encode_error("File 'a' not found on server")),
        ("file", stream(&[file(None), Reply::Data(5), wait, Reply::Digest(Digest::Blake3([3; 32]))])),
        ("known-digest", stream(&[file(Some(md5)), Reply::Data(2), Reply::Data(3), Reply::Digest(md5)])),
        ("error", stream(&[error(ErrorCode::NotFound, "größer"), error(ErrorCode::Other(999), "")])),
        ("too-long", vec![0x11, 0x10, 0, 1]),
    ]
}

fn frame_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Each begins with the kind of a reply; what follows chooses its fields, then those of a request.
    let of = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
    vec![
        ("file", of(0, &[0x7f; 90])),
        ("file-without-digest", of(0, &[0; 70])),
        ("data", of(1, b"\0\x10\0\0\x05\0a.bin\x01\x01\x01")),
        ("wait", of(2, b"donebyteallbytes\x02\x1fab")),
        ("digest", of(3, &[1; 60])),
        ("error", of(4, "\0\u{1}\u{9}\u{1f}größer: \u{2}\u{1f}ab".as_bytes())),
    ]
}

/// Without the checksums, which the target adds.
fn journal_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let about = About {
        name: b"dir/\xff.bin".to_vec(),
        origin: "[::1]:9999".to_string(),
        size: 100 << 20,
        version: Version([7; 16]),
        algorithm: Algorithm::Md5,
    };
    let entry = |sequence, checkpoint: Option<Checkpoint>| {
        let (about, is_synced, boot) = (about.clone(), checkpoint.is_some(), b"a-boot".to_vec());
        let mut bytes = Entry { about, offset: 33 << 20, checkpoint, sequence, is_synced, boot }.encode();
        bytes.truncate(bytes.len() - blake3::OUT_LEN);
        bytes
    };
    let passing = entry(2, None);
    let prefix = Prefix { len: 32 << 20, subtrees: vec![[3; 32]] };
    let synced = entry(1, Some(Checkpoint { prefix, md5: Some([0; 88]) }));
    let mut other_format = passing.clone();
    other_format[9] = 3;
    let mut unknown_flag = passing.clone();
    unknown_flag[11] |= 8;
    let mut without_state = synced.clone();
    without_state[11] &= !2;
    let with_checksum = [&synced[..], blake3::hash(&synced).as_bytes()].concat();
    // As version 0.2.0 wrote it.
    let format_1 = include_bytes!("../tests/fuzz/corpus/journal/format-1").to_vec();
    let unsealed_1 = format_1[..format_1.len() - blake3::OUT_LEN].to_vec();
    vec![
        ("two-slots", [&synced[..], &synced].concat()),
        ("two-formats", [&synced[..], &unsealed_1].concat()),
        ("passing", passing),
        ("synced", synced),
        ("whole", with_checksum),
        ("format-1", format_1),
        ("other-format", other_format),
        ("unknown-flag", unknown_flag),
        ("without-state", without_state),
    ]
}

fn name_seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain", b"sub/b.bin".to_vec()),
        ("parent", b"a/../../etc/passwd".to_vec()),
        ("absolute", b"/etc/passwd".to_vec()),
        ("empty-component", b"a//b/".to_vec()),
        ("dots", b"./.hidden/...".to_vec()),
        ("part", b"d/.a.bin.xfer-part.state".to_vec()),
        ("long", "größe ✓".repeat(30).into_bytes()),
        ("acts", "a\n\u{1b}[31m\u{9b}2J\u{202e}gpj.exe\u{2028}\\'\u{61c}".as_bytes().to_vec()),
        ("not-text", b"\xff\xc3'\\\xe2\x80".to_vec()),
    ]
}
