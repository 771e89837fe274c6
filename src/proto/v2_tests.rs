//! Frames in both directions, at every split, and what can never become one.

use super::super::every_split;
use super::*;

const MTIME: Mtime = Mtime { seconds: -5, nanos: 999_999_999 };

fn get(name: &[u8], algorithm: Algorithm, wanted: Wanted, rehash: bool) -> Request<'_> {
    Request { name, algorithm, wanted, rehash }
}

fn file(digest: Option<Digest>) -> File {
    File {
        size: SIZE_MAX,
        offset: 1 << 40,
        mtime: MTIME,
        mode: 0o640,
        version: Version::of(SIZE_MAX, MTIME),
        algorithm: digest.map_or(Algorithm::Blake3, |digest| digest.algorithm()),
        sizes_differ: false,
        digest,
    }
}

/// What an encoder writes.
fn frame(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn file_frame(file: &File) -> Vec<u8> {
    frame(|out| encode_file(file, out))
}

fn error_frame(code: ErrorCode, message: &str) -> Vec<u8> {
    frame(|out| encode_error(code, message, out))
}

#[test]
fn requests_at_every_split() {
    let version = Version([0xab; VERSION_LEN]);
    let requests = [
        get(b"a", Algorithm::Md5, Wanted::ALL, false),
        get(b"dir/\xff\xfe.bin", Algorithm::Blake3, Wanted::Bytes { offset: u64::MAX, version }, true),
        get(&[b'x'; NAME_MAX], Algorithm::Md5, Wanted::Digest { size: 1 << 33 }, false),
        get(b"b", Algorithm::Blake3, Wanted::Digest { size: 0 }, true),
    ];
    for request in requests {
        every_split(&encode_get(&request), parse_asked, &Asked::Get(request));
    }
}

#[test]
fn replies_at_every_split() {
    let digests = [Digest::Md5([1; 16]), Digest::Blake3([2; 32])];
    let mut frames: Vec<(Vec<u8>, Reply)> = digests
        .into_iter()
        .flat_map(|digest| {
            let file = file(Some(digest));
            [(file_frame(&file), Reply::File(file)), (frame(|out| encode_digest(&digest, out)), Reply::Digest(digest))]
        })
        .collect();
    let unknown = File { sizes_differ: true, offset: 0, ..file(None) };
    frames.push((file_frame(&unknown), Reply::File(unknown)));
    frames.push((frame(|out| encode_wait(7, u64::MAX, out)), Reply::Wait { done: 7, total: u64::MAX }));
    frames.push((error_frame(ErrorCode::Changed, "größer"), Reply::Error(ErrorCode::Changed, "größer".into())));
    frames.push((error_frame(ErrorCode::Other(999), ""), Reply::Error(ErrorCode::Other(999), Vec::new())));
    frames.push((frame(|out| encode_data_header(1, out)), Reply::Data(1)));
    frames.push((frame(|out| encode_data_header(DATA_MAX as usize, out)), Reply::Data(DATA_MAX)));
    for (bytes, expected) in frames {
        every_split(&bytes, parse_reply, &expected);
    }
}

#[test]
fn the_layout_is_the_one_of_the_manual() {
    let request = get(b"ab", Algorithm::Md5, Wanted::Bytes { offset: 3, version: Version([9; 16]) }, true);
    let expected = [&[0x01, 0, 0, 30, 1, 2, 0, 0][..], &3u64.to_be_bytes(), &[9; 16], b"ab"].concat();
    assert_eq!(encode_get(&request), expected);
    let description = File { size: 5, offset: 4, mode: 0o644, ..file(Some(Digest::Md5([3; 16]))) };
    let head = [&[0x10, 0, 0, 68][..], &5u64.to_be_bytes(), &4u64.to_be_bytes(), &(-5i64).to_be_bytes()].concat();
    let rest = [&999_999_999u32.to_be_bytes()[..], &0o644u32.to_be_bytes(), &description.version.0].concat();
    assert_eq!(file_frame(&description), [&head[..], &rest, &[1, 0, 0, 0], &[3; 16]].concat());
    assert_eq!(frame(|out| encode_data_header(0x040000, out)), [0x11, 4, 0, 0]);
    assert_eq!(error_frame(ErrorCode::Unsupported, "no"), [0x1f, 0, 0, 4, 0, 8, b'n', b'o']);
}

#[test]
fn versions_depend_on_size_and_time_alone() {
    let bytes = [&5u64.to_be_bytes()[..], &(-5i64).to_be_bytes(), &999_999_999u32.to_be_bytes()].concat();
    assert_eq!(Version::of(5, MTIME).0, blake3::hash(&bytes).as_bytes()[..16]);
    assert_ne!(Version::of(5, MTIME), Version::of(6, MTIME));
    assert_ne!(Version::of(5, MTIME), Version::of(5, Mtime { nanos: 0, ..MTIME }));
}

/// A GET with one byte changed: what is asked then.
fn refusal(change: impl Fn(&mut Vec<u8>)) -> Asked<'static> {
    let mut bytes = encode_get(&get(b"a", Algorithm::Md5, Wanted::ALL, false));
    change(&mut bytes);
    let bytes: &'static [u8] = bytes.leak();
    let (used, asked) = parse_asked(bytes).expect("well-formed").expect("whole");
    assert_eq!(used, bytes.len());
    asked
}

