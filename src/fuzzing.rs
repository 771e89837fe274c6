//! What must hold for any bytes that come from outside: each function here takes some, and panics if it does not.
//!
//! The fuzzer (tests/fuzz, `make fuzz`) calls them with bytes that it makes up, the tests below with those that are
//! committed in tests/fuzz/corpus and with every prefix of them. They are here, and not in the fuzzer's crate, so that
//! both can call them, and so that what they look into need not be public.

use std::cell::LazyCell;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::get::journal::Found;
use crate::get::part::{journal_path, part_path};
use crate::get::slot::{Entry, FORMAT, SLOT_LEN};
use crate::proto::digest::{Algorithm, Digest};
use crate::proto::v2::{self, Asked, ErrorCode, File, Reply};
use crate::proto::{self, Dialect, MESSAGE_MAX, Malformed, Mtime, Request, SIZE_MAX, Version, Wanted, base_name, v1};
use crate::root::Root;
use crate::text;

/// Takes bytes, and panics if something does not hold for them.
pub type Target = fn(&[u8]);

/// All of them, by the names that the fuzzer and the folders of the corpus have for them.
pub const TARGETS: [(&str, Target); 5] =
    [("request", request), ("reply", reply), ("frames", frames), ("journal", journal), ("names", names)];

/// Bytes of a file name at most (NAME_MAX of Linux).
const FILE_NAME_MAX: usize = 255;

/// What a client sends, as the server reads it.
pub fn request(bytes: &[u8]) {
    let old = parsed(bytes, v1::parse_request);
    let new = parsed(bytes, v2::parse_asked);
    // Whatever one of the two understands, the first byte says that it is meant.
    let dialect = bytes.first().map(|first| Dialect::of(*first));
    assert!(old.is_none() || dialect == Some(Dialect::V1), "a request of version 1 that is not taken for one");
    assert!(new.is_none() || dialect == Some(Dialect::V2), "a request of version 2 that is not taken for one");
    if let Some((used, request)) = old {
        let name = v1::check_name(request.name).expect("a name that was parsed is one");
        assert_eq!(v1::encode_request(name), bytes[..used], "encoded again");
    }
    let mut rest = bytes;
    while let Some((used, asked)) = parsed(rest, v2::parse_asked) {
        if let Asked::Get(request) = asked {
            proto::check_name(request.name).expect("a name that was parsed is one");
            comes_back(&v2::encode_get(&request), v2::parse_asked, &asked);
        }
        rest = &rest[used..];
    }
}

/// What a server sends, as the client reads it.
pub fn reply(bytes: &[u8]) {
    parsed(bytes, v1::parse_status);
    if let Some((used, metadata)) = parsed(bytes, v1::parse_metadata) {
        assert!(metadata.size <= SIZE_MAX, "a size that no file has");
        if base_name(&metadata.name) == metadata.name {
            let mut head = v1::Head::new(&metadata.name, metadata.size);
            head.push_digest(&metadata.digest);
            assert_eq!(head.bytes[v1::OK.len()..], bytes[..used], "encoded again");
        }
    }
    let mut rest = bytes;
    while let Some((used, reply)) = parsed(rest, v2::parse_reply) {
        assert!(
            rest.first().is_some_and(|first| v2::begins_reply(*first)),
            "a reply that is taken for an old server's"
        );
        if let Some(encoded) = encode(&reply) {
            comes_back(&encoded, v2::parse_reply, &reply);
        }
        let data = match reply {
            Reply::Data(len) => {
                assert!((1..=v2::DATA_MAX).contains(&len), "a DATA frame of {len} bytes");
                len as usize
            }
            _ => 0,
        };
        rest = rest.get(used + data..).unwrap_or_default();
    }
}

/// Values that the bytes choose, through the encoders and back: each alone, cut at every byte, and all in one stream.
pub fn frames(bytes: &[u8]) {
    let mut choice = Choice(bytes);
    let (mut stream, mut replies) = (Vec::new(), Vec::new());
    while !choice.0.is_empty() && replies.len() < 16 {
        let reply = choice.reply();
        let encoded = encode(&reply).expect("a message that is text");
        comes_back(&encoded, v2::parse_reply, &reply);
        stream.extend_from_slice(&encoded);
        replies.push(reply);
        let name = choice.name();
        let request = choice.request(&name);
        comes_back(&v2::encode_get(&request), v2::parse_asked, &Asked::Get(request));
    }
    let mut rest = &stream[..];
    for reply in replies {
        let (used, read) = v2::parse_reply(rest).expect("well-formed").expect("whole");
        assert_eq!(read, reply, "in a stream");
        rest = &rest[used..];
    }
    assert!(rest.is_empty(), "{} bytes behind the last frame", rest.len());
}

/// What lies beside a part file: nothing counts but what we have written.
///
/// The checksum of a slot is out of a fuzzer's reach, so the bytes are tried with the right one behind them, too.
pub fn journal(bytes: &[u8]) {
    slot(bytes);
    slot(&sealed(bytes));
    let (first, second) = bytes.split_at(bytes.len() / 2);
    found(bytes);
    for slots in [[sealed(bytes), second.to_vec()], [sealed(first), sealed(second)]] {
        let mut file = slots[0].clone();
        file.resize(SLOT_LEN, 0);
        file.extend_from_slice(&slots[1]);
        found(&file);
    }
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, blake3::hash(bytes).as_bytes()].concat()
}

