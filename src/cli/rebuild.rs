//! `tallyman rebuild`: deletes stores, so that the next `run` folds the log anew (Law 1: a store is a cache). Committed
//! offsets and decisions stay: what was published is not published again.

use std::io::{BufRead as _, IsTerminal as _, Write};

use super::Usage;
use crate::config::Settings;
use crate::store;

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
        store::destroy(dir, *partition)?;
        writeln!(out, "partition {partition}: its store is deleted; the next run folds its log anew")?;
    }
    Ok(())
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
