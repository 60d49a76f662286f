//! The sample organisations: who they are, what they may use, and what they used in the past month. All of it follows
//! from one instant, and every allowance from the usage before it, so that the demo is the same on any day of a month.

use crate::cli::generator::{Generator, Load, working_times};
use crate::codec::{ValueEncoding, encode_terms, encode_usage};
use crate::domain::credits::{CreditSum, Credits, MICROS_PER_CREDIT};
use crate::domain::terms::book::PolicyHistory;
use crate::domain::terms::period::period_at;
use crate::domain::terms::records::{DefaultTerms, LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use crate::domain::time::{Hour, Timestamp};
use crate::kafka::{self, Producer, Sent, Topics};

/// About so many events in the month. As Avro and with batches as the broker counts them, they take well below its 5 MiB a partition.
const EVENTS: u64 = 24_000;
/// Days of history.
const DAYS: i32 = 30;
/// Days for which the suspended org has used nothing.
const SUSPENDED_DAYS: i32 = 6;
/// Events between two looks at the progress.
const STEP: u64 = 500;

/// A sample organisation.
pub(super) struct Org {
    pub(super) id: String,
    /// What it is here to show.
    pub(super) about: &'static str,
    policy: Option<OrgPolicy>,
}

/// The organisations and their month.
pub(super) struct Sample {
    orgs: Vec<Org>,
    from: Hour,
    to: Hour,
    events: u64,
}

/// How an org's allowance follows from what it has used in the running period.
#[derive(Clone, Copy)]
enum Plan {
    /// So many whole credits more than used.
    Left(i64),
    /// Used credits are so many percent of it.
    UsedPercent(i64),
    /// No limit at all.
    Unlimited,
    /// As `UsedPercent(60)`, and suspended.
    Suspended,
    /// No policy.
    None,
}

/// The org that is about to be blocked.
pub(super) const NEARLY_SPENT: &str = "halden-studios";

/// id, plan, what it shows, allowance, soft extra; the busiest first.
const ORGS: [(&str, &str, &str, Plan, i64); 6] = [
    (NEARLY_SPENT, "team", "HARD limit, nearly spent", Plan::Left(45), 0),
    ("northgate-bank", "enterprise", "unlimited", Plan::Unlimited, 0),
    ("lumen-legal", "business", "SOFT limit with extra, nearly spent", Plan::Left(60), 250),
    ("tern-robotics", "", "no policy: limits.default", Plan::None, 0),
    ("maple-health", "team", "HARD limit, plenty left", Plan::UsedPercent(40), 0),
    ("copper-games", "team", "suspended", Plan::Suspended, 0),
];

/// What live traffic and history draw from.
pub(super) fn load(seed: u64, duplicates: f64) -> Load {
    let orgs = ORGS.iter().map(|(id, ..)| (*id).to_owned()).collect();
    Load { orgs, users_per_org: 24, skew: 0.6, duplicates, ..Load::new(seed, 1) }
}

impl Sample {
    /// As of `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let to = now.hour();
        let sample = Self { orgs: Vec::new(), from: Hour(to.0 - DAYS * 24), to, events: 0 };
        // All periods here are UTC months from day 1, as of a policy that is as old as the history.
        let mut history = PolicyHistory::default();
        history.insert(0, sample.policy("any", "any", Plan::Unlimited, 0, CreditSum::ZERO));
        let period = period_at(Some(&history), &DefaultTerms::Allow, now);
        let mut used = [CreditSum::ZERO; ORGS.len()];
        let mut events = 0;
        sample.draw(|place, event| {
            events += 1;
            if period.contains(event.occurred_at) {
                used[place] += event.credits.into();
            }
            true
        });
        let orgs = ORGS.iter().zip(used).map(|(&(id, name, about, plan, extra), used)| Org {
            id: id.to_owned(),
            about,
            policy: (!matches!(plan, Plan::None)).then(|| sample.policy(id, name, plan, extra, used)),
        });
        let orgs = orgs.collect();
        Self { orgs, events, ..sample }
    }

    pub(super) fn orgs(&self) -> &[Org] {
        &self.orgs
    }

    /// How many events [`Sample::write`] writes.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Each event of the month in its order, with its org's place.
    fn draw(&self, mut each: impl FnMut(usize, &crate::domain::usage::event::UsageEvent<'_>) -> bool) {
        let mut generator = Generator::new(load(self.seed(), 0.0));
        let suspended_from = Hour(self.to.0 - SUSPENDED_DAYS * 24).start();
        for at in working_times(self.from, self.to, EVENTS) {
            let event = generator.next(at);
            let place = ORGS.iter().position(|(id, ..)| *id == event.org_id).expect("drawn from ORGS");
            let refused = matches!(ORGS[place].3, Plan::Suspended) && at >= suspended_from;
            if !refused && !each(place, &event) {
                return;
            }
        }
    }

    fn seed(&self) -> u64 {
        u64::from(self.to.0.unsigned_abs())
    }

    fn policy(&self, id: &str, name: &str, plan: Plan, extra: i64, used: CreditSum) -> OrgPolicy {
        let used = i64::try_from(used.micros() / i128::from(MICROS_PER_CREDIT)).unwrap_or(i64::MAX);
        let base = match plan {
            Plan::Left(credits) => used + credits,
            Plan::UsedPercent(percent) => hundreds(used * 100 / percent),
            Plan::Suspended => hundreds(used * 100 / 60),
            Plan::Unlimited | Plan::None => 0,
        };
        let credits = |whole: i64| Credits::from_micros(whole * MICROS_PER_CREDIT).unwrap_or_default();
        OrgPolicy {
            org_id: id.to_owned(),
            plan: name.to_owned(),
            status: if matches!(plan, Plan::Suspended) { OrgStatus::Suspended } else { OrgStatus::Active },
            unlimited: matches!(plan, Plan::Unlimited),
            base_allocation: credits(base),
            limit_mode: if extra > 0 { LimitMode::Soft } else { LimitMode::Hard },
            soft_extra: credits(extra),
            unlimited_overage: false,
            thresholds: vec![75, 90, 100],
            anchor_day: 1,
            time_zone: "UTC".to_owned(),
            auto_purchase: None,
            products: Vec::new(),
            credit_price: Credits::from_micros(10_000),
            overage_price: Credits::from_micros(15_000),
            currency: Some("EUR".to_owned()),
            effective_at: self.from.start(),
            updated_by: "tallyman dev".to_owned(),
        }
    }

    /// Writes the policies and the month; `each` hears how many events so far, and says whether to go on.
    pub(super) fn write(
        &self,
        topics: &Topics,
        producer: &Producer,
        mut each: impl FnMut(u64) -> bool,
    ) -> Result<(), kafka::Error> {
        let mut value = Vec::with_capacity(1_024);
        for policy in self.orgs.iter().filter_map(|org| org.policy.as_ref()) {
            value.clear();
            encode_terms(&TermsRecord::OrgPolicy(policy.clone()), ValueEncoding::Json, &mut value);
            let sent = Sent { key: Some(policy.org_id.as_bytes()), value: Some(&value), ..Sent::default() };
            producer.send(&topics.policies, &sent)?;
        }
        let (mut written, mut outcome) = (0, Ok(()));
        self.draw(|_, event| {
            value.clear();
            encode_usage(event, ValueEncoding::SingleObject, &mut value);
            let key = Some(event.org_id.as_bytes());
            outcome = producer.send(&topics.usage, &Sent { key, value: Some(&value), ..Sent::default() });
            written += 1;
            outcome.is_ok() && (written % STEP != 0 || each(written))
        });
        outcome
    }
}

/// Up to whole hundreds, at least one.
const fn hundreds(credits: i64) -> i64 {
    (credits / 100 + 1) * 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::murmur2::partition_of;
    use crate::kafka::RETAINED_BYTES;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    #[test]
    fn the_month_stays_well_below_what_the_embedded_broker_keeps() {
        // What Kafka's batches add to a record at most, when a batch holds but a few.
        const OVERHEAD: usize = 40;
        let mut bytes = vec![0; usize::try_from(super::super::PARTITIONS).unwrap()];
        Sample::new(NOW).draw(|_, event| {
            let mut value = Vec::new();
            encode_usage(event, ValueEncoding::SingleObject, &mut value);
            let partition = partition_of(event.org_id.as_bytes(), super::super::PARTITIONS);
            bytes[usize::try_from(partition).unwrap()] += value.len() + event.org_id.len() + OVERHEAD;
            true
        });
        assert!(bytes.iter().all(|bytes| *bytes < RETAINED_BYTES / 4 * 3), "{bytes:?}");
        assert!(bytes.iter().all(|bytes| *bytes > 0), "every partition has an org: {bytes:?}");
    }

    #[test]
    fn the_first_org_is_just_below_its_limit_on_any_day() {
        for days in 0..31 {
            let sample = Sample::new(NOW.plus_micros(days * 86_400_000_000));
            let policy = sample.orgs[0].policy.as_ref().expect("it has one");
            assert_eq!(policy.limit_mode, LimitMode::Hard);
            assert!(policy.base_allocation >= Credits::from_micros(45_000_000).unwrap());
        }
    }
}
