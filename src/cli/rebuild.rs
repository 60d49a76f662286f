//! `tallyman rebuild`: deletes stores, so that the next `run` folds the log anew (Law 1: a store is a cache). Committed
//! offsets and decisions stay: what was published is not published again.

use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Usage;
use crate::config::Settings;
use crate::store::{self, StoreError};

/// How long a store may be in use.
const IN_USE_MAX: Duration = Duration::from_secs(4);
/// RocksDB's lock can only be tried.
const AGAIN: Duration = Duration::from_millis(50);

/// Arguments of `tallyman rebuild`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RebuildArgs {
    /// Only this partition's store; several with commas [default: all below store.dir]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(settings: &Settings, args: &RebuildArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let dir = &settings.store.dir;
    let stored = store::partitions(dir)?;
    let chosen = if args.partition.is_empty() { stored.clone() } else { args.partition.clone() };
    if let Some(unknown) = chosen.iter().find(|partition| !stored.contains(partition)) {
        let what = format!("there is no store of partition {unknown} in {}; there are {stored:?}", dir.display());
        return Err(Usage(what).into());
    }
    if chosen.is_empty() {
        writeln!(out, "There is no store in {}: the next run folds the log anyway.", dir.display())?;
        return Ok(());
    }
    if !args.yes && !agreed(&format!("Delete the stores of partitions {chosen:?} in {}?", dir.display()))? {
        anyhow::bail!("nothing was deleted");
    }
    for partition in &chosen {
        destroy(dir, *partition)?;
        writeln!(out, "partition {partition}: its store is deleted; the next run folds its log anew")?;
    }
    Ok(())
}

/// A running instance whose partition is halted opens the store for a moment every few seconds: that moment is waited out.
fn destroy(dir: &Path, partition: i32) -> Result<(), StoreError> {
    let deadline = Instant::now() + IN_USE_MAX;
    loop {
        match store::destroy(dir, partition) {
            Err(StoreError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(AGAIN),
            done => return done,
        }
    }
}

fn agreed(question: &str) -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Usage("there is no terminal to ask on: say --yes to delete the stores".to_owned()).into());
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
