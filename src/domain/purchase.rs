//! Requests to sell an org another pack of credits (CONTRACT.md, PurchaseRequested). What asks for one is `decide`.

use super::credits::Credits;
use super::time::Timestamp;

/// A purchase request as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseRequested {
    /// Org, period start and ordinal: the same for the same request.
    pub purchase_id: String,
    /// For whom.
    pub org_id: String,
    /// Start of the period.
    pub period_start: Timestamp,
    /// Which purchase of the period, from 1.
    pub ordinal: i32,
    /// How many credits.
    pub credits: Credits,
    /// When it was asked for.
    pub requested_at: Timestamp,
}
