//! How much the log says of peers that are given little or nothing: so much for each connection, and so much for all
//! together.
//!
//! A refused request of version 2 has 4 bytes, and a connection costs its peer 50 µs: with a line for each, one peer
//! wrote 123 MB of log in a second. What has no line is counted, and the count has one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Refusals of one connection that have a line each; the closing line counts the others. (OpenSSH cuts off after
/// MaxAuthTries 6; fail2ban bans after maxretry 5: whoever reads the log has seen enough.)
const REFUSALS_MAX: u32 = 10;

/// What a line takes of the time that all lines of its kind have: 100 a second in the long run, 1 GB a day at most for usual
/// names, and 15 GB for the longest that are shown. No server that is not attacked comes near that.
const LINE_TIME: Duration = Duration::from_millis(10);

/// How far refusals may be ahead of it: 10,000 lines at once. (systemd-journald: RateLimitBurst=10000.)
const BURST_TIME: Duration = Duration::from_secs(100);

/// How far small replies may be: 100,000 lines at once, some 15 MB, so that a run for that many files has them all. With
/// a line for each, one peer that asked for the size of a file again and again wrote 70 MB of log in a second.
const REPLIES_BURST_TIME: Duration = Duration::from_secs(1000);

/// Bytes of a file from which on a reply has its line whatever the others had: the log is then less than a 5,000th of what
/// goes over the line.
pub const LOGGED_FROM: u64 = 1 << 20;

/// How often the log is told of connections that share a line.
const SHARED_PAUSE: Duration = Duration::from_secs(10);

/// The lines about peers that are given little or nothing, of all connections.
pub struct LogLimit {
    /// When the lines so far about refusals and openings will have had their time.
    used_until: Instant,
    /// The same of those about small replies, and the connections that bring them.
    replies_until: Instant,
}

impl LogLimit {
    /// Nothing is logged yet.
    pub fn new(now: Instant) -> LogLimit {
        LogLimit { used_until: now, replies_until: now }
    }

    /// Whether there may be one more line.
    pub fn take(&mut self, now: Instant) -> bool {
        take(&mut self.used_until, BURST_TIME, now)
    }

    /// Whether there may be one more line about a reply that brings so many bytes of a file.
    pub fn take_reply(&mut self, bytes: u64, now: Instant) -> bool {
        bytes >= LOGGED_FROM || take(&mut self.replies_until, REPLIES_BURST_TIME, now)
    }
}

fn take(until: &mut Instant, burst: Duration, now: Instant) -> bool {
    let used_until = (*until).max(now);
    let may = used_until.duration_since(now) < burst;
    if may {
        *until = used_until + LINE_TIME;
    }
    may
}

/// The refusals of one connection, and its replies without a line.
#[derive(Default)]
pub struct Refusals {
    logged: u32,
    /// Replies without a line of their own; no more are counted than fit.
    pub unlogged_replies: u32,
    /// Refusals without a line of their own.
    pub unlogged: u64,
}

impl Refusals {
    /// Counts one more; whether it has a line.
    pub fn log_one_more(&mut self, limit: &mut LogLimit, now: Instant) -> bool {
        let may = self.logged < REFUSALS_MAX && limit.take(now);
        match may {
            true => self.logged += 1,
            false => self.unlogged += 1,
        }
        may
    }
}

/// Connections that share a line: the first one has it at once, and those of the next ten seconds the next.
#[derive(Default)]
pub struct Shared {
    /// Those that the log has not been told of.
    count: u64,
    last: Option<SocketAddr>,
    /// When it is told next, while there may be something to tell.
    due: Option<Instant>,
}

impl Shared {
    /// Counts a connection of this peer.
    pub fn add(&mut self, peer: SocketAddr, now: Instant) {
        self.count += 1;
        self.last = Some(peer);
        self.due.get_or_insert(now);
    }

    /// When to look again.
    pub fn next_at(&self) -> Option<Instant> {
        self.due
    }

    /// How many the log is to be told of now, and the last of them.
    pub fn take_due(&mut self, now: Instant) -> Option<(u64, SocketAddr)> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = (self.count > 0).then(|| now + SHARED_PAUSE);
        self.take()
    }

    /// The same, whenever it is due.
    pub fn take(&mut self) -> Option<(u64, SocketAddr)> {
        self.last.take().map(|last| (std::mem::take(&mut self.count), last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut limit = LogLimit::new(start);
        let taken = |limit: &mut LogLimit, now| (0..20_000).filter(|_| limit.take(now)).count();
        assert_eq!(taken(&mut limit, start), 10_000);
        assert_eq!(taken(&mut limit, start + Duration::from_secs(1)), 100);
        assert_eq!(taken(&mut limit, start + Duration::from_secs(3)), 200);
        assert_eq!(taken(&mut limit, start + Duration::from_secs(86_400)), 10_000, "what is not used is not saved up");
    }

    #[test]
    fn small_replies_have_a_larger_burst_and_large_ones_no_limit() {
        let start = Instant::now();
        let mut limit = LogLimit::new(start);
        assert_eq!((0..200_000).filter(|_| limit.take_reply(LOGGED_FROM - 1, start)).count(), 100_000);
        assert!((0..1000).all(|_| limit.take_reply(LOGGED_FROM, start)));
        assert!(limit.take(start), "refusals have their own");
    }

    #[test]
    fn a_connection_has_ten_lines_and_a_count() {
        let now = Instant::now();
        let (mut limit, mut refusals) = (LogLimit::new(now), Refusals::default());
        let logged = (0..1000).filter(|_| refusals.log_one_more(&mut limit, now)).count();
        assert_eq!((logged, refusals.unlogged), (10, 990));
        while limit.take(now) {}
        let mut refusals = Refusals::default();
        assert!(!refusals.log_one_more(&mut limit, now), "others have had all the lines");
        assert_eq!(refusals.unlogged, 1);
    }

    #[test]
    fn connections_share_a_line_at_once_and_every_ten_seconds() {
        let (mut shared, start) = (Shared::default(), Instant::now());
        let peer = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!((shared.next_at(), shared.take_due(start)), (None, None));
        shared.add(peer(1), start);
        assert_eq!(shared.take_due(start), Some((1, peer(1))));
        (2..5).for_each(|port| shared.add(peer(port), start));
        assert_eq!(shared.take_due(start + SHARED_PAUSE - LINE_TIME), None);
        assert_eq!(shared.next_at(), Some(start + SHARED_PAUSE));
        assert_eq!(shared.take_due(start + SHARED_PAUSE), Some((3, peer(4))));
        assert_eq!(shared.take_due(start + 2 * SHARED_PAUSE), None);
        assert_eq!(shared.next_at(), None, "nothing to look for");
        shared.add(peer(5), start + 3 * SHARED_PAUSE);
        assert_eq!(shared.take(), Some((1, peer(5))), "the server ends");
    }
}
