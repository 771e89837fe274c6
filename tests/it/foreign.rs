//! Programs that speak another protocol to the server's port: each is refused so that its user learns why, and the log
//! says what came.

use std::io::{Read, Write};
use std::process::Command;

use crate::harness::wire::{dial, exchange, read_to_end};
use crate::harness::{Scratch, Server, logfile};

const SENTENCE: &str = "This is an xfer server and does not speak HTTP.";

/// The head and the body of an answer, whose length must be right.
fn http(reply: &[u8]) -> (String, String) {
    let text = String::from_utf8(reply.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    for field in ["Connection: close", "Content-Type: text/plain; charset=utf-8"] {
        assert!(head.lines().any(|line| line == field), "no {field}: {head}");
    }
    (head.to_owned(), body.to_owned())
}

fn assert_whole(reply: &[u8]) {
    let (head, body) = http(reply);
    assert!(head.lines().any(|line| line == format!("Content-Length: {}", body.len())), "{head}\n{body}");
    assert!(body.starts_with(SENTENCE) && body.contains("xfer get xfer://HOST:PORT/NAME"), "{body}");
}

/// However the request was cut, its sender gets the whole answer.
#[test]
fn every_split_of_an_http_request_is_answered() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    for split in 1..request.len() {
        let mut stream = dial(server.addr);
        stream.set_nodelay(true).unwrap();
        stream.write_all(&request[..split]).unwrap();
        // The answer may have come before the rest is sent.
        let _ = stream.write_all(&request[split..]);
        assert_whole(&read_to_end(&mut stream));
    }
    let mut stream = dial(server.addr);
    stream.set_nodelay(true).unwrap();
    for byte in request {
        let _ = stream.write_all(&[*byte]);
    }
    assert_whole(&read_to_end(&mut stream));
    let log = server.stop().log;
    assert!(log.contains("HTTP request; it begins with 'G"), "{log}");
}

/// The length is that of the answer to GET, and no byte of it comes.
#[test]
fn head_is_answered_without_a_body() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let request = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    for split in 0..request.len() {
        let mut stream = dial(server.addr);
        stream.write_all(&request[..split]).unwrap();
        let _ = stream.write_all(&request[split..]);
        let (head, body) = http(&read_to_end(&mut stream));
        assert_eq!(body, "");
        let (_, of_get) = http(&exchange(server.addr, b"GET / HTTP/1.0\r\n\r\n"));
        assert!(head.contains(&format!("Content-Length: {}", of_get.len())), "{head}");
    }
    server.stop();
}

/// A long body is read and thrown away as far as any other refused input is: the answer is not lost to a reset.
#[test]
fn a_request_with_a_body_is_answered() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let request = [&b"POST /upload HTTP/1.1\r\nContent-Length: 50000\r\n\r\n"[..], &[b'x'; 50_000]].concat();
    assert_whole(&exchange(server.addr, &request));
    // Far more than that: it ends, whether or not the answer arrives.
    let mut stream = dial(server.addr);
    while stream.write_all(&[b'X'; 16 * 1024]).is_ok() {}
    server.wait_for_log("reason: unknown protocol");
    server.stop();
}

#[test]
fn curl_prints_the_sentence() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("not tried: curl is not installed");
        return;
    }
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let curl = |args: &[&str]| {
        let output = Command::new("curl").args(["-sS", "--noproxy", "*"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let url = format!("http://{}/some/file", server.addr);
    assert!(curl(&[&url]).starts_with(SENTENCE));
    assert!(curl(&["-d", "a form", &url]).starts_with(SENTENCE));
    assert!(curl(&["-I", &url]).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    server.stop();
}

/// What came is in the log, at the level of a refusal; the others get the refusal of version 1.
#[test]
fn the_log_says_which_protocol_came() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 194]].concat();
    let cases: [(&[u8], &str); 5] = [
        (b"GET /wp-login.php HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP request; it begins with 'GET /wp-login.php HTTP/1.1'"),
        (&hello, "TLS handshake; this server does not speak TLS"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH; it begins with 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"\x80\x1b[2J'x' sent\n2026-01-15", "unknown protocol; it begins with '\\x80\\x1b[2J\\'x\\' sent'"),
        (&[b'a'; 300], "unknown protocol; it begins with 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"),
    ];
    for (number, (bytes, what)) in cases.into_iter().enumerate() {
        let mut stream = dial(server.addr);
        let peer = stream.local_addr().unwrap();
        stream.write_all(bytes).unwrap();
        let reply = read_to_end(&mut stream);
        if number > 0 {
            assert_eq!(reply, b"ERRORBad request: this server speaks only the xfer protocol", "{what}");
        }
        drop(stream);
        server.wait_for_log(&format!(" - WARN - refused {peer}: {what}\n"));
    }
    let log = server.stop().log;
    assert_eq!(logfile::reasons(&log), ["unknown protocol"; 5], "{log}");
}

/// Not enough to tell: it has the time of any request.
#[test]
fn the_beginning_of_a_word_is_waited_for() {
    let scratch = Scratch::new();
    let server = Server::start(crate::harness::serve(&scratch).args(["--request-timeout", "0.3"]));
    let mut stream = dial(server.addr);
    stream.write_all(b"SSH").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    server.wait_for_log("reason: request timeout");
    server.stop();
}
