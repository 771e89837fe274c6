//! A server that lies: an error with the right code, nothing outside the target directory, no memory by its numbers.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::wire::{metadata, metadata_claiming, read_request, request};
use crate::harness::{Outcome, Scratch, content, get, md5_hex, plain_get};
use crate::scripted_server::{ScriptedServer, answer, hold, refuse};

/// Address space of a client that is lied to, in KiB: plenty for an honest transfer, too little for a claimed 4 GiB.
const ADDRESS_SPACE: &str = "ulimit -v 1048576";

/// Not much longer than an honest error takes.
const BOUNDED: Duration = Duration::from_secs(15);

/// Fetches `file` once from the liar; whatever happens, nothing may carry a final name, and nothing lie elsewhere.
fn get_from_liar(liar: &ScriptedServer, scratch: &Scratch, file: &str) -> Outcome {
    let before = scratch.names("");
    let program = get(scratch, liar.addr).args(["--retries", "1", "--max-backoff", "0.01", file]);
    let outcome = program.after(ADDRESS_SPACE).run();
    outcome.prints_nothing_on_stdout().has_one_error_line().took_less_than(BOUNDED).shows_no_control_characters();
    let is_part = |name: &String| name.starts_with('.') && name.contains(".xfer-part");
    outcome.assert(scratch.names("out").iter().all(is_part), "nothing but a part in the target directory");
    let mut after = scratch.names("");
    after.retain(|name| !["out", "client.log"].contains(&name.as_str()));
    outcome.assert(after == before, &format!("nothing outside the target directory, found {after:?}"));
    outcome
}

fn assert_protocol_error(metadata: Vec<u8>, body: &[u8]) {
    let scratch = Scratch::new();
    let liar = ScriptedServer::answering(metadata, body.to_vec());
    get_from_liar(&liar, &scratch, "a").exits(4).made_attempts(1);
}

fn assert_network_error(metadata: Vec<u8>, body: &[u8]) {
    let scratch = Scratch::new();
    let liar = ScriptedServer::answering(metadata, body.to_vec());
    get_from_liar(&liar, &scratch, "a").exits(3);
}

#[test]
fn another_name() {
    let digest = md5_hex(b"body");
    for name in ["b", "../a", "../../escaped", "sub/a", "", "a\0", "A", "a ", "."] {
        assert_protocol_error(metadata_claiming(name.as_bytes(), 4, digest.as_bytes()), b"body");
    }
}

#[test]
fn an_absolute_name() {
    let scratch = Scratch::new();
    let path = scratch.path("escaped");
    let liar = ScriptedServer::answering(metadata(path.to_str().unwrap(), b"body"), b"body".to_vec());
    get_from_liar(&liar, &scratch, "a").exits(4);
    assert!(!path.exists());
}

#[test]
fn a_name_that_is_not_utf8() {
    assert_protocol_error(metadata_claiming(b"\xff\xfe", 4, md5_hex(b"body").as_bytes()), b"body");
}

#[test]
fn a_name_of_4_gib() {
    assert_protocol_error([0xff; 4].to_vec(), b"");
    assert_protocol_error([0xff; 400].to_vec(), b"");
    assert_protocol_error(metadata_claiming(&[b'a'; 70_000], 4, md5_hex(b"body").as_bytes()), b"body");
}

/// Well-formed and wrong: asked for once more at most, then an error of integrity, and no retry after that.
#[test]
fn a_digest_of_something_else() {
    let scratch = Scratch::new();
    let liar = ScriptedServer::answering(metadata("a", b"body"), b"bode".to_vec());
    let outcome = get_from_liar(&liar, &scratch, "a");
    outcome.exits(4).stderr_has("a");
    outcome.assert(liar.connections() <= 2, "once more from zero, at most");
}

#[test]
fn a_digest_of_something_else_keeps_the_old_file() {
    let scratch = Scratch::new();
    let target = scratch.write("out/a", b"old body");
    let liar = ScriptedServer::answering(metadata("a", b"new body"), b"new bode".to_vec());
    get(&scratch, liar.addr).args(["--max-backoff", "0.01", "a"]).run().exits(4).has_one_error_line();
    assert_eq!(std::fs::read(target).unwrap(), b"old body");
}

