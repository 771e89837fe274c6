//! What a server's refusal means, in the client's words.

use super::wait::Stop;
use crate::error::{Error, ExitCode, lower_case};
use crate::proto::v1;
use crate::proto::v2::ErrorCode;
use crate::text;

/// How the message begins of a file that cannot be read.
const UNREADABLE: &[u8] = b"The file cannot be read: ";

/// How the message ends of a file that is not found.
const NOT_FOUND: &[u8] = b" not found on server";

/// A refusal in version 2.
pub fn refusal(server: &str, name: &[u8], code: ErrorCode, message: &[u8]) -> Stop {
    let shown = text::quoted(name);
    let refused = |message: String| Stop::Final(Error::new(ExitCode::Refused, message));
    let why = reason(code, message);
    match code {
        ErrorCode::NotFound => refused(format!("{shown} not found on {server}{why}; {}", advice(name))),
        ErrorCode::ReadError => refused(format!("{server} cannot read {shown}{why}; see the server's log")),
        ErrorCode::Unsupported => refused(format!(
            "{server} does not support the request for {shown}{why}; is the server older than this client?"
        )),
        ErrorCode::BadRequest => Stop::protocol(format!("{server} rejected the request for {shown}{why}")),
        ErrorCode::Changed => Stop::again(format!("{shown} changed on {server} while it was sent")),
        ErrorCode::Busy => Stop::again(format!("{server} is busy{why}")),
        ErrorCode::ShuttingDown => Stop::again(format!("{server} is shutting down")),
        ErrorCode::Other(_) if why.is_empty() => refused(format!("{server} refused {shown} and gave no reason")),
        ErrorCode::Other(_) => refused(format!("{server} refused {shown}{why}")),
    }
}

