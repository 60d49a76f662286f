//! The arguments of `tallyman run`; `app::run` does it.

use clap::{Args, ValueEnum};

/// Arguments of `tallyman run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Go on although the committed offset is missing, was reset, or is of another log, policies or decisions topic: `end` if
    /// all that the log holds was published, `store` if what follows the store's position (without a store: all) was not.
    /// For one start: leave it out once the instance is ready.
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
