//! An org's summary: its running period's usage from the rows, its terms, and what `domain::summary` makes of both.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use crate::domain::analysis::summary::{Summary, Usage, summarise};
use crate::domain::credits::CreditSum;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::scan::Question;
use crate::domain::cube::tally::Field;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::limits::walk::{Terms, Walk};
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::records::OrgPolicy;
use crate::domain::time::{Day, Hour};
use crate::domain::usage::dimension::Dimension;
use crate::store::StoreSnapshot;

use super::{Query, QueryError, Standing, overage};

/// An org's summary.
#[derive(Clone, Debug)]
pub struct SummaryAnswer {
    /// The org.
    pub org_id: String,
    /// The policy that binds it, its own or that of `limits.default`; `None` when no policy does.
    pub policy: Option<OrgPolicy>,
    /// The numbers of its running period.
    pub summary: Summary,
    /// The last published decision on the org itself.
    pub decision: Option<LimitDecision>,
    /// How fresh the answer is.
    pub standing: Standing,
}

impl Query {
    /// An org's running period in numbers.
    ///
    /// # Errors
    /// When the org is not known here or the store cannot be read.
    pub fn summary(&self, org: &str) -> Result<SummaryAnswer, QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        moment.known(&snapshot, org)?;
        let org_terms = snapshot.org_terms(org)?;
        let now = moment.now;
        let period = self.period(&org_terms.policies, now);
        let terms = in_force(Some(&org_terms.policies), &self.default, now);

        // Only the period's own hours of the first and last day count.
        let mut days: BTreeMap<Day, CreditSum> = BTreeMap::new();
        snapshot.totals(org, period.start..period.end, &mut |hour, tally| {
            *days.entry(hour.day()).or_default() += tally.credits();
            ControlFlow::Continue(())
        })?;
        let days: Vec<_> = days.into_iter().collect();
        let walk = Walk::load(Terms { org: &org_terms, default: &self.default }, now, |from, each| {
            overage::org_hours(&snapshot, org, from)
                .map(|hours| hours.into_iter().for_each(|(hour, credits)| each(hour, credits)))
        })?;

        let usage = Usage {
            terms,
            period,
            balance: walk.balance(),
            days: &days,
            active_products: active_products(&snapshot, org, period.start..period.end)?,
            now,
        };
        let policy = match terms {
            InForce::Policy(_, policy) => Some(policy.clone()),
            InForce::Nothing | InForce::Block => None,
        };
        let decision = snapshot.decisions(org)?.into_iter().find(|decision| decision.scope.budget.is_none());
        let standing = moment.standing(&snapshot)?;
        Ok(SummaryAnswer { org_id: org.to_owned(), policy, summary: summarise(&usage), decision, standing })
    }
}

/// How many products have events in the range.
fn active_products(snapshot: &StoreSnapshot<'_>, org: &str, range: Range<Hour>) -> Result<u64, QueryError> {
    let question = Question {
        group: vec![Dimension::Product],
        fields: FieldSet::of(&[Field::EVENTS]),
        ..Question::default()
    };
    let mut events: HashMap<Option<String>, i128> = HashMap::new();
    snapshot.sums(org, &question, range, |hour| hour.day().first_hour(), &mut |_, product, tally| {
        *events.entry(product[0].map(str::to_owned)).or_default() += tally.sum(Field::EVENTS);
        ControlFlow::Continue(())
    })?;
    Ok(events.values().filter(|events| **events > 0).count() as u64)
}
