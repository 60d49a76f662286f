//! Where log lines go: standard error, as text on a terminal and as JSON otherwise. Called once, by the binary alone;
//! no room sets a subscriber of its own.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("log.level (or RUST_LOG) is `{0}`: {1}; use error, warn, info, debug, trace or module=level,...")]
    Filter(String, String),
    /// Somebody else set a subscriber.
    #[error("logging was set up twice in this process: {0}")]
    Twice(String),
}

/// Checks a filter such as `info` or `tallyman=debug,warn`.
///
/// # Errors
/// [`LogError::Filter`] when it is none.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|error| LogError::Filter(level.to_owned(), error.to_string()))
}

/// Starts logging for the whole process. `RUST_LOG`, where set, takes the place of `level`.
///
/// # Errors
/// When the filter is none, or logging was started before.
pub fn init(level: &str, format: LogFormat) -> Result<(), LogError> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = filter(wanted.as_deref().unwrap_or(level))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => lines.json().flatten_event(true).try_init(),
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).with_target(false).try_init(),
    };
    started.map_err(|error| LogError::Twice(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_told() {
        assert!(check_level("info").is_ok());
        assert!(check_level("tallyman=debug,warn").is_ok());
        let error = check_level("tallyman=loud").expect_err("no level");
        assert!(error.to_string().contains("tallyman=loud"), "{error}");
    }
}
