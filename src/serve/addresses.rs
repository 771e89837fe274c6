//! Addresses as people read and type them: in the log, and in the command to paste on another machine.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::proto::DEFAULT_PORT;
use crate::text;

/// Other addresses of this machine that have a line at most: one with containers can have dozens.
const OTHERS_MAX: usize = 3;

/// An address as people write it: with the name of the interface that a link-local one belongs to, and not its number.
#[derive(Clone, Copy)]
pub struct Shown(pub SocketAddr);

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(address) if address.scope_id() != 0 => match interface_name(address.scope_id()) {
                Some(name) => {
                    write!(f, "[{}%{}]:{}", address.ip(), text::escaped(name.as_bytes()), address.port())
                }
                None => write!(f, "{address}"),
            },
            address => write!(f, "{address}"),
        }
    }
}

/// Asked for whenever such an address is shown: they are rare, and an interface may get another name.
fn interface_name(number: u32) -> Option<String> {
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::netdevice::index_to_name(&socket, number).ok()
}

/// A command to type elsewhere, or more to know about those before it.
#[derive(Debug, PartialEq, Eq)]
pub enum Hint {
    /// What the command is for, and the command.
    Command(String, String),
    /// A sentence.
    Note(String),
}

/// What to type on another machine, or, where there is no other, on this one. `name` is what to ask for; `None` is any name.
pub fn hints(listening: SocketAddr, name: Option<&OsStr>) -> Vec<Hint> {
    let ip = listening.ip();
    let others = if ip.is_unspecified() { own_addresses() } else { vec![ip] };
    let name = name.map(|name| percent_encode(name.as_bytes(), PLAIN).to_string());
    hints_for(listening, &others, name.as_deref())
}

/// The hints of a server that listens on one address, or on all of `own`, the best of which comes first.
fn hints_for(listening: SocketAddr, own: &[IpAddr], name: Option<&str>) -> Vec<Hint> {
    let (name, replacing) = name.map_or(("NAME", " (replace NAME)"), |name| (name, ""));
    let command = |ip: &IpAddr| command(&host(ip, ""), listening.port(), name);
    let (on_link, own): (Vec<IpAddr>, Vec<IpAddr>) = own
        .iter()
        .filter(|ip| !ip.is_loopback() && (ip.is_ipv4() || listening.is_ipv6()))
        .partition(|ip| is_unicast_link_local(ip) && ip.is_ipv6());
    match (own.split_first(), on_link.first()) {
        (Some((best, others)), _) => {
            let mut hints = vec![Hint::Command(format!("to fetch from another machine{replacing}"), command(best))];
            let shown = others.iter().take(OTHERS_MAX);
            let other = || String::from("or, by another address of this machine");
            hints.extend(shown.map(|ip| Hint::Command(other(), command(ip))));
            match others.len().saturating_sub(OTHERS_MAX) {
                0 => {}
                more => hints.push(Hint::Note(format!(
                    "this machine has {}",
                    text::count(more as u64, "more address", "more addresses")
                ))),
            }
            hints
        }
        (None, Some(ip)) => vec![Hint::Command(
            format!(
                "to fetch from another machine on the same link (replace {}INTERFACE by the interface of that machine, such \
                 as eth0; 'ip link' lists them)",
                if replacing.is_empty() { "" } else { "NAME, and " }
            ),
            self::command(&host(ip, "%25INTERFACE"), listening.port(), name),
        )],
        (None, None) => {
            let ip = if listening.ip().is_loopback() { listening.ip() } else { Ipv4Addr::LOCALHOST.into() };
            vec![Hint::Command(format!("to fetch on this machine{replacing}"), command(&ip))]
        }
    }
}

/// `xfer get xfer://HOST:PORT/NAME`, for a shell: brackets are a pattern for some.
fn command(host: &str, port: u16, name: &str) -> String {
    let port = if port == DEFAULT_PORT { String::new() } else { format!(":{port}") };
    let quote = if host.contains('[') { "'" } else { "" };
    format!("xfer get {quote}xfer://{host}{port}/{name}{quote}")
}

/// An address within a URL; the zone of a link-local one as RFC 6874 has it.
fn host(ip: &IpAddr, zone: &str) -> String {
    if ip.is_ipv6() { format!("[{ip}{zone}]") } else { ip.to_string() }
}

