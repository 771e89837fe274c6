//! The options of a server that differ from the defaults, as a person would type them.

use std::time::Duration;

use super::{Limits, PerAddress, ServeConfig};

/// These options with their values; empty if all is as it is by default. Address, port and log have lines of their own.
pub fn changed(config: &ServeConfig) -> String {
    let (limits, default) = (&config.limits, Limits::default());
    let seconds = |name: &str, time: Duration, default: Duration| {
        (time != default).then(|| format!("{name} {}", time.as_secs_f64()))
    };
    let per_address = match limits.max_conns_per_ip {
        PerAddress::Half => None,
        PerAddress::All => Some(0),
        PerAddress::Most(most) => Some(most),
    };
    let changed = [
        config.hidden.then(|| String::from("--hidden")),
        (!config.sandbox).then(|| String::from("--no-sandbox")),
        (limits.max_conns != default.max_conns).then(|| format!("--max-conns {}", limits.max_conns)),
        per_address.map(|most| format!("--max-conns-per-ip {most}")),
        seconds("--request-timeout", limits.request_timeout, default.request_timeout),
        seconds("--idle-timeout", limits.idle_timeout, default.idle_timeout),
        (limits.min_rate != default.min_rate).then(|| format!("--min-rate {}", limits.min_rate)),
        seconds("--drain", limits.drain, default.drain),
    ];
    changed.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
