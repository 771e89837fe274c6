//! Version 2 of the wire by hand: requests, right and wrong, and a reader that accepts nothing but what is specified.
//!
//! Not a line of it is the code under test: a fault there cannot hide behind the same fault here.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::content;
use super::wire::{dial, dial_slowly};

pub const MD5: u8 = 1;
pub const BLAKE3: u8 = 2;

/// Flags of a GET, and the one of a FILE.
pub const NO_DATA: u8 = 1;
pub const REHASH: u8 = 2;
pub const SIZES_DIFFER: u8 = 1;

/// Codes of an ERROR.
pub const NOT_FOUND: u16 = 1;
pub const BAD_REQUEST: u16 = 2;
pub const BUSY: u16 = 3;
pub const CHANGED: u16 = 4;
pub const READ_ERROR: u16 = 5;
pub const SHUTTING_DOWN: u16 = 6;
pub const UNSUPPORTED: u16 = 8;

const GET: u8 = 0x01;
const FILE: u8 = 0x10;
const DATA: u8 = 0x11;
const WAIT: u8 = 0x12;
const DIGEST: u8 = 0x13;
const ERROR: u8 = 0x1f;

/// Bytes of a GET before the name, of a FILE before the digest, of the longest DATA and the longest message.
const GET_LEN: usize = 28;
const FILE_LEN: usize = 52;
const DATA_MAX: usize = 1 << 20;
const MESSAGE_MAX: usize = 1024;

pub type Version = [u8; 16];

/// What a client says that has no bytes of any version.
pub const NO_VERSION: Version = [0; 16];

/// The version of a file of this size and time of modification.
pub fn version_of(size: u64, seconds: i64, nanos: u32) -> Version {
    let bytes = [&size.to_be_bytes()[..], &seconds.to_be_bytes(), &nanos.to_be_bytes()].concat();
    blake3::hash(&bytes).as_bytes()[..16].try_into().unwrap()
}

/// Any frame: the length is the payload's.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&header(kind, u32::try_from(payload.len()).unwrap()), payload].concat()
}

/// The head of a frame whose payload may never come.
pub fn header(kind: u8, length: u32) -> [u8; 4] {
    assert!(length < 1 << 24);
    (u32::from(kind) << 24 | length).to_be_bytes()
}

#[derive(Clone, PartialEq, Eq)]
pub struct Get {
    pub algorithm: u8,
    pub flags: u8,
    pub zero: u16,
    pub offset: u64,
    pub version: Version,
    pub name: Vec<u8>,
}

impl Get {
    /// The whole file, with MD5.
    pub fn of(name: impl AsRef<[u8]>) -> Get {
        let name = name.as_ref().to_vec();
        Get { algorithm: MD5, flags: 0, zero: 0, offset: 0, version: NO_VERSION, name }
    }

    /// What is behind `offset` of this version.
    pub fn resuming(self, offset: u64, version: Version) -> Get {
        Get { offset, version, ..self }
    }

    /// The digest alone, for a client that has `size` bytes.
    pub fn digest_only(self, size: u64) -> Get {
        Get { offset: size, flags: self.flags | NO_DATA, ..self }
    }

    pub fn rehashed(self) -> Get {
        Get { flags: self.flags | REHASH, ..self }
    }