/// A slot that means something is byte for byte what is written when that is meant, unless it is of an older format.
fn slot(bytes: &[u8]) {
    let Some(entry) = Entry::decode(bytes) else { return };
    let written = entry.encode();
    if !is_of_our_format(bytes) {
        return assert_eq!(Entry::decode(&written), Some(entry), "written in our format");
    }
    assert!(bytes.starts_with(&written), "a slot that we would not have written: {entry:?}");
    assert_eq!(Entry::decode(&written), Some(entry), "encoded again");
    assert!(written.len() <= SLOT_LEN, "a slot that reaches into the next one");
    for end in 0..written.len() {
        assert_eq!(Entry::decode(&written[..end]), None, "a slot cut to {end} bytes");
    }
}

/// The format stands behind the first eight bytes.
fn is_of_our_format(slot: &[u8]) -> bool {
    slot.get(8..10) == Some(&FORMAT.to_be_bytes())
}

fn found(bytes: &[u8]) {
    let scratch = Scratch::new(bytes);
    let Ok(Some(found)) = Found::open(&scratch.0, u64::MAX) else { return };
    let slots = [0, SLOT_LEN].map(|at| bytes.get(at..).unwrap_or_default());
    assert!(slots.iter().any(|slot| Entry::decode(slot).as_ref() == Some(&found.entry)), "found what is not there");
    assert!(found.entry.offset <= found.entry.about.size, "more than there is of the file");
    for algorithm in [Algorithm::Md5, Algorithm::Blake3] {
        let covered = found.checkpoint(algorithm).map_or(0, |checkpoint| checkpoint.end());
        assert!(covered <= found.rewritten_from(), "what is written again is not read again");
        assert!(found.rewritten_from() <= found.entry.offset, "more is written again than there is");
    }
}

/// A file with these bytes, which goes when it is dropped. `TMPDIR` says where; best where no disk is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Scratch {
        let name = format!("xfer-fuzz-{}-{:?}.state", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("the temporary directory can be written to");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A name from the other end, wherever it is used.
pub fn names(bytes: &[u8]) {
    shown(bytes);
    let is_name = proto::check_name(bytes).is_ok();
    if let Ok(name) = v1::check_name(bytes) {
        assert!(is_name, "a name in version 1 only");
        assert_eq!(name.as_bytes(), bytes);
    }
    let base = base_name(bytes);
    assert!(bytes.ends_with(base) && !base.contains(&b'/'), "a base name with a directory in it");
    thread_local! {
        /// One that serves what begins with a dot, too, and one that does not.
        static ROOTS: LazyCell<[Root; 2]> = LazyCell::new(|| {
            let root = |hidden| Root::open(Path::new("/"), hidden, None, &Rc::new(())).expect("the root can be opened");
            [root(true), root(false)]
        });
    }
    ROOTS.with(|roots| {
        let [passes, passes_without_hidden] = [&roots[0], &roots[1]].map(|root| root.check(bytes).is_ok());
        let is_component = |component: &[u8]| !matches!(component, b"" | b"..");
        assert!(!passes || bytes.split(|byte| *byte == b'/').all(is_component), "a name that leads out or nowhere");
        assert!(passes || !passes_without_hidden, "a name that only the stricter root lets pass");
        if is_name && !matches!(base, b"" | b"." | b"..") {
            parts(base, &roots[0]);
        }
    });
}

/// What the client writes beside a target of this name: in the same folder, short enough, and served by nobody.
fn parts(base: &[u8], root: &Root) {
    let target = Path::new("directory").join(OsStr::from_bytes(base));
    assert_eq!(target.parent(), Some(Path::new("directory")), "a target elsewhere");
    let part = part_path(&target);
    for path in [&part, &journal_path(&part)] {
        assert_eq!(path.parent(), Some(Path::new("directory")), "an unfinished file elsewhere");
        let name = path.file_name().expect("in a directory").as_bytes();
        assert!(name.len() <= FILE_NAME_MAX, "a name of {} bytes", name.len());
        assert!(root.check(name).is_err(), "an unfinished file that is served");
        assert_ne!(name, base, "an unfinished file under the name of the whole");
    }
}

/// What a person sees of foreign bytes can do nothing to a terminal or a log.
fn shown(bytes: &[u8]) {
    let (escaped, quoted) = (text::escaped(bytes), text::quoted(bytes));
    for shown in [&escaped, &quoted] {
        let acts = |c: char| {
            c.is_control()
                || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!shown.contains(acts), "{shown:?} acts on a terminal");
    }
    let inside = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect("quotes around it");
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        assert_ne!(c, '\'', "a quote that ends {quoted} early");
        if c == '\\' {
            chars.next().expect("a backslash that escapes the last quote");
        }
    }
}