/// What to do about a name that is not found. The server tells no reason; some are in the name itself.
fn advice(name: &[u8]) -> String {
    let log = "or see the server's log";
    let mut components = name.split(|byte| *byte == b'/');
    let has = |component: &[u8]| name.split(|byte| *byte == b'/').any(|part| part == component);
    if let Some(start) = name.strip_prefix(b"/") {
        let start = start.iter().position(|byte| *byte != b'/').map_or(&b""[..], |at| &start[at..]);
        let right = if start.is_empty() { String::new() } else { format!(": {}", text::quoted(start)) };
        return format!("names are relative to the shared directory, without a leading '/'{right}");
    }
    if has(b"..") {
        return String::from("a name cannot contain '..': names are relative to the shared directory");
    }
    if name.ends_with(b"/") {
        return String::from("a name that ends in '/' is a directory, and xfer fetches files");
    }
    if has(b"") {
        return String::from("a name cannot contain '//'");
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode(name).collect();
    if decoded != name && !decoded.contains(&0) {
        return format!("%XX is decoded only in a URL; did you mean {}?", text::quoted(&decoded));
    }
    if name.iter().any(|byte| b"*?[".contains(byte)) {
        return format!("check the name (xfer does not expand wildcards), {log}");
    }
    if components.any(|part| part.starts_with(b".") && part != b".") {
        return format!("check the name (one that begins with '.' needs 'xfer serve --hidden'), {log}");
    }
    format!("check the name (it may be a directory), {log}")
}

/// A refusal in version 1, which has messages and no codes.
pub fn refusal_v1(server: &str, name: &[u8], message: &[u8]) -> Stop {
    let is_not_found = std::str::from_utf8(name).is_ok_and(|name| message == v1::not_found(name).as_bytes());
    let code = match message {
        _ if is_not_found => ErrorCode::NotFound,
        _ if v1::passes(message) => ErrorCode::Busy,
        _ if message.starts_with(UNREADABLE) => ErrorCode::ReadError,
        _ => ErrorCode::Other(0),
    };
    refusal(server, name, code, message)
}

/// What a server's message adds to its code, behind a colon; nothing, if it only says in other words what the code says.
fn reason(code: ErrorCode, message: &[u8]) -> String {
    let added = match code {
        ErrorCode::NotFound if message.ends_with(NOT_FOUND) => b"",
        ErrorCode::Busy if message == b"Server is busy, try again later" => b"",
        ErrorCode::Busy => message.strip_suffix(v1::PASSES).unwrap_or(message),
        ErrorCode::ReadError => message.strip_prefix(UNREADABLE).unwrap_or(message),
        ErrorCode::BadRequest => message.strip_prefix(b"Bad request: ").unwrap_or(message),
        ErrorCode::Unsupported => message.strip_prefix(b"Unsupported: ").unwrap_or(message),
        _ => message,
    };
    match text::escaped(added) {
        added if added.is_empty() => added,
        added => format!(": {}", lower_case(&added)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: ErrorCode, message: &str) -> String {
        refusal("nas:9999", b"x", code, message.as_bytes()).into_error().to_string()
    }

    #[test]
    fn nothing_is_said_twice() {
        let not_found = "'x' not found on nas:9999; check the name (it may be a directory), or see the server's log";
        assert_eq!(line(ErrorCode::NotFound, "File 'x' not found on server"), not_found);
        assert_eq!(line(ErrorCode::NotFound, ""), not_found);
        assert_eq!(
            line(ErrorCode::NotFound, "It was moved to /new"),
            "'x' not found on nas:9999: it was moved to /new; check the name (it may be a directory), or see the server's log"
        );
        assert_eq!(
            line(ErrorCode::ReadError, "The file cannot be read: input/output error"),
            "nas:9999 cannot read 'x': input/output error; see the server's log"
        );
        assert_eq!(line(ErrorCode::Busy, "Server is busy, try again later"), "nas:9999 is busy");
        assert_eq!(
            line(ErrorCode::Busy, "Too many connections from your address, try again later"),
            "nas:9999 is busy: too many connections from your address"
        );
        assert_eq!(line(ErrorCode::ShuttingDown, "The server is shutting down"), "nas:9999 is shutting down");
        assert_eq!(
            line(ErrorCode::Changed, "The file changed while it was sent"),
            "'x' changed on nas:9999 while it was sent"
        );
        assert_eq!(
            line(ErrorCode::BadRequest, "Bad request: the name is empty"),
            "nas:9999 rejected the request for 'x': the name is empty"
        );
        assert_eq!(line(ErrorCode::Other(99), ""), "nas:9999 refused 'x' and gave no reason");
        assert_eq!(line(ErrorCode::Other(99), "No\u{1b}[2J"), "nas:9999 refused 'x': no\\x1b[2J");
    }

    #[test]
    fn a_name_that_cannot_be_found_says_why() {
        let relative = "names are relative to the shared directory, without a leading '/'";
        let cases: [(&[u8], &str); 14] = [
            (b"/srv/f", &format!("{relative}: 'srv/f'")),
            (b"//f", &format!("{relative}: 'f'")),
            (b"/", relative),
            (b"../f", "a name cannot contain '..': names are relative to the shared directory"),
            (b"a/..", "a name cannot contain '..': names are relative to the shared directory"),
            (b"a//f", "a name cannot contain '//'"),
            (b"a/", "a name that ends in '/' is a directory, and xfer fetches files"),
            (b"*.txt", "check the name (xfer does not expand wildcards), or see the server's log"),
            (b"a/f[1]", "check the name (xfer does not expand wildcards), or see the server's log"),
            (b"a%20b\x1b", "%XX is decoded only in a URL; did you mean 'a b\\x1b'?"),
            (b"100%", "check the name (it may be a directory), or see the server's log"),
            (b"a/.f", "check the name (one that begins with '.' needs 'xfer serve --hidden'), or see the server's log"),
            (b"./a..b", "check the name (it may be a directory), or see the server's log"),
            (b"f%00", "check the name (it may be a directory), or see the server's log"),
        ];
        for (name, expected) in cases {
            let shown = refusal("nas:9999", name, ErrorCode::NotFound, b"").into_error().to_string();
            assert_eq!(shown, format!("{} not found on nas:9999; {expected}", text::quoted(name)));
        }
    }

    #[test]
    fn version_1_has_the_same_words() {
        let line = |message: &str| refusal_v1("nas:9999", b"x", message.as_bytes()).into_error();
        let exit = |message: &str| line(message).exit;
        for (code, message) in [
            (ErrorCode::NotFound, "File 'x' not found on server"),
            (ErrorCode::ReadError, "The file cannot be read: input/output error"),
            (ErrorCode::Busy, "Server is busy, try again later"),
            (ErrorCode::Busy, "Too many connections from your address, try again later"),
        ] {
            assert_eq!(line(message).to_string(), self::line(code, message));
        }
        assert_eq!(exit("File 'x' not found on server"), ExitCode::Refused);
        assert_eq!(exit("Server is busy, try again later"), ExitCode::Network);
        assert_eq!(
            line("File 'y' not found on server").to_string(),
            "nas:9999 refused 'x': file 'y' not found on server"
        );
    }
}
