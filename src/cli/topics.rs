//! `tallyman topics create`: makes the topics that are missing, tells what exists and how it differs. It never changes
//! a topic that is there.

use std::io::Write;

use crate::config::Settings;
use crate::kafka::{TopicOutcome, create_topics};

/// `tallyman topics ...`.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum TopicsCommand {
    /// Make those that are missing; tell how the others differ from what they must be
    Create,
}

pub(super) fn run(settings: &Settings, command: TopicsCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let TopicsCommand::Create = command;
    let reports = create_topics(&settings.kafka)?;
    let (mut failed, mut differ) = (0, 0);
    for report in &reports {
        match &report.outcome {
            TopicOutcome::Created => writeln!(out, "{}: created", report.topic)?,
            TopicOutcome::Exists(problems) if problems.is_empty() => writeln!(out, "{}: exists", report.topic)?,
            TopicOutcome::Exists(problems) => {
                differ += 1;
                writeln!(out, "{}: exists, is left as it is, and differs:", report.topic)?;
                for problem in problems {
                    writeln!(out, "  {problem}")?;
                }
            }
            TopicOutcome::Failed(reason) => {
                failed += 1;
                writeln!(out, "{}: not created: {reason}", report.topic)?;
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} topics could not be made (above)", reports.len());
    }
    if differ > 0 && !settings.accept_topic_settings {
        anyhow::bail!("`tallyman run` will refuse these topics: {differ} of {} differ (above)", reports.len());
    }
    Ok(())
}
