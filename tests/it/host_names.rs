//! Names with several addresses, of which some do not answer.
//!
//! The tests bring names of their own: in a mount namespace, which every user can have on most systems, the client sees
//! another /etc/hosts. Where it cannot be had they say so; `src/get/connect_tests.rs` tries the same without names.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::wire::{ClosedPort, metadata, read_request};
use crate::harness::{Program, Scratch, Server, serve};
use crate::scripted_server::{ScriptedServer, fill, hold};

/// Longer than a test may take, also when it is shared among a few addresses.
const LONG: &str = "600";

const HOST: &str = "nas.test";

/// A machine on which names are as a test says.
struct Names {
    hosts: PathBuf,
    switch: PathBuf,
}

impl Names {
    /// `HOST` has these addresses; `None`, with a word about it, where that cannot be had.
    fn of(scratch: &Scratch, addresses: &[&str]) -> Option<Names> {
        // No name server is asked.
        let switch = scratch.write("nsswitch.conf", b"hosts: files\n");
        let names = Names { hosts: scratch.path("hosts"), switch };
        names.set(addresses);
        let tried = Command::new("sh").args(["-c", &format!("{}\nexec true", names.line()), "true"]).output();
        match tried {
            Ok(output) if output.status.success() => Some(names),
            other => {
                println!("not tried: no mount namespace with names of our own can be had here: {other:?}");
                None
            }
        }
    }

    fn set(&self, addresses: &[&str]) {
        let lines: String = addresses.iter().map(|address| format!("{address} {HOST}\n")).collect();
        fs::write(&self.hosts, lines).unwrap();
    }

    /// A line of sh behind which the names hold. The shell begins again within the namespace, and does not come here twice.
    fn line(&self) -> String {
        let (hosts, switch) = (self.hosts.display(), self.switch.display());
        format!(
            "exec unshare -rm sh -ec 'mount --bind {hosts} /etc/hosts; mount --bind {switch} /etc/nsswitch.conf; \
             exec \"$0\" \"$@\"' \"$0\" \"$@\""
        )
    }

    fn get(&self, scratch: &Scratch, port: u16) -> Program {
        let server = format!("{HOST}:{port}");
        let program = Program::xfer(scratch).args(["get", "-H", &server, "-d", "out"]).after(&self.line());
        program.log_file(scratch.path("client.log"))
    }
}

/// Something on 127.0.0.1, made as often as it takes, and a listener on its port of another address; `None` where this
/// machine has no such address.
fn with_twin<T>(twin: impl Into<IpAddr>, make: impl Fn() -> (T, SocketAddr)) -> Option<(T, TcpListener)> {
    let twin = twin.into();
    for _ in 0..100 {
        let (made, addr) = make();
        match TcpListener::bind((twin, addr.port())) {
            Ok(listener) => return Some((made, listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                println!("not tried: no port of {twin} can be had here: {error}");
                return None;
            }
        }
    }
    panic!("no port is free on both addresses");
}

/// A server on 127.0.0.1, and a listener on the same port of `::1` at which nobody accepts.
fn server_with_twin(scratch: &Scratch) -> Option<(Server, TcpListener)> {
    with_twin(Ipv6Addr::LOCALHOST, || {
        let server = Server::start(serve(scratch));
        let addr = server.addr;
        (server, addr)
    })
}

/// A name with `::1` and `127.0.0.1`, and a firewall before the first.
#[test]
fn a_silent_address_of_several_costs_nothing() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share("b", b"body");
    let Some(names) = Names::of(&scratch, &["::1", "127.0.0.1"]) else { return };
    let Some((server, silent)) = server_with_twin(&scratch) else { return };
    let _queued = fill(&silent);
    for version in [&[][..], &["--v1"]] {
        let program = names.get(&scratch, server.addr.port()).args(["--timeout", LONG, "--force", "-v"]);
        let outcome = program.args(version).args(["a", "b"]).run();
        outcome.exits(0).made_attempts(2).log_has(&format!("connected to {}", server.addr));
        fs::remove_file(scratch.path("client.log")).unwrap();
    }
    server.stop_content();
}

