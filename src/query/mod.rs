//! Questions over the stores of this instance: what HTTP, and over it the command line, ask. Read only: it never
//! writes a row, never asks Kafka, and never decides what is published.
//!
//! The way of a question: `params` (text -> checked) -> the `bucket`s of the range -> `grid` (totals or facts -> sums) -> `usage` (order, `page`) of `measure`s. What terms make of
//! usage comes from `domain::walk`: `summary`, `periods`, `overage`. The other questions are in this file.

pub mod bucket;
mod csv;
mod error;
mod explain;
mod explain_scopes;
mod grid;
mod measure;
mod overage;
pub mod page;
pub mod params;
mod periods;
mod simulate;
mod summary;
mod terms;
mod usage;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use csv::safe_cell;
pub use error::QueryError;
pub use explain::{ExplainParams, ExplainedDay, Explanation};
pub use grid::ROWS_MAX;
pub use measure::{Measure, Value};
pub use periods::{PeriodEntry, PeriodPage};
pub use simulate::{SimulateAnswer, SimulateParams, SimulatedBudgets, check_range};
pub use summary::SummaryAnswer;
pub use terms::TermsAnswer;
pub use usage::{UsageAnswer, UsageRow};

pub use crate::codec::{FieldChange, Fields, decision_fields, differences, terms_fields};

use crate::clock::Clock;
use crate::domain::id::OrgId;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::terms::book::PolicyHistory;
use crate::domain::terms::period::{Period, period_at};
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::murmur2::partition_of;
use crate::store::{Shelf, StoreReader, StoreSnapshot};

pub use params::UsageParams;
use usage::PlannedUsage;

/// How fresh an answer is, and from which records it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Now when the partition has caught up, else its log time.
    pub as_of: Timestamp,
    /// The time from which the log was whole, `None` when it always was.
    pub since: Option<Timestamp>,
    /// The org's partition.
    pub partition: i32,
    /// Next usage offset to fold.
    pub usage: i64,
    /// Next policies offset to take.
    pub policies: i64,
    /// Whether the partition has caught up.
    pub caught_up: bool,
}

impl Standing {
    /// What of it names an answer's content: all but the passing of time.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{} {} {} {:?} {}", self.partition, self.usage, self.policies, self.since, self.caught_up)
    }
}

/// One org of a list.
#[derive(Clone, Debug)]
pub struct OrgEntry {
    /// The org.
    pub org_id: String,
    /// Its partition.
    pub partition: i32,
    /// The plan of the policy in force.
    pub plan: Option<String>,
    /// Its last published decision.
    pub decision: Option<LimitDecision>,
}

/// One page of the orgs of the partitions of this instance.
#[derive(Clone, Debug)]
pub struct OrgPage {
    /// By id.
    pub orgs: Vec<OrgEntry>,
    /// What gives the next page; empty at the end.
    pub next_page_token: String,
    /// The partitions that were looked into.
    pub partitions: Vec<i32>,
}

/// An org's published decisions.
#[derive(Clone, Debug)]
pub struct DecisionsAnswer {
    /// The last published one of each scope.
    pub decisions: Vec<LimitDecision>,
    /// How fresh the answer is.
    pub standing: Standing,
}

/// Asks the stores of this instance; clones share them.
#[derive(Clone)]
pub struct Query {
    shelf: Shelf,
    partitions: i32,
    default: Arc<DefaultTerms>,
    clock: Arc<dyn Clock>,
    caught_up: Arc<dyn Fn(i32) -> bool + Send + Sync>,
    topics: Arc<TopicNames>,
}

/// What the topics of records are called, where an answer names one.
#[derive(Clone, Debug)]
pub struct TopicNames {
    /// The usage topic.
    pub usage: String,
    /// The policies topic.
    pub policies: String,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self { usage: "credit.usage".to_owned(), policies: "credit.policies".to_owned() }
    }
}

impl Query {
    /// Over the stores on `shelf`, where orgs are spread over `partitions` partitions; `caught_up` tells whether a
    /// partition's task is at the end of its log.
    #[must_use]
    pub fn new(
        shelf: Shelf,
        partitions: i32,
        default: DefaultTerms,
        clock: Arc<dyn Clock>,
        caught_up: impl Fn(i32) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (default, caught_up) = (Arc::new(default), Arc::new(caught_up));
        Self { shelf, partitions, default, clock, caught_up, topics: Arc::default() }
    }

    /// The same, calling the topics by these names.
    #[must_use]
    pub fn naming(mut self, topics: TopicNames) -> Self {
        self.topics = Arc::new(topics);
        self
    }

    /// What the topics are called.
    #[must_use]
    pub fn topics(&self) -> &TopicNames {
        &self.topics
    }

