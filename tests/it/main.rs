//! The tests of the real binary, on real sockets and real files.

mod harness;

mod old_client;
mod old_server;
mod scripted_server;

mod addresses;
mod attributes;
mod clock;
mod digests;
mod disks;
mod fakes;
mod fallback;
mod get_signals;
mod hostile;
mod journals;
mod kept_files;
mod kills;
mod lies;
mod lies2;
mod limits;
mod log_floods;
mod logs;
mod many_files;
mod mixtures;
mod names;
mod old_peers;
mod progress_json;
mod resume;
mod retries;
mod sandbox;
mod serve_signals;
mod small_files;
mod strangers;
mod streams;
mod targets;
mod transfer;
mod usage;
mod v2_changes;
mod v2_files;
mod v2_keep_alive;
mod v2_requests;
mod v2_waits;