    pub fn with(self, algorithm: u8) -> Get {
        Get { algorithm, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut payload = vec![self.algorithm, self.flags];
        payload.extend_from_slice(&self.zero.to_be_bytes());
        payload.extend_from_slice(&self.offset.to_be_bytes());
        payload.extend_from_slice(&self.version);
        payload.extend_from_slice(&self.name);
        frame(GET, &payload)
    }

    /// Every whole GET at the beginning of what a client said; None for anything else of version 2 there.
    pub fn all_in(mut said: &[u8]) -> Option<Vec<Get>> {
        let mut gets = Vec::new();
        while let Some((head, rest)) = said.split_first_chunk::<4>() {
            let length = (u32::from_be_bytes(*head) & 0x00ff_ffff) as usize;
            if head[0] != GET || length < GET_LEN {
                return None;
            }
            let Some((payload, rest)) = rest.split_at_checked(length) else { break };
            gets.push(Get::of_payload(payload));
            said = rest;
        }
        Some(gets)
    }

    /// The next request, as a scripted server reads it; None when no more is asked.
    pub fn read(stream: &mut TcpStream) -> Option<Get> {
        let mut head = [0; 4];
        if read_fully(stream, &mut head) < head.len() {
            return None;
        }
        let length = (u32::from_be_bytes(head) & 0x00ff_ffff) as usize;
        assert!(head[0] == GET && length >= GET_LEN, "not a GET: {}", head.escape_ascii());
        let mut payload = vec![0; length];
        (read_fully(stream, &mut payload) == length).then(|| Get::of_payload(&payload))
    }

    fn of_payload(payload: &[u8]) -> Get {
        let mut fields = Fields(payload);
        let [algorithm, flags] = fields.take();
        let zero = u16::from_be_bytes(fields.take());
        let offset = u64::from_be_bytes(fields.take());
        let version = fields.take();
        Get { algorithm, flags, zero, offset, version, name: fields.0.to_vec() }
    }
}

impl fmt::Debug for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Get { algorithm, flags, offset, version, .. } = self;
        let (name, version) = (self.name.escape_ascii(), content::hex(version));
        write!(f, "GET '{name}' from {offset} of {version}, algorithm {algorithm}, flags {flags:#x}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub size: u64,
    pub offset: u64,
    pub seconds: i64,
    pub nanos: u32,
    pub mode: u32,
    pub version: Version,
    pub algorithm: u8,
    pub flags: u8,
    /// Empty if it was not known yet.
    pub digest: Vec<u8>,
}

impl File {
    /// As an honest server describes these bytes to a client that asked with MD5.
    pub fn of(body: &[u8]) -> File {
        let (size, seconds, nanos) = (body.len() as u64, 1_700_000_000, 123_456_789);
        let version = version_of(size, seconds, nanos);
        File { size, offset: 0, seconds, nanos, mode: 0o644, version, algorithm: MD5, flags: 0, digest: Vec::new() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut payload = self.size.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.offset.to_be_bytes());
        payload.extend_from_slice(&self.seconds.to_be_bytes());
        payload.extend_from_slice(&self.nanos.to_be_bytes());
        payload.extend_from_slice(&self.mode.to_be_bytes());
        payload.extend_from_slice(&self.version);
        payload.extend_from_slice(&[self.algorithm, self.flags, 0, 0]);
        payload.extend_from_slice(&self.digest);
        frame(FILE, &payload)
    }

    fn of_payload(payload: &[u8]) -> File {
        let mut fields = Fields(payload);
        let (size, offset) = (u64::from_be_bytes(fields.take()), u64::from_be_bytes(fields.take()));
        let (seconds, nanos) = (i64::from_be_bytes(fields.take()), u32::from_be_bytes(fields.take()));
        let (mode, version) = (u32::from_be_bytes(fields.take()), fields.take());
        let [algorithm, flags, zeros @ ..]: [u8; 4] = fields.take();
        let file = File { size, offset, seconds, nanos, mode, version, algorithm, flags, digest: fields.0.to_vec() };
        assert!(zeros == [0, 0] && flags & !SIZES_DIFFER == 0, "reserved bits in {file:?}, {zeros:?}");
        assert!(offset <= size && nanos < 1_000_000_000 && mode & !0o7777 == 0, "no such file: {file:?}");
        let digest_len = if algorithm == MD5 { 16 } else { 32 };
        assert!([0, digest_len].contains(&file.digest.len()), "a digest of a strange length in {file:?}");
        file
    }
}

/// All that an honest server answers to this request for this body.
pub fn honest_reply(get: &Get, body: &[u8]) -> Vec<u8> {
    let about = File { algorithm: get.algorithm, ..File::of(body) };
    let digest = digest(&content::digest(get.algorithm, body));
    if get.flags & NO_DATA != 0 {
        return match get.offset == about.size {
            true => [about.bytes(), digest].concat(),
            false => File { flags: SIZES_DIFFER, ..about }.bytes(),
        };
    }
    let resumes = get.version == about.version && get.offset <= about.size;
    let offset = if resumes { get.offset } else { 0 };
    let rest = data(&body[usize::try_from(offset).unwrap()..]);
    [File { offset, ..about }.bytes(), rest, digest].concat()
}

/// The frames of a scripted server.
pub fn data(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(DATA_MAX).flat_map(|chunk| frame(DATA, chunk)).collect()
}

pub fn wait(done: u64, total: u64) -> Vec<u8> {
    frame(WAIT, &[done.to_be_bytes(), total.to_be_bytes()].concat())
}

pub fn digest(digest: &[u8]) -> Vec<u8> {
    frame(DIGEST, digest)
}

pub fn error(code: u16, message: &str) -> Vec<u8> {
    frame(ERROR, &[&code.to_be_bytes()[..], message.as_bytes()].concat())
}

#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    File(File),
    Data(Vec<u8>),
    Wait(u64, u64),
    Digest(Vec<u8>),
    Error(u16, String),
}

