//! The arguments of `tallyman dev`; `app::dev` does it.

/// Arguments of `tallyman dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {}
