//! Connections that speak another protocol: which one, as far as their first bytes tell, and what they are answered.

use std::fmt::{self, Display, Formatter};

use crate::text;

/// Bytes of such a connection that the log shows at most: enough to tell a browser from a scanner.
const SHOWN_MAX: usize = 40;

/// The answer to HTTP, which a browser or curl shows.
const HTTP_BODY: &str =
    "This is an xfer server and does not speak HTTP. To fetch a file, type: xfer get xfer://HOST:PORT/NAME\n";

/// A protocol that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A browser, curl, or a scanner. The answer to HEAD has no body (RFC 9110, section 9.3.2).
    Http {
        /// Whether it is HEAD.
        is_head: bool,
    },
    /// A ClientHello. Refused in clear text: OpenSSL then says "wrong version number", which people know as the sign of a
    /// port without TLS.
    Tls,
    /// The banner of a client or a server.
    Ssh,
    /// Anything else.
    Unknown,
}

impl Protocol {
    /// What these bytes begin, the first of which no request of ours begins with; `None` until enough of them are here.
    pub fn of(bytes: &[u8]) -> Option<Protocol> {
        const HEAD: &[u8] = b"HEAD ";
        const SSH: &[u8] = b"SSH-";
        let is_partial = |word: &[u8]| bytes.len() < word.len() && word.starts_with(bytes);
        match bytes.first()? {
            0x16 => Some(Protocol::Tls),
            b'A'..=b'Z' if is_partial(HEAD) || is_partial(SSH) => None,
            b'A'..=b'Z' if bytes.starts_with(SSH) => Some(Protocol::Ssh),
            b'A'..=b'Z' => Some(Protocol::Http { is_head: bytes.starts_with(HEAD) }),
            _ => Some(Protocol::Unknown),
        }
    }
}

/// The whole answer to an HTTP request.
pub fn http_refusal(is_head: bool) -> String {
    let (length, body) = (HTTP_BODY.len(), if is_head { "" } else { HTTP_BODY });
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// What came, for the log.
pub struct Shown<'a>(pub Protocol, pub &'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Shown(protocol, bytes) = self;
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let begins = text::in_quotes(line.get(..SHOWN_MAX).unwrap_or(line));
        match protocol {
            Protocol::Http { .. } => write!(out, "HTTP request; it begins with {begins}"),
            Protocol::Tls => out.write_str("TLS handshake; this server does not speak TLS"),
            Protocol::Ssh => write!(out, "SSH; it begins with {begins}"),
            Protocol::Unknown => write!(out, "unknown protocol; it begins with {begins}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_told_by_its_first_bytes() {
        let http = |is_head| Some(Protocol::Http { is_head });
        let cases = [
            (&b"G"[..], http(false)),
            (b"GET / HTTP/1.1\r\n", http(false)),
            (b"H", None),
            (b"HEAD", None),
            (b"HEAD / HTTP/1.1\r\n", http(true)),
            (b"HELO example.org\r\n", http(false)),
            (b"SSH", None),
            (b"SEARCH / HTTP/1.1\r\n", http(false)),
            (b"SSH-2.0-x\r\n", Some(Protocol::Ssh)),
            (b"\x16\x03\x01", Some(Protocol::Tls)),
            (b"get /", Some(Protocol::Unknown)),
            (b"\xff", Some(Protocol::Unknown)),
        ];
        for (bytes, protocol) in cases {
            assert_eq!(Protocol::of(bytes), protocol, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_log_shows_one_line_of_it_and_not_too_much() {
        let shown = |bytes| Shown(Protocol::of(bytes).expect("enough bytes"), bytes).to_string();
        assert_eq!(shown(b"GET /a HTTP/1.0\r\nHost: x"), "HTTP request; it begins with 'GET /a HTTP/1.0'");
        assert_eq!(shown(&[0xff; 4000]), format!("unknown protocol; it begins with '{}'", "\\xff".repeat(SHOWN_MAX)));
    }
}