impl Frame {
    fn of(kind: u8, payload: Vec<u8>) -> Frame {
        let mut fields = Fields(&payload);
        match kind {
            FILE => Frame::File(File::of_payload(&payload)),
            DATA => Frame::Data(payload),
            WAIT => Frame::Wait(u64::from_be_bytes(fields.take()), u64::from_be_bytes(fields.take())),
            DIGEST => Frame::Digest(payload),
            _ => {
                let code = u16::from_be_bytes(fields.take());
                Frame::Error(code, String::from_utf8(fields.0.to_vec()).expect("a message in UTF-8"))
            }
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::File(file) => write!(f, "{file:?}"),
            Frame::Data(bytes) => write!(f, "Data of {} bytes", bytes.len()),
            Frame::Wait(done, total) => write!(f, "Wait {done} of {total}"),
            Frame::Digest(digest) => write!(f, "Digest {}", content::hex(digest)),
            Frame::Error(code, message) => write!(f, "Error {code}: {message}"),
        }
    }
}

/// How a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Digest(Vec<u8>),
    Error(u16, String),
    /// FILE was all of it.
    SizesDiffer,
    /// The connection ended first.
    Cut,
}

/// All that came for one request.
pub struct Reply {
    pub file: Option<File>,
    pub body: Vec<u8>,
    pub waits: Vec<(u64, u64)>,
    pub end: End,
}

impl Reply {
    pub fn file(&self) -> &File {
        self.file.as_ref().unwrap_or_else(|| panic!("a FILE expected, got {self:?}"))
    }

    /// The file's bytes from FILE's offset on, and the digest of the whole file.
    pub fn assert_brings(&self, body: &[u8]) {
        let file = self.file();
        assert_eq!(file.size, body.len() as u64, "{self:?}");
        assert!(self.body == body[usize::try_from(file.offset).unwrap()..], "other bytes than the file has: {self:?}");
        self.assert_digest_of(body);
    }

    /// No byte of the file, and its digest.
    pub fn assert_compares(&self, body: &[u8]) {
        assert!(self.body.is_empty() && self.file().size == body.len() as u64, "{self:?}");
        self.assert_digest_of(body);
    }

    fn assert_digest_of(&self, body: &[u8]) {
        let file = self.file();
        let expected = content::digest(file.algorithm, body);
        assert_eq!(self.end, End::Digest(expected.clone()), "{self:?}");
        assert!(file.digest.is_empty() || file.digest == expected, "another digest in FILE: {self:?}");
    }

