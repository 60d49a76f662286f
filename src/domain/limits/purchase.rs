//! Requests to sell an org another pack of credits (CONTRACT.md, PurchaseRequested and Meaning: Purchases). Each has an
//! ordinal within its period, the published level tells how many there were, and the next one waits for the answer to
//! the last: so none is sent twice, and an org that spends faster than packs come cannot run away.

use crate::domain::credits::{CreditSum, Credits};
use crate::domain::limits::decision::Level;
use crate::domain::limits::inputs::Inputs;
use crate::domain::limits::percent::level_reached;
use crate::domain::terms::book::OrgTerms;
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::purchase_id::purchase_id;
use crate::domain::terms::records::OrgStatus;
use crate::domain::time::Timestamp;

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

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which purchase of the period, from 1.
    pub ordinal: i32,
    /// How many credits.
    pub credits: Credits,
}

/// Whether the org's last request of the period waits for its answer: a grant in force, or a decline.
#[must_use]
pub fn is_pending(terms: Option<&OrgTerms>, org: &str, level: &Level, now: Timestamp) -> bool {
    let ordinal = level.purchases_requested;
    if ordinal == 0 || now >= level.period_end {
        return false;
    }
    let id = purchase_id(org, level.period_start, ordinal);
    let granted = |terms: &OrgTerms| terms.grants.get(&id).is_some_and(|grant| grant.in_force(now).is_some());
    !terms.is_some_and(|terms| granted(terms) || terms.declined.contains_key(&id))
}

/// The purchase that the org is to ask for now. `sent` is what was published of the same period.
pub(in crate::domain) fn asked(
    facts: &Inputs<'_>,
    in_force: InForce<'_>,
    allowance: CreditSum,
    sent: Option<&Level>,
) -> Option<Asked> {
    let InForce::Policy(_, policy) = in_force else { return None };
    let auto = policy.auto_purchase.as_ref()?;
    let requested = sent.map_or(0, |sent| sent.purchases_requested);
    let may = policy.status == OrgStatus::Active && requested < auto.max_packs_per_period;
    let due = || level_reached(&[auto.at_percent], facts.used, allowance) > 0;
    let answered = || sent.is_none_or(|sent| !is_pending(facts.terms, facts.org, sent, facts.now));
    (may && due() && answered()).then(|| Asked { ordinal: requested + 1, credits: auto.pack_credits })
}
