//! Which other protocol a server speaks, by the first bytes that it sends.

use crate::proto::{DEFAULT_PORT, Malformed};
use crate::text;

/// Bytes of a greeting that are looked at: a line of SMTP has at most 512 (RFC 5321, 4.5.3.1.5), and the name of the
/// protocol comes early.
const GREETING_MAX: usize = 256;

/// Bytes of a greeting that are shown.
const SHOWN_MAX: usize = 60;

/// How the greetings of well-known protocols begin.
const GREETINGS: [(&[u8], &str); 17] = [
    (b"SSH-", "an SSH server"),
    (b"HTTP/", "a web server"),
    (b"<!doctype", "a web server"),
    (b"<html", "a web server"),
    (b"<?xml", "a web server"),
    (b"RTSP/", "an RTSP server"),
    (b"+OK", "a POP3 server"),
    (b"* OK", "an IMAP server"),
    (b"* BYE", "an IMAP server"),
    (b"* PREAUTH", "an IMAP server"),
    (b"-ERR", "a Redis server"),
    (b"-NOAUTH", "a Redis server"),
    (b"-DENIED", "a Redis server"),
    (b"@RSYNCD:", "an rsync server"),
    (b"RFB ", "a VNC server"),
    (b"AMQP", "an AMQP server"),
    (b"OK MPD", "an MPD server"),
];

/// Reply codes with which a server of FTP or SMTP greets, refuses a connection, or answers what is no command.
const LINE_CODES: [&[u8]; 9] = [b"220", b"120", b"421", b"500", b"501", b"502", b"503", b"530", b"554"];

/// Whether bytes that cannot be parsed may be the greeting of another protocol.
pub fn may_be_greeting(malformed: Malformed, bytes: &[u8]) -> bool {
    match malformed {
        Malformed::Status => true,
        // The other types of replies are those of this protocol or a later version of it.
        Malformed::FrameType(kind) => !(0x10..=0x1f).contains(&kind) || is_tls(bytes) == Some(true),
        _ => false,
    }
}

/// Whether a connection begins with a record of TLS: an alert or a handshake, version 3. Nothing while that cannot be told.
pub fn is_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [0x15 | 0x16] => None,
        [0x15 | 0x16, 0x03, ..] => Some(true),
        _ => Some(false),
    }
}

/// Whether more of a greeting would tell nothing more.
pub fn is_complete(bytes: &[u8]) -> bool {
    bytes.contains(&b'\n') || bytes.len() >= GREETING_MAX || binary_protocol(bytes).is_some()
}

/// Why nothing can be fetched from a server that greets with these bytes: the end of an error line.
pub fn describe(bytes: &[u8], port: u16) -> String {
    let advice = match port {
        DEFAULT_PORT => String::from("check the host and the port"),
        _ => format!("check the port (xfer serve uses {DEFAULT_PORT} by default)"),
    };
    if let Some(what) = binary_protocol(bytes) {
        return format!("this is {what}; {advice}");
    }
    let greeting = shown(bytes);
    match text_protocol(bytes) {
        Some(what) => format!("this is {what} ({greeting}); {advice}"),
        None => format!("this is not an xfer server (its reply begins with {greeting}); {advice}"),
    }
}

/// Whether a greeting is that of a protocol that is known by name.
pub fn is_known(bytes: &[u8]) -> bool {
    binary_protocol(bytes).is_some() || text_protocol(bytes).is_some()
}

fn binary_protocol(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        _ if is_tls(bytes) == Some(true) => Some("a TLS server"),
        // The length of the first packet, its number, and protocol 10 or an error (MySQL, Connection Phase).
        [_, _, 0, 0, 0x0a | 0xff, ..] => Some("a MySQL server"),
        // IAC, and WILL, WONT, DO or DONT (RFC 854).
        [0xff, 0xfb..=0xfe, ..] => Some("a Telnet server"),
        _ => None,
    }
}

