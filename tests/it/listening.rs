//! Where the server listens, and what it says of that to people on other machines.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::{Program, Scratch, Server, get};

/// Runs before the binary in a network of its own, in which the one interface has an address that reaches no other network,
/// as on a cable between two laptops: no route leads anywhere else.
const ON_A_CABLE: &str =
    "ip link set lo up && ip address add 169.254.7.7/16 dev lo && ip address add fe80::7/64 dev lo";

/// Whether this machine lets us make such a network, which takes unshare (util-linux), ip (iproute2) and the permission.
fn has_networks() -> bool {
    let tried = Command::new("unshare").args(["-rn", "sh", "-c", ON_A_CABLE]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("not tried: a network of its own (unshare -rn and ip do not work here)");
    }
    works
}

/// A server on all addresses.
fn serve_all(scratch: &Scratch) -> Program {
    let program = Program::xfer(scratch).arg("serve").arg(scratch.files()).args(["-p", "0"]);
    program.log_file(scratch.path("server.log"))
}

/// A server in such a network, which this test cannot reach.
fn serve_on_a_cable(scratch: &Scratch, args: &[&str]) -> Server {
    let line = format!("exec unshare -rn sh -c '{ON_A_CABLE} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    Server::start(serve_all(scratch).args(args).after(&line))
}

#[test]
fn an_address_of_the_cable_is_the_one_to_paste() {
    if !has_networks() {
        return;
    }
    let scratch = Scratch::new();
    let server = serve_on_a_cable(&scratch, &[]);
    let port = server.addr.port();
    server.wait_for_stderr(&format!(
        "to fetch from another machine (replace NAME): xfer get xfer://169.254.7.7:{port}/NAME\n"
    ));
    server.wait_for_stderr(": anyone who can reach this port can read it; nothing is encrypted\n");
    server.stop_content();
}

#[test]
fn an_address_of_one_link_is_listened_on_with_its_zone() {
    if !has_networks() {
        return;
    }
    for zone in ["lo", "1"] {
        let scratch = Scratch::new();
        let server = serve_on_a_cable(&scratch, &["-b", &format!("fe80::7%{zone}")]);
        let SocketAddr::V6(address) = server.addr else { panic!("{}", server.addr) };
        assert_eq!((address.ip().to_string(), address.scope_id()), ("fe80::7".to_string(), 1));
        let port = server.addr.port();
        // By its name, which says more to a person than its number.
        let shown = format!("[fe80::7%lo]:{port}");
        server.wait_for_stderr(&format!(" on {shown}: anyone who can reach this port can read it"));
        let command = format!("xfer get 'xfer://[fe80::7%25INTERFACE]:{port}/NAME'");
        server.wait_for_stderr("to fetch from another machine on the same link (replace NAME, and INTERFACE by ");
        server.wait_for_stderr(&format!("'ip link' lists them): {command}\n"));
        let outcome = server.stop_content();
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), format!("listening on {shown}\n"));
    }
}

/// Also for clients that look for no IPv6, as those of the first system.
#[test]
fn localhost_is_this_machine_alone() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve_all(&scratch).args(["-b", "localhost"]));
    assert_eq!(server.addr.ip().to_string(), "127.0.0.1");
    server.wait_for_stderr(": only this machine can reach it\n");
    let port = server.addr.port();
    server
        .wait_for_stderr(&format!("to fetch on this machine (replace NAME): xfer get xfer://127.0.0.1:{port}/NAME\n"));
    get(&scratch, server.addr).arg("a").run().exits(0);
    let port = server.addr.port().to_string();
    Program::xfer(&scratch).args(["get", "a", "--force", "--no-log", "-H", "localhost", "-p", &port]).run().exits(0);
    server.stop();
}

#[test]
fn an_address_that_cannot_be_listened_on_says_what_to_do() {
    let cases = [
        ("198.51.100.7", "this machine does not have that address"),
        ("fe80::7%nowhere9", "cannot listen on fe80::7%nowhere9: no interface 'nowhere9'; 'ip link' lists"),
        ("fe80::7", "needs its interface, as in -b fe80::1%eth0"),
    ];
    for (bind, said) in cases {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path("d")).unwrap();
        let outcome = Program::xfer(&scratch).args(["serve", "d", "-p", "0", "--no-log", "-b", bind]).run();
        outcome.exits(1).has_one_error_line().stderr_has("cannot listen on ").stderr_has(said);
    }
}
