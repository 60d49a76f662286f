//! The command line: arguments in, one command done, an exit code out. Each command has a file of its own; this one
//! only reads the arguments and the settings and says how it went.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or config error. Answers go to standard output, all else to standard error.

mod apply;
pub mod bench;
mod catalogue;
mod check_config;
pub mod dev;
mod exact;
mod explain;
pub mod gate;
pub mod generator;
mod policy;
mod produce;
pub mod query;
mod rebuild;
pub mod run;
mod simulate;
mod summary;
pub mod table;
mod topics;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, ConfigError, Effective, Origin, Settings};
use crate::telemetry::log::{self, LogFormat};

/// Exact views, limits and decisions for AI credits, from a Kafka log
#[derive(Debug, Parser)]
#[command(name = "tallyman", version, max_term_width = 100)]
struct Cli {
    /// The config file [default: the one that TALLYMAN_CONFIG names, else none]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fold usage and publish decisions, until SIGTERM
    Run(run::RunArgs),
    /// Watch it work: an embedded broker, sample organisations and live traffic, nothing to install
    Dev(dev::DevArgs),
    /// Answer a gateway's checks from the decisions: nginx auth_request, Envoy ext_authz
    Gate(gate::GateArgs),
    /// Make the topics
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Write or read what organisations may use
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Write believable usage: a load generator
    Produce(produce::ProduceArgs),
    /// Ask a running instance about an organisation
    Query(query::QueryArgs),
    /// Why an organisation is blocked or allowed, since when, and what would unblock it
    Explain(explain::ExplainArgs),
    /// What other terms would have made of an organisation's usage, beside what was
    Simulate(simulate::SimulateArgs),
    /// Show the settings in effect and where each came from
    CheckConfig(check_config::CheckConfigArgs),
    /// Measure this machine and broker: drain, latency, queries
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Delete stores, so that the next run folds the log anew
    Rebuild(rebuild::RebuildArgs),
}

/// A wrong argument or document: the process ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The commands that run an instance: this room names them, `app` does them.
#[derive(Clone, Copy, Debug)]
pub struct Instance<E> {
    /// `tallyman run`.
    pub run: fn(&Settings, &run::RunArgs) -> Result<(), E>,
    /// `tallyman dev`.
    pub dev: fn(&Settings, &dev::DevArgs) -> Result<(), E>,
    /// `tallyman bench`.
    pub bench: fn(&Settings, &bench::BenchCommand) -> Result<(), E>,
    /// `tallyman gate`.
    pub gate: fn(&Settings, &gate::GateArgs) -> Result<(), E>,
}

/// Reads the process's arguments, does what they say and tells how it went.
#[must_use]
pub fn main<E: std::error::Error + Send + Sync + 'static>(instance: &Instance<E>) -> ExitCode {
    let cli = Cli::parse();
    match done(cli, instance) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(&error.to_string());
            ExitCode::from(exit_code(&error))
        }
    }
}

fn done<E: std::error::Error + Send + Sync + 'static>(cli: Cli, instance: &Instance<E>) -> anyhow::Result<()> {
    let settings = config::load(cli.config.as_deref())?;
    log::init(log_level(&cli.command, &settings), log_format(&cli.command, &settings))?;
    let out = &mut io::stdout().lock();
    match cli.command {
        Command::Run(args) => {
            // What lacks in the settings is a config error here too, not a failure to start.
            settings.default_terms()?;
            Ok((instance.run)(&settings, &args)?)
        }
        Command::Dev(args) => Ok((instance.dev)(&settings, &args)?),
        Command::Bench(command) => Ok((instance.bench)(&settings, &command)?),
        Command::Gate(args) => Ok((instance.gate)(&settings, &args)?),
        Command::Topics(command) => topics::run(&settings, command, out),
        Command::Policy(command) => policy::run(&settings, &command, out),
        Command::Produce(args) => produce::run(&settings, &args, out),
        Command::Query(args) => Ok(query::run(&args, &base_url(&settings), out)?),
        Command::Explain(args) => explain::run(&settings, &args, out),
        Command::Simulate(args) => simulate::run(&settings, &args, out),
        Command::CheckConfig(args) => check_config::run(&settings, &args, out),
        Command::Rebuild(args) => rebuild::run(&settings, &args, out),
    }
}

/// `run` and `gate` tell what they do, and so does `dev` where a level was asked for: else its own words shall not drown. From the
/// other commands a person hears what went wrong.
fn log_level<'a>(command: &Command, settings: &'a Settings) -> &'a str {
    let asked = |setting: &Effective| setting.key == "log.level" && setting.origin != Origin::Default;
    match command {
        Command::Run(_) | Command::Gate(_) => &settings.log.level,
        Command::Dev(_) if settings.effective.iter().any(asked) => &settings.log.level,
        _ => "warn",
    }
}

/// Lines of `run` and `gate` are read by machines unless there is a terminal, those of the other commands by people.
fn log_format(command: &Command, settings: &Settings) -> LogFormat {
    match (command, settings.log.format) {
        (Command::Run(_) | Command::Gate(_), format) => format,
        (_, LogFormat::Auto) => LogFormat::Text,
        (_, format) => format,
    }
}

/// Where a running instance of these settings answers.
fn base_url(settings: &Settings) -> String {
    format!("http://{}", settings.http.listen)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let wrong_usage = error.is::<ConfigError>()
        || error.is::<log::LogError>()
        || error.is::<Usage>()
        || error.is::<apply::Refused>();
    match error.downcast_ref::<query::AskError>() {
        Some(error) => error.exit_code(),
        None if wrong_usage => 2,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_of_every_command_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_ends_with_2_and_failure_with_1() {
        assert_eq!(exit_code(&Usage("x".into()).into()), 2);
        assert_eq!(exit_code(&ConfigError::NoDefaultLimits.into()), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("broker gone")), 1);
    }
}
