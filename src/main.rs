//! The thin binary.

use std::process::ExitCode;

use tallyman::app::{dev, run};
use tallyman::cli::{self, Instance};

fn main() -> ExitCode {
    cli::main(Instance { run: run::run, dev: dev::dev })
}
