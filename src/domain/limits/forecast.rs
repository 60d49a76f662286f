//! The forecast alert: at its recent rate a scope spends its allowance before the period ends (CONTRACT.md, Alert). It has a
//! hysteresis, so that a rate about the line does not alert day after day, and goes out at most once a day. Pure; the
//! rate is measured by whoever asks `decide` or `budget`.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::{Action, Figures, Level};
use crate::domain::time::Timestamp;

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

/// The UTC day of the period's last forecast alert, as a new level is to carry it: today when one is to be sent. `previous`
/// is what was last published; `cleared` tells that the allowance would have lasted since that alert.
///
/// An alert waits for a decision that calls for no other one, since each published change has at most one. A new period
/// forgets the last one's alert, unless it is of today: there is at most one a day.
#[must_use]
pub fn alerted_on(
    (level, outlook): (&Level, Outlook),
    previous: Option<&Level>,
    cleared: bool,
    now: Timestamp,
) -> Option<i32> {
    let previous = previous?;
    let today = now.hour().day().0;
    if !is_same_period(previous, level) {
        return previous.forecast_alerted_on.filter(|day| *day >= today);
    }
    let quiet = previous.action == level.action && previous.level == level.level;
    let due = previous.forecast_alerted_on.is_none_or(|day| cleared && day < today);
    if outlook == Outlook::Depletes && quiet && due { Some(today) } else { previous.forecast_alerted_on }
}

/// What becomes of `cleared` (see [`alerted_on`]) when `level` is published after `previous`: an alert ends it, and a new
/// period owes nothing to the last one's. Of what is restored nothing is known.
#[must_use]
pub fn stays_cleared(cleared: bool, previous: Option<&Level>, level: &Level) -> bool {
    previous.is_some_and(|previous| {
        !is_same_period(previous, level) || cleared && previous.forecast_alerted_on == level.forecast_alerted_on
    })
}

fn is_same_period(one: &Level, other: &Level) -> bool {
    (one.period_start, one.period_end) == (other.period_start, other.period_end)
}
