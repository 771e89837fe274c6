//! Connections by the address of their peers: how many each address has, and which of them can make room for others.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mio::Token;

/// Connections of an address at its cap that are told so, at a time and in a second. An honest peer learns why it is
/// refused; a storm is not worth a reply, and leaves no more lines in the log than these. (OpenSSH: MaxStartups 10.) They
/// hold no place that anybody else needs: the last free one stays free, and they are the first to make room.
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
    /// Who is only told that its source has too many, since it was accepted.
    told: ByAge,
    /// Who was kept open with nothing to do, since then.
    idle: ByAge,
}

#[derive(Default)]
struct Held {
    served: usize,
    told: u32,
    /// When the running period of [`TOLD_PERIOD`] began, and how many were told in it.
    period: Option<Instant>,
    told_in_period: u32,
    idle: ByAge,
}

impl Peers {
    /// Serves at most so many connections of one source at a time; `None` is no limit, and costs nothing.
    pub fn new(most: Option<usize>) -> Peers {
        let (told, idle) = (ByAge::default(), ByAge::default());
        Peers { most: most.unwrap_or(usize::MAX), sources: HashMap::new(), told, idle }
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

    /// Notes a connection that is only told that its source has too many, one of `conns` in all.
    pub fn note_told(&mut self, noted: Noted, conns: usize, can_go: impl Fn(Noted) -> bool) {
        self.told.note(noted, conns, can_go);
    }

    /// Notes an idle connection of a source, one of `conns` in all.
    pub fn note_idle(&mut self, source: Source, noted: Noted, conns: usize, can_go: impl Fn(Noted) -> bool) {
        self.idle.note(noted, conns, &can_go);
        if let Some(held) = self.sources.get_mut(&source) {
            held.idle.note(noted, held.served, can_go);
        }
    }

    /// The connection that makes room for one that is served: of those that are only told, or else of the idle ones, the
    /// oldest. `can_go` says whether one is still as it was noted.
    pub fn makes_room(&mut self, can_go: impl Fn(Noted) -> bool) -> Option<Token> {
        self.told.oldest(&can_go).or_else(|| self.idle.oldest(&can_go))
    }

    /// The connection of a source that has been idle for the longest.
    pub fn oldest_idle(&mut self, source: Source, can_go: impl Fn(Noted) -> bool) -> Option<Token> {
        self.sources.get_mut(&source)?.idle.oldest(can_go)
    }

    fn has_no_limit(&self) -> bool {
        self.most == usize::MAX
    }
}

/// A connection, and since when it was what it is noted for.
pub type Noted = (Instant, Token);

/// Connections that can be closed for others: the oldest first, those that cannot any more among them.
#[derive(Default)]
struct ByAge(VecDeque<Noted>);

impl ByAge {
    /// Remembers one of so many connections, and forgets those that cannot go any more before they outnumber the others:
    /// so much is noted before that happens again that each note costs a bounded time.
    fn note(&mut self, noted: Noted, conns: usize, can_go: impl Fn(Noted) -> bool) {
        self.0.push_back(noted);
        if self.0.len() > 2 * conns {
            self.0.retain(|noted| can_go(*noted));
        }
    }

