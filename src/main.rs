//! The thin binary.

use std::process::ExitCode;

use tallyman::app::{bench, dev, gate, run};
use tallyman::cli::{self, Instance};
use tallyman::memory;

fn main() -> ExitCode {
    memory::set_up();
    cli::main(&Instance { run: run::run, dev: dev::dev, gate: gate::gate, bench: bench::bench })
}
