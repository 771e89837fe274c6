//! The tests of the real binary, on real sockets and real files.

mod harness;

mod old_client;
mod old_server;
mod scripted_server;

mod clock;
mod digests;
mod disks;
mod fakes;
mod get_signals;
mod lies;
mod limits;
mod logs;
mod names;
mod old_peers;
mod retries;
mod serve_signals;
mod strangers;
mod targets;
mod transfer;
mod usage;
mod v2_changes;
mod v2_files;
mod v2_keep_alive;
mod v2_requests;
mod v2_waits;
