//! What every test needs: a scratch directory, the real binary as a child process, and failures that say everything.

pub mod content;
pub mod cores;
pub mod fuse;
pub mod logfile;
pub mod process;
pub mod program;
pub mod relay;
pub mod scratch;
pub mod screen;
pub mod server;
pub mod wait;
pub mod wire;
pub mod wire2;

pub use content::{content, md5_hex};
pub use program::{Outcome, Program, Running, get, plain_get};
pub use relay::{Cut, Plan, Relay};
pub use scratch::Scratch;
pub use screen::Screen;
pub use server::{Server, serve, serve_dir};
pub use wait::{PATIENCE, wait_for};