    /// The code of an ERROR that is the whole reply.
    pub fn refusal(&self) -> u16 {
        match self {
            Reply { file: None, end: End::Error(code, _), .. } => *code,
            _ => panic!("an ERROR and nothing else expected, got {self:?}"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reply { file, body, waits, end } = self;
        write!(f, "{file:?}, {} bytes, {} times WAIT, then {end:?}", body.len(), waits.len())
    }
}

/// A client by hand.
pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    pub fn dial(addr: SocketAddr) -> Peer {
        Peer { stream: dial(addr) }
    }

    /// One that lets the kernel hold as little as possible.
    pub fn dial_slowly(addr: SocketAddr) -> Peer {
        Peer { stream: dial_slowly(addr) }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn ask(&mut self, get: &Get) {
        self.say(&get.bytes());
    }

    /// Says that nothing more will be asked.
    pub fn finish_asking(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Asks, and reads the whole reply.
    pub fn get(&mut self, get: &Get) -> Reply {
        self.ask(get);
        self.reply(get)
    }

    /// The next frame; None if the connection ends, orderly or not, between two frames.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 4];
        match read_fully(&mut self.stream, &mut head) {
            0 => return None,
            4 => {}
            count => panic!("the connection ends {count} bytes into the head of a frame"),
        }
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let allowed = match kind {
            FILE => [FILE_LEN, FILE_LEN + 16, FILE_LEN + 32].contains(&length),
            DATA => (1..=DATA_MAX).contains(&length),
            WAIT => length == 16,
            DIGEST => length == 16 || length == 32,
            ERROR => (2..=2 + MESSAGE_MAX).contains(&length),
            _ => panic!("no frame of a server begins with {}", head.escape_ascii()),
        };
        assert!(allowed, "a frame of type {kind:#04x} with {length} bytes");
        let mut payload = vec![0; length];
        let count = read_fully(&mut self.stream, &mut payload);
        assert_eq!(count, length, "the connection ends within the payload of a frame of type {kind:#04x}");
        Some(Frame::of(kind, payload))
    }

    /// The next frame, which must be a FILE.
    pub fn file(&mut self) -> File {
        match self.frame() {
            Some(Frame::File(file)) => file,
            other => panic!("a FILE expected, got {other:?}"),
        }
    }

    /// The next reply, which must be one to this request.
    pub fn reply(&mut self, get: &Get) -> Reply {
        let mut reply = Reply { file: None, body: Vec::new(), waits: Vec::new(), end: End::Cut };
        match self.frame() {
            Some(Frame::File(file)) => reply.file = Some(check_file(file, get)),
            Some(Frame::Error(code, message)) => reply.end = End::Error(code, message),
            None => {}
            Some(other) => panic!("{get:?} is answered by {other:?}"),
        }
        match &reply.file {
            None => return reply,
            Some(file) if file.flags & SIZES_DIFFER != 0 => return Reply { end: End::SizesDiffer, ..reply },
            Some(_) => {}
        }
        self.rest_of(get, reply)
    }

    /// What comes of a reply when its FILE has been read.
    pub fn rest(&mut self, get: &Get, file: File) -> Reply {
        self.rest_of(get, Reply { file: Some(file), body: Vec::new(), waits: Vec::new(), end: End::Cut })
    }

    fn rest_of(&mut self, get: &Get, mut reply: Reply) -> Reply {
        let wanted = match get.flags & NO_DATA {
            0 => reply.file().size - reply.file().offset,
            _ => 0,
        };
        loop {
            let whole = reply.body.len() as u64 == wanted;
            match self.frame() {
                Some(Frame::Data(bytes)) => reply.body.extend_from_slice(&bytes),
                Some(Frame::Wait(done, total)) => reply.waits.push((done, total)),
                Some(Frame::Digest(digest)) if whole => return Reply { end: End::Digest(digest), ..reply },
                Some(Frame::Error(code, message)) => return Reply { end: End::Error(code, message), ..reply },
                None => return reply,
                Some(other) => panic!("{other:?} has no place behind {reply:?} to {get:?}"),
            }
            assert!(reply.body.len() as u64 <= wanted, "more than {wanted} bytes: {reply:?} to {get:?}");
        }
    }

    /// The server closes, and has nothing more to say.
    pub fn assert_end(&mut self) {
        let more = self.frame();
        assert!(more.is_none(), "the end expected, got {more:?}");
    }
}

/// The rules between what was asked and what FILE says.
fn check_file(file: File, get: &Get) -> File {
    assert_eq!(file.algorithm, get.algorithm, "{get:?}: {file:?}");
    assert_eq!(file.version, version_of(file.size, file.seconds, file.nanos), "{get:?}: {file:?}");
    if get.flags & NO_DATA == 0 {
        assert!(file.offset == get.offset || file.offset == 0, "{get:?}: {file:?}");
        assert!(file.offset == 0 || file.version == get.version, "resumed another version: {get:?}: {file:?}");
    }
    let differ = get.flags & NO_DATA != 0 && file.size != get.offset;
    assert_eq!(file.flags & SIZES_DIFFER != 0, differ, "{get:?}: {file:?}");
    file
}

/// Reads until the buffer is full or the connection ends, and answers how many bytes came.
fn read_fully(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("after {filled} of {} bytes: {error}", buffer.len()),
        }
    }
    filled
}

/// Fields of a payload that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a payload as long as its type has");
        self.0 = rest;
        *field
    }
}

#[test]
fn requests_are_found_in_what_was_said() {
    let gets =
        [Get::of("a"), Get::of(b"\xff").resuming(7, [9; 16]).with(BLAKE3), Get::of("b").digest_only(3).rehashed()];
    let mut said: Vec<u8> = gets.iter().flat_map(Get::bytes).collect();
    assert_eq!(Get::all_in(&said), Some(gets.to_vec()));
    said.pop();
    assert_eq!(Get::all_in(&said), Some(gets[..2].to_vec()), "the last one is not whole");
    assert_eq!(Get::all_in(b"\0\0\0\x01a"), None, "version 1");
    assert_eq!(gets[0].bytes()[..8], [1, 0, 0, 29, 1, 0, 0, 0]);
}
