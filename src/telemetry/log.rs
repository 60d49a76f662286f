//! Where log lines go: standard error, as text on a terminal and as JSON otherwise. Called once, by the binary alone;
//! no room sets a subscriber of its own.

use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

/// Whether lines are JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

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
    #[error("log.level (or RUST_LOG) {0}")]
    Filter(#[from] BadFilter),
    /// Somebody else set a subscriber.
    #[error("logging was set up twice in this process: {0}")]
    Twice(String),
}

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error("is `{given}`: it {wanted}")]
pub struct BadFilter {
    given: String,
    /// What it must be.
    pub wanted: String,
}

/// The words for a level.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Checks a filter such as `info` or `tallyman=debug,warn`.
///
/// # Errors
/// When it is none, or would silence this program because a word is none of the levels.
pub fn check_level(level: &str) -> Result<(), BadFilter> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |wanted: String| BadFilter { given: level.to_owned(), wanted };
    let legal = "must be error, warn, info, debug, trace or a filter such as tallyman=debug,warn";
    // The library takes any other word for the name of a module, and then all other modules are silent.
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let directives = || level.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let names_none = |directive: &&str| !directive.contains(['=', '[']) && !is_level(directive);
    if let Some(word) = directives().find(names_none) {
        let given = if word == level.trim() { String::new() } else { format!(" (`{word}` is no level)") };
        return Err(bad(format!("{legal}{given}")));
    }
    let filter = EnvFilter::try_new(level).map_err(|error| bad(format!("{legal} ({error})")))?;
    let covers = |directive: &str| is_level(directive) || directive.starts_with(env!("CARGO_PKG_NAME"));
    if !directives().any(covers) {
        return Err(bad(format!("must also set a level for all other modules, such as `{level},warn`")));
    }
    Ok(filter)
}

/// Starts logging for the whole process. `RUST_LOG`, where set, takes the place of `level`.
///
/// # Errors
/// When the filter is none, or logging was started before.
pub fn init(level: &str, format: LogFormat) -> Result<(), LogError> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = filter(wanted.as_deref().unwrap_or(level))?;
    let terminal = std::io::stderr().is_terminal();
    // A line that cannot be written (its disk is full) is lost. To say so where it cannot be said would panic.
    let lines = tracing_subscriber::fmt().log_internal_errors(false);
    let lines = lines.with_env_filter(filter).with_writer(std::io::stderr);
    let started = match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            IS_JSON.store(true, Ordering::Relaxed);
            std::panic::set_hook(Box::new(|panic| fatal(&panic.to_string())));
            lines.json().flatten_event(true).try_init()
        }
        (LogFormat::Text, _) | (LogFormat::Auto, true) => lines.with_ansi(terminal).with_target(false).try_init(),
    };
    started.map_err(|error| LogError::Twice(error.to_string()))
}

/// The last line of a process, or of one of its threads: why it ends. It is JSON where all other lines are, and no filter keeps
/// it back.
pub fn fatal(message: &str) {
    let err = &mut std::io::stderr();
    // Where it goes may be full, or closed: it is the hook of panics, so it must not panic.
    let _ = if IS_JSON.load(Ordering::Relaxed) {
        writeln!(err, "{}", fatal_line(message))
    } else {
        writeln!(err, "tallyman: {message}")
    };
}

/// A line as the subscriber makes it of an error.
fn fatal_line(message: &str) -> serde_json::Value {
    let timestamp = jiff::Timestamp::now().to_string();
    serde_json::json!({"timestamp": timestamp, "level": "ERROR", "message": message, "target": "tallyman"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_line_of_many_lines_is_one_line_of_json() {
        let line = fatal_line("the topics are not as they must be:\n  \"usage\" is missing").to_string();
        assert_eq!(line.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["message"], "the topics are not as they must be:\n  \"usage\" is missing");
        assert_eq!(read["level"], "ERROR");
        assert!(read["timestamp"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    }

    #[test]
    fn a_filter_that_is_none_or_would_silence_the_program_is_told_with_the_right_words() {
        for good in ["info", " WARN", "off", "tallyman=debug,warn", "rdkafka=off,info", "tallyman::http=trace"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for (bad, told) in [
            ("loud", "must be error, warn, info, debug, trace or a filter"),
            ("tallyman=loud", "must be error, warn"),
            ("tallyman=debug,wran", "`wran` is no level"),
            ("tallyman", "must be error, warn"),
            ("tallyma=debug", "such as `tallyma=debug,warn`"),
            ("", "must also set a level"),
        ] {
            let error = check_level(bad).expect_err(bad).to_string();
            assert!(error.contains(told) && error.contains(&format!("`{bad}`")), "{bad}: {error}");
        }
    }
}