/// Wrong once and right the second time, as after a fault on the way: saved.
#[test]
fn a_digest_that_is_wrong_once_is_forgiven() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|number, stream: &mut TcpStream| {
        let body = if number == 0 { b"bode" } else { b"body" };
        answer(stream, &metadata("a", b"body"), body);
    });
    get(&scratch, server.addr).args(["--max-backoff", "0.01", "a"]).run().exits(0).stderr_has("verified");
    assert_eq!(std::fs::read(scratch.out().join("a")).unwrap(), b"body");
}

#[test]
fn a_digest_that_is_no_hex() {
    let right = md5_hex(b"body");
    for digest in ["g".repeat(32), " ".repeat(32), right.to_uppercase(), format!("0x{}", &right[2..])] {
        assert_protocol_error(metadata_claiming(b"a", 4, digest.as_bytes()), b"body");
    }
    assert_protocol_error(metadata_claiming(b"a", 4, &[0xff; 32]), b"body");
    assert_protocol_error(metadata_claiming(b"a", 4, b"\x1b[2J\x1b[31m\n\r\x07\x08\x7f...................."), b"body");
}

#[test]
fn sizes_past_the_largest_file() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 63] {
        assert_protocol_error(metadata_claiming(b"a", size, md5_hex(b"body").as_bytes()), b"body");
    }
}

#[test]
fn a_short_body() {
    let body = content(1, 300_000);
    for sent in [0, 1, 299_999] {
        assert_network_error(metadata("a", &body), &body[..sent]);
    }
}

#[test]
fn metadata_that_breaks_off() {
    let whole = metadata("a", b"body");
    for sent in [0, 1, 4, 5, 12, 13, 20, whole.len() - 1] {
        assert_network_error(whole[..sent].to_vec(), b"");
    }
}

#[test]
fn more_bytes_than_announced() {
    assert_protocol_error(metadata("a", b"body"), b"body and more");
    assert_protocol_error(metadata("a", b""), b"x");
    let body = content(2, 300_000);
    assert_protocol_error(metadata("a", &body[..100_000]), &body);
}

/// No end in sight: the surplus must be noticed, not read.
#[test]
fn endlessly_more_bytes_than_announced() {
    let scratch = Scratch::new();
    let liar = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        stream.write_all(&[b"OK".to_vec(), metadata("a", b"body")].concat()).unwrap();
        while stream.write_all(b"body").is_ok() {}
    });
    get_from_liar(&liar, &scratch, "a").exits(4);
}

#[test]
fn escape_sequences_in_a_refusal() {
    let messages: [&[u8]; 6] = [
        b"\x1b[2J\x1b]0;title\x07\x1b[31mred",
        "c1 \u{9b}31m, turned \u{202e}txt.exe\u{2066}\u{200f}, del \u{7f}".as_bytes(),
        b"first line\r\n2026-01-15 20:10:33.123 - main - INFO - forged",
        b"not utf-8: \xff\xfe\x80",
        b"\0\0\0",
        b"",
    ];
    for message in messages {
        let scratch = Scratch::new();
        let liar = ScriptedServer::new(|_, stream: &mut TcpStream| refuse(stream, message));
        let outcome = get_from_liar(&liar, &scratch, "a");
        outcome.exits(1).made_attempts(1);
        outcome.assert(
            !outcome
                .log
                .lines()
                .any(|line| line.ends_with("INFO - forged") && line.starts_with("2026-01-15 20:10:33.123")),
            "no forged line",
        );
    }
}

#[test]
fn an_endless_refusal() {
    let scratch = Scratch::new();
    let liar = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        let _ = stream.write_all(b"ERROR");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let outcome = get_from_liar(&liar, &scratch, "a");
    outcome.exits(4);
    outcome.assert(outcome.stderr.len() < 4096 && outcome.log.len() < 8192, "not all of it is shown");
}

