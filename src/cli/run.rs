//! The arguments of `tallyman run`; `app::run` does it.

use clap::{Args, ValueEnum};

/// Arguments of `tallyman run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Go on although the group has no committed offset beside a store or decisions: `store` if what follows the
    /// store's position was never published, `end` if all that the log holds was.
    #[arg(long, value_enum)]
    pub adopt_from: Option<Adopt>,
}

/// `--adopt-from`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Adopt {
    /// Publish what follows the store's position.
    Store,
    /// Publish only what follows the log's end.
    End,
}
