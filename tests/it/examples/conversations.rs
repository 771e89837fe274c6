//! The conversations that xfer-protocol(5) shows in hexadecimal, held with a real server.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};

use crate::harness::wait::wait_for_some;
use crate::harness::wire;

const ROLES: [&str; 2] = ["client:", "server:"];

/// Bytes of one side, and where a page shows them.
struct Said {
    place: String,
    by_client: bool,
    bytes: Vec<u8>,
}

pub fn is_one(lines: &[String]) -> bool {
    lines.first().is_some_and(|line| ROLES.contains(&line.as_str()))
}

/// Each request of the blocks on a connection of its own, with all that follows it until the next one.
pub fn hold(server: SocketAddr, blocks: &[(String, Vec<String>)]) {
    let said: Vec<Said> = blocks.iter().flat_map(|(place, lines)| read(place, lines)).collect();
    for turn in said.chunk_by(|_, next| !next.by_client) {
        let (request, replies) = turn.split_first().unwrap();
        assert!(request.by_client, "{}: the server does not speak first", request.place);
        let shown: Vec<u8> = replies.iter().flat_map(|reply| reply.bytes.clone()).collect();
        assert!(!shown.is_empty(), "{}: a request without a reply", request.place);
        // The pages show a digest that the server knows already. It remembers none of a file that was changed just now.
        let reply = wait_for_some("a reply as long as the one on the page", || {
            let reply = ask(server, &request.bytes);
            (reply.len() == shown.len() && reply.get(..4) == shown.get(..4)).then_some(reply)
        });
        let (shown, reply) = (dump(&shown), dump(&reply));
        assert!(shown == reply, "{}: the page shows\n{shown}\nand the server says\n{reply}", request.place);
    }
}

/// All that the server says to this, until it closes.
fn ask(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = wire::dial(server);
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wire::read_to_end(&mut stream)
}

/// `OFFSET  BYTES  TEXT`, below the name of the side.
fn read(place: &str, lines: &[String]) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        if ROLES.contains(&line.as_str()) {
            said.push(Said { place: place.to_owned(), by_client: line == ROLES[0], bytes: Vec::new() });
            continue;
        }
        // The first line names a side.
        let bytes = &mut said.last_mut().unwrap().bytes;
        let (hex, text) = line.split_at_checked(53).unwrap_or_else(|| panic!("{place}: no line of bytes: {line}"));
        let row: Vec<u8> = hex[4..].split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(
            text.strip_prefix("  ").unwrap_or(text),
            shown_as_text(&row),
            "{place}: bytes and text differ: {line}"
        );
        bytes.extend(row);
    }
    said
}

fn shown_as_text(row: &[u8]) -> String {
    row.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }).collect()
}

fn dump(bytes: &[u8]) -> String {
    let row = |row: &[u8]| row.iter().map(|byte| format!("{byte:02x} ")).collect::<String>() + &shown_as_text(row);
    bytes.chunks(16).map(row).collect::<Vec<_>>().join("\n")
}