/// The longest message that is allowed, and one byte more.
#[test]
fn refusals_around_the_longest() {
    for (length, code) in [(1024, 1), (1025, 4)] {
        let scratch = Scratch::new();
        let liar = ScriptedServer::new(move |_, stream: &mut TcpStream| refuse(stream, &vec![b'x'; length]));
        get_from_liar(&liar, &scratch, "a").exits(code);
    }
}

/// The message is told although the server neither ends it nor closes.
#[test]
fn a_refusal_that_never_ends_is_told_after_the_timeout() {
    let scratch = Scratch::new();
    let liar = ScriptedServer::stalling_after(b"ERRORhalf a mess".to_vec());
    let outcome = get(&scratch, liar.addr).args(["--retries", "1", "--timeout", "0.3", "a"]).run();
    let code = outcome.status.code();
    outcome.assert(matches!(code, Some(1 | 3)), "refused, or cut off").took_less_than(BOUNDED);
}

#[test]
fn closing_before_any_byte() {
    let scratch = Scratch::new();
    let liar = ScriptedServer::new(|_, stream: &mut TcpStream| drop(read_request(stream)));
    get_from_liar(&liar, &scratch, "a").exits(3);
}

#[test]
fn closing_after_ok() {
    assert_network_error(Vec::new(), b"");
}

#[test]
fn closing_in_the_middle_of_the_status() {
    for status in ["O", "E", "ERRO"] {
        let scratch = Scratch::new();
        let liar = ScriptedServer::new(move |_, stream: &mut TcpStream| {
            read_request(stream);
            stream.write_all(status.as_bytes()).unwrap();
        });
        get_from_liar(&liar, &scratch, "a").exits(3);
    }
}

#[test]
fn a_status_that_is_none() {
    for status in ["HTTP/1.1 400 Bad Request\r\n\r\n", "ok", "OKAY, all right", "ERRO!", "\0\0\0\0", "\x1b[2J\x1b[31m"]
    {
        let scratch = Scratch::new();
        let liar = ScriptedServer::new(move |_, stream: &mut TcpStream| {
            read_request(stream);
            stream.write_all(status.as_bytes()).unwrap();
            hold(stream);
        });
        get_from_liar(&liar, &scratch, "a").exits(4).made_attempts(1);
    }
}

/// The first four bytes of the name length tell nothing wrong, but no such name was asked for.
#[test]
fn an_honest_reply_cut_into_single_bytes_is_understood() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        stream.set_nodelay(true).unwrap();
        for byte in [b"OK".to_vec(), metadata("a", b"body"), b"body".to_vec()].concat() {
            stream.write_all(&[byte]).unwrap();
        }
    });
    get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("verified");
}

/// Metadata that comes together with `OK`, from some server yet to be written: ours reads streams, not segments.
#[test]
fn an_honest_reply_in_one_piece_is_understood() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        stream.write_all(&[b"OK".to_vec(), metadata("a", b"body"), b"body".to_vec()].concat()).unwrap();
    });
    plain_get(&scratch, server.addr).args(["-o", "a", "a"]).run().exits(0).stderr_has("verified");
}

/// An old server reads the length with one read and the name with one: they must come whole, whatever the length.
#[test]
fn the_request_comes_in_one_piece() {
    let scratch = Scratch::new();
    let name = ["d".repeat(250), "n".repeat(250)].join("/");
    let expected = request(name.as_bytes());
    let server = ScriptedServer::new(move |_, stream: &mut TcpStream| {
        let mut seen = vec![0; 64 * 1024];
        let count = std::io::Read::read(stream, &mut seen).unwrap();
        let honest = seen[..count] == expected || seen[..count] == expected[..4];
        let _ = if honest { stream.write_all(b"ERRORin one piece") } else { stream.write_all(b"ERRORin pieces") };
    });
    get(&scratch, server.addr).arg(&name).run().exits(1).stderr_has("in one piece");
}
