//! What the server is doing, for SIGUSR1: counts, and the transfers that have run for the longest time.

use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::conn::{Activity, Conn};
use crate::net::Transport;

/// Transfers that have a line each; the others are counted. They fit a screen or two, and with 10,000 connections all of
/// it takes some 2 ms, most of that for a look at each.
const SHOWN_MAX: usize = 100;

/// Addresses that are named beside the number of the other transfers.
const ADDRESSES_MAX: usize = 3;

/// What all connections are doing.
#[derive(Default)]
pub struct Status {
    sending: usize,
    hashing: usize,
    idle: usize,
    closing: usize,
    /// Bytes of files that these connections were sent.
    pub bytes: u64,
    /// The transfers that have run for the longest time, by when they were asked for, with their connections; at most
    /// [`SHOWN_MAX`], the youngest on top.
    longest: BinaryHeap<(Instant, usize)>,
    /// Transfers of each address, but for those.
    others: HashMap<IpAddr, usize>,
}

impl Status {
    /// No connections yet, and so many bytes that others were sent.
    pub fn of_none(bytes: u64) -> Status {
        Status { bytes, ..Status::default() }
    }

    /// Takes one more connection, which has this key.
    pub fn add<T: Transport>(&mut self, key: usize, conn: &Conn<T>) {
        self.bytes += conn.bytes;
        match conn.activity() {
            Activity::Sending => self.sending += 1,
            Activity::Hashing => self.hashing += 1,
            Activity::Idle => self.idle += 1,
            Activity::Closing => self.closing += 1,
        }
        if let Some(asked) = conn.asked() {
            self.longest.push((asked, key));
            *self.others.entry(conn.peer().ip()).or_default() += 1;
        }
        if self.longest.len() > SHOWN_MAX {
            self.longest.pop();
        }
    }

    /// `2 sending, 1 hashing, 1 idle, 0 closing`
    pub fn activities(&self) -> String {
        let Status { sending, hashing, idle, closing, .. } = self;
        format!("{sending} sending, {hashing} hashing, {idle} idle, {closing} closing")
    }

    /// The connections of the transfers that have run for the longest time, the oldest first, and a line about the others,
    /// if there are any. `peer` tells the address of a connection.
    pub fn transfers(self, peer: impl Fn(usize) -> Option<IpAddr>) -> (Vec<usize>, Option<String>) {
        let shown: Vec<usize> = self.longest.into_sorted_vec().into_iter().map(|(_, key)| key).collect();
        let mut others = self.others;
        for address in shown.iter().filter_map(|key| peer(*key)) {
            others.entry(address).and_modify(|count| *count = count.saturating_sub(1));
        }
        others.retain(|_, count| *count > 0);
        let more: usize = others.values().sum();
        let mut others: Vec<(IpAddr, usize)> = others.into_iter().collect();
        others.sort_by_key(|(address, count)| (std::cmp::Reverse(*count), *address));
        let mut parts: Vec<String> =
            others.iter().take(ADDRESSES_MAX).map(|(address, count)| format!("{count} to {address}")).collect();
        match others.iter().skip(ADDRESSES_MAX).map(|(_, count)| count).sum() {
            0 => {}
            rest => parts.push(format!("{rest} to other addresses")),
        }
        (shown, (more > 0).then(|| format!("and {more} more: {}", parts.join(", "))))
    }
}
