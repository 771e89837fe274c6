//! The addresses by which other machines reach the server: lines for people to paste there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::proto::DEFAULT_PORT;

/// Other addresses of this machine that are named at most: one with containers can have dozens.
const OTHERS_MAX: usize = 3;

/// What to type on another machine, or, where there is no other, on this one: lines for the log.
pub fn lines_to_paste(listening: SocketAddr) -> Vec<String> {
    let ip = listening.ip();
    let others = if ip.is_unspecified() { own_addresses() } else { vec![ip] };
    lines(listening, &others)
}

/// The lines for a server that listens on one address, or on all of `own`, the best of which comes first.
fn lines(listening: SocketAddr, own: &[IpAddr]) -> Vec<String> {
    let port = match listening.port() {
        DEFAULT_PORT => String::new(),
        port => format!(" -p {port}"),
    };
    let (on_link, own): (Vec<IpAddr>, Vec<IpAddr>) = own
        .iter()
        .filter(|ip| !ip.is_loopback() && (ip.is_ipv4() || listening.is_ipv6()))
        .partition(|ip| is_unicast_link_local(ip) && ip.is_ipv6());
    match (own.split_first(), on_link.first()) {
        (Some((best, others)), _) => {
            let mut lines = vec![format!("to fetch from another machine: xfer get FILE -H {best}{port}")];
            let shown: Vec<String> = others.iter().take(OTHERS_MAX).map(|ip| format!("-H {ip}")).collect();
            if !shown.is_empty() {
                let more = match others.len() - shown.len() {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                lines.push(format!("other addresses of this machine: {}{more}", shown.join(", ")));
            }
            lines
        }
        (None, Some(ip)) => vec![format!(
            "to fetch from another machine on the same cable: xfer get FILE -H {ip}%INTERFACE{port} \
             (INTERFACE is an interface of that machine, such as eth0; see ip link there)"
        )],
        (None, None) => {
            let ip = if listening.ip().is_loopback() { listening.ip() } else { Ipv4Addr::LOCALHOST.into() };
            vec![format!("to fetch on this machine: xfer get FILE -H {ip}{port}")]
        }
    }
}

/// The addresses of this machine: those that it uses towards others first, then the others of its interfaces; of these
/// IPv4 first, and last those that only reach the same network (RFC 3927).
fn own_addresses() -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = routed_addresses();
    // Where a sandbox or a unit forbids to ask for them (RestrictAddressFamilies in systemd.exec(5)), those must do.
    let mut others = if_addrs::get_if_addrs().unwrap_or_default();
    others.retain(|interface| interface.oper_status != if_addrs::IfOperStatus::Down);
    others.sort_by_key(|interface| (is_unicast_link_local(&interface.ip()), interface.ip().is_ipv6()));
    for interface in others {
        if !own.contains(&interface.ip()) {
            own.push(interface.ip());
        }
    }
    own
}

fn is_unicast_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses that this machine uses towards others. Connecting a datagram socket only asks the routing table.
fn routed_addresses() -> Vec<IpAddr> {
    // TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849): addresses of nobody.
    let probes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let probe = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    probes.into_iter().filter_map(probe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(listening: &str, own: &[&str]) -> String {
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().expect("an address")).collect();
        lines(listening.parse().expect("an address and port"), &own).join("\n")
    }

    #[test]
    fn the_best_address_is_in_the_line_to_paste() {
        let wired = ["192.168.1.5", "fd00::2", "10.0.0.3", "fe80::1", "127.0.0.1", "::1"];
        assert_eq!(
            lines_of("[::]:9999", &wired),
            "to fetch from another machine: xfer get FILE -H 192.168.1.5\n\
             other addresses of this machine: -H fd00::2, -H 10.0.0.3"
        );
        // A machine without IPv6.
        assert_eq!(
            lines_of("0.0.0.0:8080", &wired),
            "to fetch from another machine: xfer get FILE -H 192.168.1.5 -p 8080\n\
             other addresses of this machine: -H 10.0.0.3"
        );
        let many = ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1", "10.0.4.1", "10.0.5.1"];
        assert!(lines_of("[::]:9999", &many).ends_with("-H 10.0.1.1, -H 10.0.2.1, -H 10.0.3.1, and 2 more"));
    }

    #[test]
    fn a_cable_between_two_machines_is_enough() {
        let cable = ["169.254.7.7", "fe80::1", "127.0.0.1", "::1"];
        assert_eq!(lines_of("[::]:9999", &cable), "to fetch from another machine: xfer get FILE -H 169.254.7.7");
        assert!(lines_of("[::]:9999", &cable[1..]).starts_with(
            "to fetch from another machine on the same cable: xfer get FILE -H fe80::1%INTERFACE (INTERFACE is"
        ));
        assert!(lines_of("[fe80::1%2]:1", &["fe80::1"]).contains(" -H fe80::1%INTERFACE -p 1 "));
    }

    #[test]
    fn without_another_machine_it_is_this_one() {
        for own in [&["127.0.0.1", "::1"][..], &[]] {
            assert_eq!(lines_of("[::]:9999", own), "to fetch on this machine: xfer get FILE -H 127.0.0.1");
        }
        assert_eq!(lines_of("[::1]:9999", &["::1"]), "to fetch on this machine: xfer get FILE -H ::1");
        // No IPv4 is listened for, and IPv6 is all that there is.
        assert_eq!(lines_of("0.0.0.0:9999", &["fd00::2"]), "to fetch on this machine: xfer get FILE -H 127.0.0.1");
    }
}
