use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;

/// Longer than any test may take: what is waited for to its end fails.
const LONG: Duration = Duration::from_secs(600);

fn v4(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 9999))
}

fn v6(last: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 9999))
}

#[test]
fn families_take_turns() {
    let given = vec![v6(1), v6(2), v6(3), v4(1), v4(2)];
    assert_eq!(LastAddress::Unknown.order(given), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
    let given = vec![v4(1), v6(1), v6(2)];
    assert_eq!(LastAddress::Unknown.order(given), [v4(1), v6(1), v6(2)], "the resolver's first stays first");
    assert_eq!(LastAddress::Unknown.order(Vec::new()), []);
}

#[test]
fn the_last_address_is_first_and_a_silent_one_last() {
    let given = || vec![v6(1), v4(1), v6(2)];
    assert_eq!(LastAddress::Connected(v4(1)).order(given()), [v4(1), v6(1), v6(2)]);
    assert_eq!(LastAddress::Silent(v6(1)).order(given()), [v4(1), v6(2), v6(1)]);
    assert_eq!(LastAddress::Connected(v4(9)).order(given()), [v6(1), v4(1), v6(2)], "it is none of them any more");
    let many = (0..=255).map(v4).collect();
    assert_eq!(LastAddress::Connected(v4(200)).order(many).len(), ADDRESSES_MAX);
}

#[test]
fn each_reason_has_its_addresses() {
    let refused = |address| (address, io::Error::from(io::ErrorKind::ConnectionRefused));
    let silent = |address| (address, io::Error::from(io::ErrorKind::TimedOut));
    assert_eq!(why(&[]), "the host has no address");
    assert_eq!(why(&[refused(v4(1))]), "connection refused");
    assert_eq!(why(&[refused(v6(1)), refused(v4(1))]), "connection refused", "the name says enough");
    assert_eq!(
        why(&[refused(v6(1)), silent(v4(1))]),
        "connection refused at 2001:db8::1; connection timed out at 192.0.2.1"
    );
    let mut many: Vec<Failure> = (1..=8).map(|n| silent(v4(n))).collect();
    many.push(refused(v6(1)));
    let many = why(&many);
    assert!(many.contains("192.0.2.5 and 3 more; connection refused at 2001:db8::1"), "{many}");
    assert!(!many.contains("192.0.2.6"), "{many}");
}

/// A listener of the loopback that takes no connection any more, since its queue is full; and what fills it.
fn silent_listener(address: SocketAddr) -> io::Result<(Socket, SocketAddr, Vec<Socket>)> {
    let socket = || Socket::new(Domain::for_address(address), Type::STREAM, None);
    let listener = socket()?;
    listener.bind(&address.into())?;
    listener.listen(0)?;
    let address = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut queued = Vec::new();
    loop {
        let stream = socket()?;
        if stream.connect_timeout(&address.into(), Duration::from_millis(200)).is_err() {
            return Ok((listener, address, queued));
        }
        queued.push(stream);
        assert!(queued.len() < 100, "the queue of a listener with backlog 0 never fills");
    }
}

fn race_between(addresses: &[SocketAddr], time: Duration) -> Result<(SocketAddr, TcpStream), Vec<Failure>> {
    let mut waits = Waits::for_test();
    first_to_answer(addresses, Instant::now() + time, &mut waits).unwrap_or_else(|stop| panic!("{stop:?}"))
}

/// The case of a name with `::1` and `127.0.0.1`, of which only the second answers.
#[test]
fn a_silent_address_holds_up_nobody() {
    let loopbacks = [SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), SocketAddr::from(([127, 0, 0, 3], 0))];
    for loopback in loopbacks {
        let (_listener, silent, _queued) = match silent_listener(loopback) {
            Ok(silent) => silent,
            Err(error) => {
                assert!(loopback.is_ipv6(), "{error}");
                println!("this machine has no ::1: {error}");
                continue;
            }
        };
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let there = server.local_addr().expect("it is bound");
        for addresses in [&[silent, there][..], &[silent, silent, there], &[there, silent]] {
            let (address, stream) = race_between(addresses, LONG).expect("one answers");
            assert_eq!(address, there);
            assert_eq!(stream.peer_addr().expect("it is up"), there);
            server.accept().expect("it is the one that came");
        }
    }
}

#[test]
fn each_refusal_is_kept_in_its_order() {
    // Bound, so that nobody else listens there, and not listening.
    let closed = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        io::Result::Ok((socket, address))
    };
    let (_sockets, mut addresses): (Vec<Socket>, Vec<SocketAddr>) =
        (0..20).map(|_| closed().expect("a port is free")).unzip();
    let failures = race_between(&addresses, LONG).expect_err("nobody listens");
    assert!(failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused), "{failures:?}");
    let failed: Vec<SocketAddr> = failures.into_iter().map(|(address, _)| address).collect();
    assert_eq!(failed, addresses);
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let there = server.local_addr().expect("it is bound");
    addresses.push(there);
    assert_eq!(race_between(&addresses, LONG).expect("the last one answers").0, there);
}

#[test]
fn all_together_have_the_one_time() {
    let (_listener, silent, _queued) =
        silent_listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("there is a loopback");
    let (before, time) = (Instant::now(), Duration::from_millis(300));
    let failures = race_between(&[silent; 3], time).expect_err("nobody answers");
    assert!((time..LONG).contains(&before.elapsed()), "{:?}", before.elapsed());
    assert_eq!(failures.len(), 3, "each was tried");
    assert!(failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::TimedOut), "{failures:?}");
}
