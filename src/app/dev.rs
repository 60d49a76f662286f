//! What `tallyman dev` does: an embedded broker, sample organisations and live traffic, nothing to install.

use super::AppError;
use crate::cli::dev::DevArgs;
use crate::config::Settings;

/// Runs until Ctrl-C.
///
/// # Errors
/// When the embedded broker or the instance cannot start.
pub fn dev(_settings: &Settings, _args: &DevArgs) -> Result<(), AppError> {
    Err(AppError::Drain)
}