/// A server that hangs, and still takes connections: the next attempt goes to another address.
#[test]
fn an_address_that_takes_connections_and_says_nothing_is_not_the_only_one() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let Some(names) = Names::of(&scratch, &["::1", "127.0.0.1"]) else { return };
    // Nobody accepts there, and the kernel connects.
    let Some((server, _hanging)) = server_with_twin(&scratch) else { return };
    let program = names.get(&scratch, server.addr.port());
    let outcome = program.args(["--timeout", "1", "--max-backoff", "0.1", "-v", "a"]).run();
    outcome.exits(0).made_attempts(2).log_has("connected to [::1]:").log_has("connected to 127.0.0.1:");
    server.stop_content();
}

#[test]
fn when_no_address_answers_each_has_its_reason() {
    let scratch = Scratch::new();
    let Some(names) = Names::of(&scratch, &["127.0.0.1", "127.0.0.2"]) else { return };
    let closed = || {
        let port = ClosedPort::new();
        let addr = port.addr;
        (port, addr)
    };
    let Some((port, silent)) = with_twin(Ipv4Addr::new(127, 0, 0, 2), closed) else { return };
    let _queued = fill(&silent);
    let number = port.addr.port();
    let program = names.get(&scratch, number).args(["--timeout", "1", "--retries", "1", "a", "b"]);
    program.run().exits(3).made_attempts(1).stderr_has(&format!(
        "cannot fetch 'a': cannot connect to {HOST}:{number}: connection refused at 127.0.0.1; connection timed out at \
         127.0.0.2 (is 'xfer serve' running there, on this port?)\n"
    ));
    // The name stands for its only address.
    names.set(&["127.0.0.1"]);
    let program = names.get(&scratch, number).args(["--retries", "1", "a"]);
    program.run().exits(3).stderr_has(&format!("cannot connect to {HOST}:{number}: connection refused"));
}

/// The name goes in the middle of a run, in which its address has answered: that is where the other files come from.
#[test]
fn a_name_that_is_lost_in_the_middle_is_no_end() {
    let scratch = Scratch::new();
    let Some(names) = Names::of(&scratch, &["127.0.0.1"]) else { return };
    let hosts = names.hosts.clone();
    let server = ScriptedServer::new(move |_, stream: &mut TcpStream| {
        let name = String::from_utf8(read_request(stream)).unwrap();
        fs::write(&hosts, "").unwrap();
        let _ = stream.write_all(&[b"OK".as_slice(), &metadata(&name, b"body"), b"body"].concat());
    });
    let program = names.get(&scratch, server.addr.port()).args(["--v1", "a", "b", "c"]);
    let outcome = program.run();
    outcome.exits(0).stderr_has("3 of 3 saved").log_has("cannot find the host nas.test");
    outcome.log_has(&format!("connecting to {} again", server.addr));
}

/// The same where nobody listens any more: the attempts end, and with them the run.
#[test]
fn a_server_that_is_lost_with_its_name_is_dead() {
    let scratch = Scratch::new();
    let Some(names) = Names::of(&scratch, &["127.0.0.1"]) else { return };
    let hosts = names.hosts.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let name = String::from_utf8(read_request(&mut stream)).unwrap();
        fs::write(&hosts, "").unwrap();
        stream.write_all(&[b"OK".as_slice(), &metadata(&name, b"body"), b"body"].concat()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        hold(&mut stream);
    });
    let program = names.get(&scratch, port).args(["--v1", "--max-backoff", "0.1", "a", "b", "c"]);
    let outcome = program.run();
    server.join().unwrap();
    outcome
        .exits(3)
        .made_attempts(6)
        .stderr_has("1 of 3 saved: 4 bytes, ")
        .stderr_has("; 1 failed: 'b'; 1 not tried\n");
    outcome.took_less_than(Duration::from_secs(30));
}