/// Parses, and tries what holds for every parser of the wire: bytes that are not there are not used, bytes behind the
/// value do not matter, and before the last one there is none; what can never become right stays so.
fn parsed<'a, T: PartialEq + Debug>(
    bytes: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<Option<(usize, T)>, Malformed>,
) -> Option<(usize, T)> {
    let answer = parse(bytes);
    let whole = match &answer {
        Ok(Some((used, _))) => {
            assert!((1..=bytes.len()).contains(used), "{used} of {} bytes used", bytes.len());
            assert_eq!(parse(&bytes[..*used]), answer, "without what is behind it");
            *used
        }
        _ => bytes.len(),
    };
    let mut is_malformed = false;
    for end in 0..whole {
        match parse(&bytes[..end]) {
            Ok(None) => assert!(!is_malformed, "{end} bytes may become right, and fewer may not"),
            early => {
                assert!(early.is_err() && early == answer, "{early:?} after {end} bytes, then {answer:?}");
                is_malformed = true;
            }
        }
    }
    answer.ok().flatten()
}

/// What was encoded is whole with its last byte and not before, and is the value that it was.
fn comes_back<'a, T: PartialEq + Debug>(
    encoded: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<Option<(usize, T)>, Malformed>,
    value: &T,
) {
    let (used, read) = parsed(encoded, parse).expect("what we encode is whole");
    assert_eq!((used, &read), (encoded.len(), value), "encoded and parsed");
}

/// The frame of a reply; none for a message that no server of ours sends.
fn encode(reply: &Reply) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match reply {
        Reply::File(file) => v2::encode_file(file, &mut out),
        Reply::Data(len) => v2::encode_data_header(*len as usize, &mut out),
        Reply::Wait { done, total } => v2::encode_wait(*done, *total, &mut out),
        Reply::Digest(digest) => v2::encode_digest(digest, &mut out),
        Reply::Error(code, message) => v2::encode_error(*code, std::str::from_utf8(message).ok()?, &mut out),
    }
    Some(out)
}

/// Bytes that choose a value; zeros once they are used up.
struct Choice<'a>(&'a [u8]);

impl Choice<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (chosen, rest) = self.0.split_at(N.min(self.0.len()));
        array[..chosen.len()].copy_from_slice(chosen);
        self.0 = rest;
        array
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// A text of up to 255 bytes, over and over, so that the longest ones come up too.
    fn text(&mut self, max: usize) -> Vec<u8> {
        let [len, times] = self.array();
        let (text, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        let mut text = text.repeat(1 + usize::from(times % 32));
        text.truncate(max);
        text
    }

    fn name(&mut self) -> Vec<u8> {
        let mut name = self.text(proto::NAME_MAX);
        name.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'0');
        if name.is_empty() {
            name.push(b'a');
        }
        name
    }

    fn algorithm(&mut self) -> Algorithm {
        if self.byte() & 1 == 0 { Algorithm::Md5 } else { Algorithm::Blake3 }
    }

    fn digest(&mut self) -> Digest {
        match self.algorithm() {
            Algorithm::Md5 => Digest::Md5(self.array()),
            Algorithm::Blake3 => Digest::Blake3(self.array()),
        }
    }

    fn request<'n>(&mut self, name: &'n [u8]) -> Request<'n> {
        let (algorithm, rehash) = (self.algorithm(), self.byte() & 1 != 0);
        let wanted = match self.byte() & 1 {
            0 => Wanted::Bytes { offset: self.u64(), version: Version(self.array()) },
            _ => Wanted::Digest { size: self.u64() },
        };
        Request { name, algorithm, wanted, rehash }
    }

    fn reply(&mut self) -> Reply {
        match self.byte() % 5 {
            0 => Reply::File(self.file()),
            1 => Reply::Data(1 + u32::from_be_bytes(self.array()) % v2::DATA_MAX),
            2 => Reply::Wait { done: self.u64(), total: self.u64() },
            3 => Reply::Digest(self.digest()),
            _ => self.error(),
        }
    }

    fn file(&mut self) -> File {
        let size = self.u64() & SIZE_MAX;
        let (seconds, nanos) = (self.u64().cast_signed(), u32::from_be_bytes(self.array()) % 1_000_000_000);
        let digest = (self.byte() & 1 != 0).then(|| self.digest());
        File {
            size,
            offset: self.u64().min(size),
            mtime: Mtime { seconds, nanos },
            mode: u32::from_be_bytes(self.array()),
            version: Version(self.array()),
            algorithm: digest.map_or_else(|| self.algorithm(), |digest| digest.algorithm()),
            sizes_differ: self.byte() & 1 != 0,
            digest,
        }
    }

    fn error(&mut self) -> Reply {
        use ErrorCode::*;
        let known = [NotFound, BadRequest, Busy, Changed, ReadError, ShuttingDown, Unsupported];
        let number = u16::from_be_bytes(self.array());
        let code = known.into_iter().find(|code| code.number() == number).unwrap_or(Other(number));
        let mut message = String::from_utf8_lossy(&self.text(MESSAGE_MAX)).into_owned();
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        Reply::Error(code, message.into_bytes())
    }
}

#[cfg(test)]
#[path = "fuzzing_tests.rs"]
mod tests;
