//! `tallyman dev`: everything in one process, nothing to install.

use crate::config::Settings;

/// Arguments of `tallyman dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {}

/// Runs until Ctrl-C.
///
/// # Errors
/// Always, until it is wired.
pub fn run(_settings: &Settings, _args: &DevArgs) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
