//! Connections by the address of their peers: how many each address has, and which of them are idle.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mio::Token;

/// Connections of an address at its cap that are told so, at a time and in a second. An honest peer learns why it is
/// refused; a storm is not worth a reply, and leaves no more lines in the log than these. (OpenSSH: MaxStartups 10.)
const TOLD_MAX: u32 = 16;
const TOLD_PERIOD: Duration = Duration::from_secs(1);

/// Whose connections are counted together.
///
/// In IPv6 that is a /64: it is the least that a site gets (RFC 6177), and one machine may take any number of addresses
/// in it (RFC 8981), so that a cap on each of them would be none. A network that shares one counts like an office behind
/// one IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// One address, also where it came through an IPv6 socket.
    V4(Ipv4Addr),
    /// The first half of an address.
    V6([u16; 4]),
}

impl Source {
    /// Where a peer of this address counts.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Source::V6([a, b, c, d])
            }
        }
    }
}

/// What is done with a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is served.
    Served,
    /// Its address has as many as it may: it is told so when it asks.
    Told,
    /// So many of its address are being told so that it is closed without a word.
    TurnedAway,
}

/// The connections that are open, by source. Every call takes a time that does not grow with their number.
pub struct Peers {
    /// Connections of one source that are served at a time.
    most: usize,
    sources: HashMap<Source, Held>,
}

#[derive(Default)]
struct Held {
    served: usize,
    told: u32,
    /// When the running period of [`TOLD_PERIOD`] began, and how many were told in it.
    period: Option<Instant>,
    told_in_period: u32,
    idle: Idle,
}

impl Peers {
    /// Serves at most so many connections of one source at a time; `None` is no limit, and costs nothing.
    pub fn new(most: Option<usize>) -> Peers {
        Peers { most: most.unwrap_or(usize::MAX), sources: HashMap::new() }
    }

    /// How many connections one source may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether a source has as many connections as it may.
    pub fn is_full(&self, source: Source) -> bool {
        self.sources.get(&source).is_some_and(|held| held.served >= self.most)
    }

    /// What becomes of one more connection. Whoever keeps it calls [`Peers::add`].
    pub fn admit(&mut self, source: Source, now: Instant) -> Admission {
        let Some(held) = self.sources.get_mut(&source).filter(|held| held.served >= self.most) else {
            return Admission::Served;
        };
        if held.period.is_none_or(|began| now.saturating_duration_since(began) >= TOLD_PERIOD) {
            (held.period, held.told_in_period) = (Some(now), 0);
        }
        match held.told < TOLD_MAX && held.told_in_period < TOLD_MAX {
            true => Admission::Told,
            false => Admission::TurnedAway,
        }
    }

    /// Counts a connection, which is served or told that there are too many.
    pub fn add(&mut self, source: Source, is_served: bool) {
        if self.has_no_limit() {
            return;
        }
        let held = self.sources.entry(source).or_default();
        match is_served {
            true => held.served += 1,
            false => {
                held.told += 1;
                held.told_in_period += 1;
            }
        }
    }

    /// Forgets a connection that was counted so.
    pub fn remove(&mut self, source: Source, was_served: bool) {
        let Some(held) = self.sources.get_mut(&source) else { return };
        match was_served {
            true => held.served = held.served.saturating_sub(1),
            false => held.told = held.told.saturating_sub(1),
        }
        if held.served == 0 && held.told == 0 {
            self.sources.remove(&source);
        }
    }

    /// Notes an idle connection of a source.
    pub fn note_idle(&mut self, source: Source, noted: Noted, is_idle: impl Fn(Noted) -> bool) {
        if let Some(held) = self.sources.get_mut(&source) {
            held.idle.note(noted, held.served, is_idle);
        }
    }

    /// The connection of a source that has been idle for the longest.
    pub fn oldest_idle(&mut self, source: Source, is_idle: impl Fn(Noted) -> bool) -> Option<Token> {
        self.sources.get_mut(&source)?.idle.oldest(is_idle)
    }

    fn has_no_limit(&self) -> bool {
        self.most == usize::MAX
    }
}

/// A connection, and since when it was idle.
pub type Noted = (Instant, Token);

/// Who was kept open with nothing to do, since when: the oldest first, those that are not any more among them.
#[derive(Default)]
pub struct Idle(VecDeque<Noted>);

impl Idle {
    /// Remembers one of so many connections, and forgets those that are not idle any more before they outnumber the
    /// others: so much is noted before that happens again that each note costs a bounded time.
    pub fn note(&mut self, noted: Noted, conns: usize, is_idle: impl Fn(Noted) -> bool) {
        self.0.push_back(noted);
        if self.0.len() > 2 * conns {
            self.0.retain(|noted| is_idle(*noted));
        }
    }

    /// The one that has been idle for the longest.
    pub fn oldest(&mut self, is_idle: impl Fn(Noted) -> bool) -> Option<Token> {
        while let Some(noted) = self.0.front() {
            if is_idle(*noted) {
                return Some(noted.1);
            }
            self.0.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().expect("an address"))
    }

    #[test]
    fn one_source_is_one_ipv4_address_or_64_bits_of_ipv6() {
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn beyond_the_cap_some_are_told_and_the_others_turned_away() {
        let (mut peers, mut now) = (Peers::new(Some(2)), Instant::now());
        let [one, other] = ["192.0.2.7", "192.0.2.8"].map(source);
        for _ in 0..2 {
            assert_eq!(peers.admit(one, now), Admission::Served);
            peers.add(one, true);
        }
        for number in 0..100 {
            let told = number < TOLD_MAX;
            assert_eq!(peers.admit(one, now), if told { Admission::Told } else { Admission::TurnedAway }, "{number}");
            if told {
                peers.add(one, false);
            }
        }
        assert_eq!(peers.admit(other, now), Admission::Served);
        // One that was told has gone: the next one waits for the next second all the same.
        peers.remove(one, false);
        assert_eq!(peers.admit(one, now), Admission::TurnedAway);
        now += TOLD_PERIOD;
        assert_eq!(peers.admit(one, now), Admission::Told);
        peers.add(one, false);
        assert_eq!(peers.admit(one, now), Admission::TurnedAway, "{TOLD_MAX} are open");
        peers.remove(one, true);
        assert_eq!(peers.admit(one, now), Admission::Served);
        peers.remove(one, true);
        (0..TOLD_MAX).for_each(|_| peers.remove(one, false));
        assert!(peers.sources.is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut peers = Peers::new(None);
        let one = source("192.0.2.7");
        peers.add(one, true);
        peers.remove(one, true);
        assert!(peers.sources.is_empty() && peers.admit(one, Instant::now()) == Admission::Served);
    }

    /// Whoever asks and pauses again and again leaves notes, and those are bounded by the connections.
    #[test]
    fn the_oldest_idle_one_is_found_and_old_notes_are_dropped() {
        let (mut idle, start) = (Idle::default(), Instant::now());
        let at = |n: u64| start + Duration::from_millis(n);
        for n in 0..1000 {
            idle.note((at(n), Token(7)), 2, |noted| noted == (at(n), Token(7)));
            assert!(idle.0.len() <= 4, "{} notes", idle.0.len());
        }
        idle.note((at(1000), Token(8)), 2, |_| true);
        assert_eq!(idle.oldest(|noted| noted == (at(999), Token(7)) || noted.1 == Token(8)), Some(Token(7)));
        assert_eq!(idle.oldest(|noted| noted.1 == Token(8)), Some(Token(8)));
        assert_eq!(idle.oldest(|_| false), None);
    }
}
