//! The forecast alert: at its recent rate an org spends its allowance before the period ends (CONTRACT.md, Alert). It has a
//! hysteresis, so that a rate about the line does not alert day after day, and goes out at most once a day. Pure; the
//! rate is measured by whoever asks `decide`.

use super::credits::CreditSum;
use super::decision::{Action, Figures, Level};
use super::time::Timestamp;

/// An alert is due when the allowance is spent within so many percent of the time that is left...
const RAISED_AT_PERCENT: i128 = 90;
/// ... and another one only after it would have lasted for so many.
const CLEARED_AT_PERCENT: i128 = 100;

/// What the recent rate makes of the allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It lasts, or there is nothing to foretell: it is spent already, or has no end.
    Lasts,
    /// It is about the line.
    Unsure,
    /// It is spent well before the period ends.
    Depletes,
}

/// The outlook of a level and its figures at `now`.
#[must_use]
pub fn outlook(level: &Level, figures: &Figures, now: Timestamp) -> Outlook {
    let Some(remaining) = figures.remaining.filter(|remaining| *remaining > CreditSum::ZERO) else {
        return Outlook::Lasts;
    };
    let seconds = i128::from(level.period_end.micros_since(now)) / 1_000_000;
    let spent_within = |percent| remaining.micros() * 100 <= figures.micros_per_second * seconds * percent;
    if level.action == Action::Allow && spent_within(RAISED_AT_PERCENT) {
        Outlook::Depletes
    } else if spent_within(CLEARED_AT_PERCENT) {
        Outlook::Unsure
    } else {
        Outlook::Lasts
    }
}

/// The UTC day of the period's last forecast alert, as a new level is to carry it: today when one is to be sent. `sent`
/// is what was published of the same period; `cleared` tells that the allowance would have lasted since then.
///
/// An alert waits for a decision that calls for no other one, since each published change has at most one.
#[must_use]
pub fn alerted_on(
    (level, outlook): (&Level, Outlook),
    sent: Option<&Level>,
    cleared: bool,
    now: Timestamp,
) -> Option<i32> {
    let sent = sent?;
    let today = now.hour().day().0;
    let quiet = sent.action == level.action && sent.level == level.level;
    let due = sent.forecast_alerted_on.is_none_or(|day| cleared && day < today);
    if outlook == Outlook::Depletes && quiet && due { Some(today) } else { sent.forecast_alerted_on }
}
