//! The tests of the real binary, on real sockets and real files.

mod harness;

mod old_client;
mod old_server;
mod scripted_server;

mod clock;
mod fakes;
mod lies;
mod names;
mod old_peers;
mod retries;
mod strangers;
mod targets;
mod transfer;
