//! The core of xfer, as a library so that tests, benchmarks and fuzz targets reach it.
//!
//! Imports run one way: `main` to [`cli`], from there to [`serve`] and [`get`], which know nothing of each other, and
//! from these to the rest. [`proto`] imports nothing of ours.
//!
//! - [`cli`]: the command line to a configuration.
//! - [`serve`]: a directory to whoever asks; one thread around an event loop.
//! - [`get`]: files from a server; verified, or not there at all.
//! - [`proto`]: bytes to values and back.
//! - [`net`]: the bytes of a connection, without waiting.
//! - [`root`]: a name to an open file beneath the shared directory.
//! - [`mod@file`]: a served file's version, and reads that do not wait.
//! - `folder`: the folder that holds a path.
//! - `pace`: how fast a peer moves bytes, and when that is too slow.
//! - `pages`: memory for blocks of bytes, aligned to pages.
//! - `pseudo_fs`: file systems that the kernel makes up, whose files are not served.
//! - [`signals`]: which signals may be caught, and which must not kill.
//! - `strangers`: what others may have put in the way of what is written.
//! - [`console`]: standard error, without waiting.
//! - [`stdio`]: standard input and output, to the last byte.
//! - [`logging`]: log lines to file and console.
//! - [`text`]: names, sizes and speeds as people see them.
//! - [`error`]: what a failed run tells its user.
//! - [`fuzzing`]: what must hold for any bytes that come from outside.

pub mod cli;
pub mod console;
pub mod error;
pub mod file;
mod folder;
// Not for programs: a crate of its own calls it (tests/fuzz), and that can only reach what is public.
#[doc(hidden)]
pub mod fuzzing;
pub mod get;
pub mod logging;
pub mod net;
mod pace;
mod pages;
pub mod proto;
mod pseudo_fs;
pub mod root;
pub mod serve;
pub mod signals;
#[cfg(test)]
mod simulation;
pub mod stdio;
mod strangers;
pub mod text;