fn text_protocol(bytes: &[u8]) -> Option<&'static str> {
    let begins_with =
        |greeting: &[u8]| bytes.get(..greeting.len()).is_some_and(|start| start.eq_ignore_ascii_case(greeting));
    if let Some((_, what)) = GREETINGS.iter().find(|(greeting, _)| begins_with(greeting)) {
        return Some(what);
    }
    let (code, rest) = bytes.split_at_checked(3)?;
    if !matches!(rest.first(), Some(b' ' | b'-')) || !LINE_CODES.contains(&code) {
        return None;
    }
    Some(match code {
        _ if rest.windows(4).any(|word| word.eq_ignore_ascii_case(b"SMTP")) => "an SMTP server",
        b"220" | b"120" | b"530" => "an FTP server",
        _ => "an FTP or SMTP server",
    })
}

/// The first line, escaped and cut.
fn shown(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    match line.split_at_checked(SHOWN_MAX) {
        Some((start, rest)) if !rest.is_empty() => format!("{}...", text::quoted(start)),
        _ => text::quoted(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_told_apart() {
        for (greeting, what) in [
            (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "this is an SSH server ('SSH-2.0-OpenSSH_9.6'); "),
            (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", "this is a web server ('HTTP/1.1 400 Bad Request'); "),
            (b"<!DOCTYPE HTML>\n<html>", "this is a web server ('<!DOCTYPE HTML>'); "),
            (b"<HTML><body>", "this is a web server ('<HTML><body>'); "),
            (b"\x15\x03\x01\x00\x02\x02\x46", "this is a TLS server; "),
            (b"\x16\x03\x03\x00\x7a", "this is a TLS server; "),
            (b"220 ProFTPD Server ready.\r\n", "this is an FTP server ('220 ProFTPD Server ready.'); "),
            (b"220-Welcome\r\n220 now\r\n", "this is an FTP server ('220-Welcome'); "),
            (b"220 mx.example.org ESMTP Postfix\r\n", "this is an SMTP server ('220 mx.example.org ESMTP Postfix'); "),
            (b"421 Too many connections\r\n", "this is an FTP or SMTP server ('421 Too many connections'); "),
            (b"+OK ready\r\n", "this is a POP3 server ('+OK ready'); "),
            (b"* OK [CAPABILITY IMAP4rev1]\r\n", "this is an IMAP server ('* OK [CAPABILITY IMAP4rev1]'); "),
            (b"-ERR unknown command\r\n", "this is a Redis server ('-ERR unknown command'); "),
            (b"@RSYNCD: 31.0 sha512\n", "this is an rsync server ('@RSYNCD: 31.0 sha512'); "),
            (b"RFB 003.008\n", "this is a VNC server ('RFB 003.008'); "),
            (b"OK MPD 0.23.5\n", "this is an MPD server ('OK MPD 0.23.5'); "),
            (b"J\x00\x00\x00\x0a8.0.36\x00", "this is a MySQL server; "),
            (b"\xff\xfd\x18\xff\xfd\x20", "this is a Telnet server; "),
            (b"2200", "this is not an xfer server (its reply begins with '2200'); "),
            (b"ok\x1b[2J", "this is not an xfer server (its reply begins with 'ok\\x1b[2J'); "),
        ] {
            assert_eq!(describe(greeting, 22), format!("{what}check the port (xfer serve uses 9999 by default)"));
            assert!(describe(greeting, DEFAULT_PORT).ends_with("; check the host and the port"));
        }
        let long = [b"SSH-".as_slice(), &[b'x'; 300]].concat();
        assert!(describe(&long, 22).contains(&format!("('SSH-{}'...); ", "x".repeat(56))));
    }

    /// Whatever comes, a byte at a time: it ends, and a greeting of this protocol is never taken for another.
    #[test]
    fn every_split() {
        for bytes in [&[0x15, 0x03, 0x01][..], b"\xff\xfd\x18", b"J\x00\x00\x00\x0a", b"SSH-2.0-x\n", &[b'x'; 256]] {
            let complete = (0..=bytes.len()).find(|len| is_complete(&bytes[..*len]));
            assert!(complete.is_some(), "{bytes:?}");
            (0..bytes.len()).for_each(|len| drop(describe(&bytes[..len], 1)));
        }
        assert!(!may_be_greeting(Malformed::FrameType(0x18), &[0x18]));
        assert!(!may_be_greeting(Malformed::FrameType(0x15), &[0x15, 0, 0, 8]));
        assert!(may_be_greeting(Malformed::FrameType(0x15), &[0x15, 3]));
    }
}
