//! The stand-ins for old peers, checked against each other: what they do to the real binary is then worth believing.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::wire::{ask, metadata, read_head, read_request, refusal, request};
use crate::harness::{Scratch, content, md5_hex};
use crate::old_client::{self, Fetched};
use crate::old_server::OldServer;
use crate::scripted_server::ScriptedServer;

#[test]
fn old_client_fetches_from_old_server() {
    let scratch = Scratch::new();
    let body = content(1, 300_000);
    scratch.share("sub/a.bin", &body);
    let server = OldServer::of(&scratch.files());
    let fetched = old_client::fetch(server.addr, b"sub/a.bin", &scratch.path(""));
    let path = scratch.path("a.bin");
    assert_eq!(fetched, Ok(Fetched::Verified { path: path.clone(), size: 300_000 }));
    assert_eq!(fs::read(path).unwrap(), body);
}

#[test]
fn old_client_reports_what_the_old_server_refuses() {
    let scratch = Scratch::new();
    let server = OldServer::of(&scratch.files());
    let fetched = old_client::fetch(server.addr, b"none", &scratch.path(""));
    assert_eq!(fetched, Ok(Fetched::Refused("File 'none' not found on server".to_owned())));
}

/// The fault that the gap between `OK` and the metadata is there for.
#[test]
fn old_client_fails_when_metadata_comes_with_the_status() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        stream.write_all(&[b"OK".as_slice(), &metadata("a", b"body"), b"body"].concat()).unwrap();
        // Closing with a request unread would be a reset, maybe in front of the client's second write.
        read_request(stream);
    });
    let error = old_client::fetch(server.addr, b"a", &scratch.path("")).unwrap_err();
    assert!(error.starts_with("invalid reply: OK"), "{error}");
}

#[test]
fn old_client_notices_a_wrong_digest() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        stream.write_all(b"OK").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(&[metadata("a", b"body"), b"bode".to_vec()].concat()).unwrap();
    });
    let error = old_client::fetch(server.addr, b"a", &scratch.path("")).unwrap_err();
    assert!(error.contains(&md5_hex(b"bode")), "{error}");
}

#[test]
fn old_server_closes_silently_on_what_it_cannot_decode() {
    let scratch = Scratch::new();
    let server = OldServer::of(&scratch.files());
    assert_eq!(ask(server.addr, b"\xff\xfe"), b"");
}

#[test]
fn readers_by_hand_understand_the_old_server() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = OldServer::of(&scratch.files());
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream.write_all(&request(b"a")).unwrap();
    let head = read_head(&mut stream);
    assert_eq!((head.name.as_str(), head.size, head.digest), ("a", 4, md5_hex(b"body")));
    assert_eq!(refusal(&ask(server.addr, b"b")), "File 'b' not found on server");
}
