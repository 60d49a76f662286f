//! Alerts: what of a changed decision a person should hear about.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::{Action, Level, LimitDecision};
use crate::domain::limits::scope::Scope;
use crate::domain::time::Timestamp;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// Another threshold.
    Threshold,
    /// Usage is blocked now.
    Blocked,
    /// Usage is allowed again.
    Unblocked,
    /// At the recent rate the allowance ends before its period.
    DepletionForecast,
}

impl AlertKind {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Threshold => "THRESHOLD",
            Self::Blocked => "BLOCKED",
            Self::Unblocked => "UNBLOCKED",
            Self::DepletionForecast => "DEPLETION_FORECAST",
        }
    }
}

/// An alert as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Scope key, kind and version: the same for the same decision.
    pub alert_id: String,
    /// Which scope.
    pub scope: Scope,
    /// What about.
    pub kind: AlertKind,
    /// The level reached now, percent.
    pub level: i32,
    /// The level before.
    pub previous_level: i32,
    /// Credits used in the period.
    pub used: CreditSum,
    /// The allowance, `None` when unlimited.
    pub allowance: Option<CreditSum>,
    /// Start of the period.
    pub period_start: Timestamp,
    /// When.
    pub at: Timestamp,
}

/// The alert that `decision` calls for after `previous` was in force; `None` when nobody needs to hear of it.
///
/// BLOCKED or UNBLOCKED if the action changed, else THRESHOLD if the level did, else the forecast if it is one of today; a
/// new period only says UNBLOCKED (CONTRACT.md, Meaning: Alerts). Without a previous level the org counts as allowed at level 0.
#[must_use]
pub fn alert_of(previous: Option<&Level>, decision: &LimitDecision) -> Option<Alert> {
    let level = &decision.level;
    let previous_action = previous.map_or(Action::Allow, |previous| previous.action);
    let previous_level = previous.map_or(0, |previous| previous.level);
    let same_period = previous.is_none_or(|previous| previous.period_start == level.period_start);
    let kind = match (previous_action, level.action) {
        (Action::Allow, Action::Block) => AlertKind::Blocked,
        (Action::Block, Action::Allow) => AlertKind::Unblocked,
        _ if same_period && previous_level != level.level => AlertKind::Threshold,
        _ if level.forecast_alerted_on > previous.and_then(|previous| previous.forecast_alerted_on) => {
            AlertKind::DepletionForecast
        }
        _ => return None,
    };
    Some(Alert {
        alert_id: format!("{}|{}|{}", decision.scope.key(), kind.name(), decision.version),
        scope: decision.scope.clone(),
        kind,
        level: level.level,
        previous_level,
        used: decision.figures.used,
        allowance: level.allowance,
        period_start: level.period_start,
        at: decision.decided_at,
    })
}
