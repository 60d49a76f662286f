//! The thin binary.

use std::process::ExitCode;

use tallyman::app::{bench, dev, gate, run};
use tallyman::cli::{self, Instance};

/// Buffers of a flush come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(&Instance { run: run::run, dev: dev::dev, gate: gate::gate, bench: bench::bench })
}
