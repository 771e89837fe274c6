//! The `xfer` program: argv in, exit code and one error line out.

fn main() {}