/// What stands for itself within a URL (RFC 3986, section 2.3), and for a shell.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
        let hints = hints_for(listening.parse().expect("an address and port"), &own, None);
        let shown = hints.into_iter().map(|hint| match hint {
            Hint::Command(heading, command) => format!("{heading}: {command}"),
            Hint::Note(note) => note,
        });
        shown.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_address_has_a_command_to_paste_and_the_best_comes_first() {
        let wired = ["192.168.1.5", "fd00::2", "10.0.0.3", "fe80::1", "127.0.0.1", "::1"];
        assert_eq!(
            lines_of("[::]:9999", &wired),
            "to fetch from another machine (replace NAME): xfer get xfer://192.168.1.5/NAME\n\
             or, by another address of this machine: xfer get 'xfer://[fd00::2]/NAME'\n\
             or, by another address of this machine: xfer get xfer://10.0.0.3/NAME"
        );
        // A machine without IPv6.
        assert_eq!(
            lines_of("0.0.0.0:8080", &wired),
            "to fetch from another machine (replace NAME): xfer get xfer://192.168.1.5:8080/NAME\n\
             or, by another address of this machine: xfer get xfer://10.0.0.3:8080/NAME"
        );
        let many = ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1", "10.0.4.1", "10.0.5.1"];
        let shown = lines_of("[::]:9999", &many);
        assert!(shown.ends_with("xfer://10.0.3.1/NAME\nthis machine has 2 more addresses"), "{shown}");
    }

    #[test]
    fn a_cable_between_two_machines_is_enough() {
        let cable = ["169.254.7.7", "fe80::1", "127.0.0.1", "::1"];
        assert_eq!(
            lines_of("[::]:9999", &cable),
            "to fetch from another machine (replace NAME): xfer get xfer://169.254.7.7/NAME"
        );
        assert_eq!(
            lines_of("[::]:9999", &cable[1..]),
            "to fetch from another machine on the same link (replace NAME, and INTERFACE by the interface of that \
             machine, such as eth0; 'ip link' lists them): xfer get 'xfer://[fe80::1%25INTERFACE]/NAME'"
        );
        assert!(lines_of("[fe80::1%2]:1", &["fe80::1"]).ends_with(" 'xfer://[fe80::1%25INTERFACE]:1/NAME'"));
    }

    #[test]
    fn without_another_machine_it_is_this_one() {
        for own in [&["127.0.0.1", "::1"][..], &[]] {
            assert_eq!(
                lines_of("[::]:9999", own),
                "to fetch on this machine (replace NAME): xfer get xfer://127.0.0.1/NAME"
            );
        }
        assert_eq!(
            lines_of("[::1]:9999", &["::1"]),
            "to fetch on this machine (replace NAME): xfer get 'xfer://[::1]/NAME'"
        );
        // No IPv4 is listened for, and IPv6 is all that there is.
        let only_v6 = lines_of("0.0.0.0:9999", &["fd00::2"]);
        assert_eq!(only_v6, "to fetch on this machine (replace NAME): xfer get xfer://127.0.0.1/NAME");
    }

    #[test]
    fn a_name_is_encoded_so_that_no_shell_and_no_url_sees_anything_in_it() {
        let encoded = |name: &[u8]| percent_encode(name, PLAIN).to_string();
        let shown = encoded("a b'$(x)#?%/\u{e4}~.tar_-\u{a}".as_bytes());
        assert_eq!(shown, "a%20b%27%24%28x%29%23%3F%25%2F%C3%A4~.tar_-%0A");
        assert_eq!(encoded(b"\xff"), "%FF");
    }

    #[test]
    fn an_interface_is_shown_by_its_name() {
        let shown = |text: &str| Shown(text.parse().expect("an address")).to_string();
        assert_eq!(shown("[fe80::7%1]:80"), "[fe80::7%lo]:80");
        assert_eq!(shown("[fe80::7%4000000]:80"), "[fe80::7%4000000]:80", "it is gone");
        assert_eq!([shown("[::1]:80"), shown("1.2.3.4:5")], ["[::1]:80", "1.2.3.4:5"]);
    }
}
