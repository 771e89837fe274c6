//! The `xfer` program: argv in, exit code and one error line out.

use std::process::ExitCode as Status;

use xfer::cli::{self, Command};
use xfer::console::print_line;
use xfer::error::{Error, ExitCode};

fn main() -> Status {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        print_line(&format!("xfer: internal error at {place}; please report this line"));
    }));
    let _ = xfer::signals::outlive();
    let exit = run().unwrap_or_else(|error| {
        print_line(&format!("xfer: {error}"));
        error.exit
    });
    Status::from(exit.number())
}

fn run() -> Result<ExitCode, Error> {
    match cli::parse(std::env::args_os().collect())? {
        Command::Serve(config) => xfer::serve::run(config),
        Command::Get(config) => xfer::get::run(config),
        Command::Print { text, failure } => xfer::stdio::print(&text, failure).map(|()| ExitCode::Done),
    }
}