    /// A page of the known orgs, by id, after the one that `page_token` names.
    ///
    /// # Errors
    /// On a token that no answer gave, or when a store cannot be read.
    pub fn orgs(&self, page_size: usize, page_token: Option<&str>) -> Result<OrgPage, QueryError> {
        let after: Option<String> = page_token.map(page::read).transpose()?;
        let mut found: Vec<(String, i32)> = Vec::new();
        let readers = self.shelf.all();
        for (partition, reader) in &readers {
            let orgs = reader.snapshot().orgs(after.as_deref(), page_size + 1)?;
            found.extend(orgs.into_iter().map(|org| (org, *partition)));
            // Law 6: never more than two pages at once, however many partitions.
            found.sort();
            found.truncate(page_size + 1);
        }
        let more = found.len() > page_size;
        found.truncate(page_size);
        let next_page_token = match found.last() {
            Some((org, _)) if more => page::write(org)?,
            _ => String::new(),
        };
        let now = self.clock.now();
        let mut orgs = Vec::with_capacity(found.len());
        for (partition, reader) in &readers {
            let snapshot = reader.snapshot();
            for (org, _) in found.iter().filter(|(_, of)| of == partition) {
                let plan = snapshot.policies(org)?.in_force(now).map(|(_, policy)| policy.plan.clone());
                let decision =
                    snapshot.decisions(org)?.into_iter().find(|decision| decision.scope.budget.is_none());
                orgs.push(OrgEntry { org_id: org.clone(), partition: *partition, plan, decision });
            }
        }
        orgs.sort_by(|a, b| a.org_id.cmp(&b.org_id));
        Ok(OrgPage {
            orgs,
            next_page_token,
            partitions: readers.into_iter().map(|(partition, _)| partition).collect(),
        })
    }

    /// An org's last published decisions.
    ///
    /// # Errors
    /// When the org is not known here or the store cannot be read.
    pub fn decisions(&self, org: &str) -> Result<DecisionsAnswer, QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        let decisions = snapshot.decisions(org)?;
        if decisions.is_empty() {
            moment.known(&snapshot, org)?;
        }
        Ok(DecisionsAnswer { decisions, standing: moment.standing(&snapshot)? })
    }

    /// An org's usage, with the tag that names the answer's content. The rows are not read, and the answer is `None`,
    /// when the asker `holds` what the tag names.
    ///
    /// # Errors
    /// When the org is not known here, the range is empty, the answer is too large, or the token
    /// belongs to another question.
    pub fn usage(
        &self,
        org: &str,
        params: UsageParams,
        holds: impl FnOnce(&str) -> bool,
    ) -> Result<(String, Option<UsageAnswer>), QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        let terms = snapshot.org_terms(org)?;
        let history = &terms.policies;
        if history.is_empty() {
            moment.known(&snapshot, org)?;
        }
        overage::check(&params)?;
        let token = match &params.page_token {
            Some(text) => Some(page::read_for(text, usage::fingerprint(org, &params))?),
            None => None,
        };
        let (from, to) = match &token {
            Some(token) => (Hour(token.from), Hour(token.to)),
            None => (
                params.from.unwrap_or_else(|| self.period(history, moment.now).start),
                params.to.unwrap_or_else(|| Hour(moment.now.hour().0 + 1)),
            ),
        };
        if from >= to {
            let problem =
                format!("the range from {} to {} is empty; give an earlier `from`", from.start(), to.start());
            return Err(QueryError::parameter("from", problem));
        }
        let edges = params.bucket.cut(&params.zone, from, to, &|hour| self.period(history, hour.start()).end)?;
        let standing = moment.standing(&snapshot)?;
        let (terms, default, now) = (&terms, &*self.default, moment.now);
        let planned =
            PlannedUsage { snapshot: &snapshot, org, terms, default, now, params, token, edges, standing };
        let tag = planned.tag();
        let answer = if holds(&tag) { None } else { Some(planned.answer()?) };
        Ok((tag, answer))
    }

    fn period(&self, policies: &PolicyHistory, at: Timestamp) -> Period {
        period_at(Some(policies), &self.default, at)
    }

    /// A reader of the store that holds an org, and the moment at which it was asked for: before its snapshot is
    /// taken, so that an answer's `as_of` is never newer than its rows.
    fn open(&self, org: &str) -> Result<(StoreReader, Moment), QueryError> {
        let org = OrgId::new(org).ok_or_else(|| QueryError::BadOrg(org.to_owned()))?;
        let partition = partition_of(org.as_str().as_bytes(), self.partitions);
        let not_here = || QueryError::NotHere { org: org.to_string(), partition };
        let reader = self.shelf.get(partition).ok_or_else(not_here)?;
        Ok((reader, Moment { partition, now: self.clock.now(), caught_up: (self.caught_up)(partition) }))
    }
}

/// When a question was asked, of which partition.
struct Moment {
    partition: i32,
    now: Timestamp,
    caught_up: bool,
}

impl Moment {
    /// How fresh answers from this snapshot are.
    fn standing(&self, snapshot: &StoreSnapshot<'_>) -> Result<Standing, QueryError> {
        let meta = snapshot.meta()?;
        let meta = meta.as_ref();
        let log_time = meta.map_or(Timestamp::from_micros(0), |meta| meta.log_time);
        Ok(Standing {
            as_of: if self.caught_up { self.now } else { log_time },
            since: meta.and_then(|meta| meta.since),
            partition: self.partition,
            usage: meta.map_or(0, |meta| meta.position),
            policies: meta.map_or(0, |meta| meta.policies_position),
            caught_up: self.caught_up,
        })
    }

    /// Refuses an org without any fact or terms, so that a misspelt name is not taken for one without usage.
    fn known(&self, snapshot: &StoreSnapshot<'_>, org: &str) -> Result<(), QueryError> {
        let mut known = !snapshot.terms(org)?.is_empty();
        if !known {
            snapshot.totals(org, Hour(i32::MIN)..Hour(i32::MAX), &mut |_, _| {
                known = true;
                ControlFlow::Break(())
            })?;
        }
        let unknown = || QueryError::UnknownOrg { org: org.to_owned(), partition: self.partition };
        known.then_some(()).ok_or_else(unknown)
    }
}
