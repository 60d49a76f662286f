//! The arguments of `tallyman gate`; `app::gate` does it.

use clap::Args;

/// Arguments of `tallyman gate`: there are none, `[gate]` of the config says it all.
#[derive(Args, Debug)]
pub struct GateArgs {}
