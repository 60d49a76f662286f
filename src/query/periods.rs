//! An org's periods, the running one first: what each allowed and what was used of it. One that is over is told as of
//! its last instant, with what came late and by the terms in force then, also those that were dated back into it; terms
//! that hold from a later instant never change it.

use crate::domain::credits::CreditSum;
use crate::domain::limits::walk::{Balance, Terms, last_instant, segments};
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::Period;
use crate::domain::time::{Hour, Timestamp};

use super::overage::org_hours;
use super::{Query, QueryError, Standing, page};

/// One period.
#[derive(Clone, Debug)]
pub struct PeriodEntry {
    /// Its hours.
    pub period: Period,
    /// The plan in force at its last instant, or now.
    pub plan: Option<String>,
    /// What was used, and what that took from base and grants.
    pub balance: Balance,
}

/// One page of an org's periods.
#[derive(Clone, Debug)]
pub struct PeriodPage {
    /// Latest first.
    pub periods: Vec<PeriodEntry>,
    /// What gives the next page; empty at the end.
    pub next_page_token: String,
    /// How fresh the answer is.
    pub standing: Standing,
}

impl Query {
    /// A page of an org's periods, from the running one back to that of its first usage, after the one that
    /// `page_token` names.
    ///
    /// # Errors
    /// When the org is not known here, on a token that no answer gave, or when the store cannot be read.
    pub fn periods(
        &self,
        org: &str,
        page_size: usize,
        page_token: Option<&str>,
    ) -> Result<PeriodPage, QueryError> {
        let before: Option<i32> = page_token.map(page::read).transpose()?;
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        moment.known(&snapshot, org)?;
        let org_terms = snapshot.org_terms(org)?;
        let terms = Terms { org: &org_terms, default: &self.default };
        let hours = org_hours(&snapshot, org, Hour(i32::MIN))?;

        let running = terms.period(moment.now);
        let first = hours.first().map_or(running.start, |(hour, _)| *hour).min(running.start);
        let mut period = match before {
            None => running,
            Some(start) if Hour(start) > first && Hour(start) <= running.start => {
                terms.period(Hour(start).start().plus_micros(-1))
            }
            Some(_) => return Err(QueryError::parameter("page_token", "no period comes before; ask without it")),
        };
        let mut periods = Vec::new();
        while periods.len() < page_size {
            periods.push(self.entry(terms, period, moment.now, &hours));
            if period.start <= first {
                break;
            }
            period = terms.period(period.starts_at().plus_micros(-1));
        }
        let next_page_token = match periods.last() {
            Some(last) if last.period.start > first => page::write(&last.period.start.0)?,
            _ => String::new(),
        };
        Ok(PeriodPage { periods, next_page_token, standing: moment.standing(&snapshot)? })
    }

    fn entry(&self, terms: Terms<'_>, period: Period, now: Timestamp, hours: &[(Hour, CreditSum)]) -> PeriodEntry {
        let at = now.min(last_instant(period));
        let plan = match in_force(Some(&terms.org.policies), &self.default, at) {
            InForce::Policy(_, policy) => Some(policy.plan.clone()),
            InForce::Nothing | InForce::Block => None,
        };
        let (balance, _) = segments(terms, at, hours);
        PeriodEntry { period, plan, balance }
    }
}