#[test]
fn requests_that_are_refused_alone() {
    use ErrorCode::{BadRequest, Unsupported};
    assert_eq!(refusal(|b| b[4] = 3), Asked::Refused(Unsupported, Malformed::Field(GET, ALGORITHM)));
    assert_eq!(refusal(|b| b[4] = 0), Asked::Refused(Unsupported, Malformed::Field(GET, ALGORITHM)));
    assert_eq!(refusal(|b| b[5] = 4), Asked::Refused(Unsupported, Malformed::Field(GET, FLAGS)));
    assert_eq!(refusal(|b| b[7] = 1), Asked::Refused(Unsupported, Malformed::Field(GET, ZERO)));
    assert_eq!(refusal(|b| b[32] = 0), Asked::Refused(BadRequest, Malformed::NulInName));
    for kind in 2..=0x0f {
        assert_eq!(refusal(|b| b[0] = kind), Asked::Refused(Unsupported, Malformed::FrameType(kind)));
    }
    let shortened = |len: u8| {
        move |b: &mut Vec<u8>| {
            b.truncate(usize::from(len) + HEADER_LEN);
            b[3] = len;
        }
    };
    assert_eq!(refusal(shortened(28)), Asked::Refused(BadRequest, Malformed::EmptyName));
    for len in 0..28 {
        assert_eq!(refusal(shortened(len)), Asked::Refused(BadRequest, Malformed::FrameLength(GET, len.into())));
    }
}

#[test]
fn requests_that_end_the_conversation() {
    for kind in (0..=u8::MAX).filter(|kind| !REQUESTS.contains(kind)) {
        assert_eq!(parse_asked(&[kind]), Err(Malformed::FrameType(kind)));
    }
    // Refused by the length alone, before any byte of the payload.
    assert_eq!(parse_asked(&[GET, 0, 0x10, 0x1d]), Err(Malformed::FrameLength(GET, 4125)));
    assert_eq!(parse_asked(&[0x0f, 0xff, 0xff, 0xff]), Err(Malformed::FrameLength(0x0f, 0xff_ffff)));
    assert_eq!(parse_asked(&[GET, 0, 0x10, 0x1c]), Ok(None), "4,124 bytes are allowed");
}

#[test]
fn replies_that_no_server_sends() {
    for kind in (0..=u8::MAX).filter(|kind| ![FILE, DATA, WAIT, DIGEST, ERROR].contains(kind)) {
        assert_eq!(parse_reply(&[kind]), Err(Malformed::FrameType(kind)));
    }
    let lengths = [
        (FILE, vec![0, 51, 53, 67, 69, 85]),
        (DATA, vec![0, DATA_MAX + 1]),
        (WAIT, vec![0, 15, 17]),
        (DIGEST, vec![0, 15, 17, 31, 33]),
        (ERROR, vec![0, 1, 1027]),
    ];
    for (kind, lengths) in lengths {
        for length in lengths {
            let mut bytes = (u32::from(kind) << 24 | length).to_be_bytes().to_vec();
            bytes.extend(vec![1; length.min(2000) as usize]);
            if kind == FILE {
                // A file of good size, so that only the length is wrong.
                let good = file_frame(&file(Some(Digest::Md5([0; 16]))));
                let fields = bytes.len().min(HEADER_LEN + FILE_LEN);
                bytes[4..fields].copy_from_slice(&good[4..fields]);
            }
            assert_eq!(parse_reply(&bytes), Err(Malformed::FrameLength(kind, length)), "type {kind:#x}");
        }
    }
    let lie = |change: fn(&mut File)| {
        let mut description = file(None);
        change(&mut description);
        parse_reply(&file_frame(&description))
    };
    assert_eq!(lie(|file| file.size = u64::MAX), Err(Malformed::Size(u64::MAX)));
    assert_eq!(lie(|file| file.offset = file.size + 1), Err(Malformed::Field(FILE, "offset")));
    assert_eq!(lie(|file| file.mtime.nanos = 1_000_000_000), Err(Malformed::Field(FILE, "time")));
    let mut bytes = file_frame(&file(None));
    bytes[52] = 3;
    assert_eq!(parse_reply(&bytes), Err(Malformed::Field(FILE, ALGORITHM)));
    // The digest of another algorithm than the one named.
    let mut bytes = file_frame(&file(Some(Digest::Md5([0; 16]))));
    bytes[52] = 2;
    assert_eq!(parse_reply(&bytes), Err(Malformed::FrameLength(FILE, 68)));
}

#[test]
fn messages_are_cut_at_a_character() {
    let bytes = error_frame(ErrorCode::NotFound, &format!("x{}", "ä".repeat(MESSAGE_MAX)));
    let (used, reply) = parse_reply(&bytes).expect("well-formed").expect("whole");
    assert_eq!(used, bytes.len());
    let Reply::Error(ErrorCode::NotFound, message) = reply else { panic!("an error expected, got {reply:?}") };
    assert_eq!(message.len(), MESSAGE_MAX - 1);
    assert!(std::str::from_utf8(&message).is_ok());
}

#[test]
fn the_first_byte_tells_an_old_server() {
    assert!(begins_reply(FILE) && begins_reply(ERROR));
    assert!(!begins_reply(b'E') && !begins_reply(b'O') && !begins_reply(GET));
}