    fn oldest(&mut self, can_go: impl Fn(Noted) -> bool) -> Option<Token> {
        while let Some(noted) = self.0.front() {
            if can_go(*noted) {
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
    use crate::serve::PerAddress;

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
        let (mut idle, start) = (ByAge::default(), Instant::now());
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

    /// A server with so many places, which does with them what the reactor does.
    struct Places {
        peers: Peers,
        all: usize,
        open: HashMap<Token, Place>,
        accepted: usize,
        now: Instant,
    }

    #[derive(Clone, Copy)]
    struct Place {
        source: Source,
        is_served: bool,
        idle_since: Option<Instant>,
    }

    impl Places {
        fn new(all: usize, now: Instant) -> Places {
            let peers = Peers::new(PerAddress::Half.most(all));
            Places { peers, all, open: HashMap::new(), accepted: 0, now }
        }

        fn can_go(open: &HashMap<Token, Place>, (since, token): Noted) -> bool {
            open.get(&token).is_some_and(|place| !place.is_served || place.idle_since == Some(since))
        }

        fn close(&mut self, token: Token) {
            let place = self.open.remove(&token).expect("it is open");
            self.peers.remove(place.source, place.is_served);
        }

        fn makes_room(&mut self) -> Option<Token> {
            self.peers.makes_room(|noted| Places::can_go(&self.open, noted))
        }

        /// What becomes of one who connects; `None` is waiting.
        fn connect(&mut self, source: Source) -> Option<Admission> {
            if self.open.len() == self.all && self.makes_room().is_none() {
                return None;
            }
            if self.peers.is_full(source)
                && let Some(token) = self.peers.oldest_idle(source, |noted| Places::can_go(&self.open, noted))
            {
                self.close(token);
            }
            let admission = match self.peers.admit(source, self.now) {
                Admission::Told if self.open.len() + 2 > self.all => Admission::TurnedAway,
                admission => admission,
            };
            if admission == Admission::TurnedAway {
                return Some(admission);
            }
            let is_served = admission == Admission::Served;
            while is_served && self.open.len() == self.all {
                let token = self.makes_room().expect("looked for before it was accepted");
                self.close(token);
            }
            self.accepted += 1;
            let token = Token(self.accepted);
            self.open.insert(token, Place { source, is_served, idle_since: None });
            self.peers.add(source, is_served);
            if !is_served {
                self.peers.note_told((self.now, token), self.open.len(), |noted| Places::can_go(&self.open, noted));
            }
            Some(admission)
        }

        /// One of the open connections is served and done with, or ends.
        fn happens_to_any(&mut self, random: &mut fastrand::Rng) {
            let mut tokens: Vec<Token> = self.open.keys().copied().collect();
            tokens.sort();
            let Some(token) = random.choice(tokens) else { return };
            match self.open.get_mut(&token) {
                Some(place) if place.is_served && random.bool() => {
                    place.idle_since = Some(self.now);
                    let (source, noted) = (place.source, (self.now, token));
                    let open = &self.open;
                    self.peers.note_idle(source, noted, open.len(), |noted| Places::can_go(open, noted));
                }
                _ => self.close(token),
            }
        }
    }

    /// Whatever one address does, another has a place at once: for every number of places of which it cannot have all.
    #[test]
    fn no_address_takes_all_places() {
        let [one, other] = ["192.0.2.7", "192.0.2.8"].map(source);
        let start = Instant::now();
        for all in 2..=80 {
            // Straight on, and with all that can happen in between.
            for seed in 0..60 {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut places = Places::new(all, start);
                for step in 0..random.usize(1..6 * all) {
                    places.now += Duration::from_millis(random.u64(0..400));
                    match random.u8(0..10) {
                        0..3 if seed > 0 => places.happens_to_any(&mut random),
                        _ => drop(places.connect(one)),
                    }
                    assert!(places.open.len() <= all, "{all} places, seed {seed}, step {step}");
                }
                let served = places.open.values().filter(|place| place.is_served).count();
                let told = places.open.len() - served;
                let admission = places.connect(other);
                let what = format!("{all} places, {served} served and {told} told of one address, seed {seed}");
                assert_eq!(admission, Some(Admission::Served), "{what}");
            }
        }
    }

    /// Those that are only told never have the last place, and go before all that are served.
    #[test]
    fn who_is_only_told_makes_room_first() {
        let [one, other] = ["192.0.2.7", "192.0.2.8"].map(source);
        let mut places = Places::new(34, Instant::now());
        let admissions: Vec<_> = (0..60).filter_map(|_| places.connect(one)).collect();
        assert_eq!(admissions.iter().filter(|admission| **admission == Admission::Served).count(), 17);
        assert_eq!(admissions.iter().filter(|admission| **admission == Admission::Told).count(), 16);
        assert_eq!(places.open.len(), 33, "the last place is free");
        let served: Vec<Token> = (1..=17).map(Token).collect();
        for token in &served {
            places.now += Duration::from_millis(1);
            places.open.get_mut(token).expect("it is open").idle_since = Some(places.now);
            let open = &places.open;
            places.peers.note_idle(one, (places.now, *token), open.len(), |noted| Places::can_go(open, noted));
        }
        for _ in 0..17 {
            assert_eq!(places.connect(other), Some(Admission::Served));
        }
        assert!(served.iter().all(|token| places.open.contains_key(token)), "idle, and served before");
        assert_eq!(places.open.len(), 34);
    }
}
