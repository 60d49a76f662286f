//! Believable usage out of a seed: the same seed, load and times give the same events to the byte, with any
//! version of any library. Pure: no clock, no I/O. `produce`, `dev`, tests and benches all draw from it.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::catalogue::{CATEGORIES, DEPARTMENTS, DETAILS, PRODUCTS, Product};
use crate::domain::credits::{CreditSum, Credits};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::{Dims, Multiplier, Status, UsageEvent};

/// How many events back a duplicate may reach, and how many pieces of content are being worked on.
const RECENT: usize = 512;

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The same seed gives the same events, ids included.
    pub seed: u64,
    /// The organisations, the busiest first. At least one.
    pub orgs: Vec<String>,
    /// Users of each, at least 1.
    pub users_per_org: u32,
    /// Zipf exponent of the orgs' shares: 0 = all alike, 1 = the second busiest does half of the busiest.
    pub skew: f64,
    /// Share of records that repeat an earlier one exactly, 0..1.
    pub duplicates: f64,
    /// The most credits of one event.
    pub credits_max: Credits,
}

impl Load {
    /// `orgs` organisations called `org-0000`, ... with 50 users each, Zipf 1, half a percent of duplicates.
    #[must_use]
    pub fn new(seed: u64, orgs: u32) -> Self {
        Self {
            seed,
            orgs: (0..orgs.max(1)).map(|number| format!("org-{number:04}")).collect(),
            users_per_org: 50,
            skew: 1.0,
            duplicates: 0.005,
            credits_max: Credits::from_micros(50_000_000).expect("50 credits are within bounds"),
        }
    }
}

/// What was drawn so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All records.
    pub records: u64,
    /// Those that repeat an earlier one.
    pub duplicates: u64,
    /// The exact sum over those that do not.
    pub credits: CreditSum,
}

/// SplitMix64: small, fast, and the same for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 up to, not including, `end`.
    fn below(&mut self, end: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(end)) >> 64).expect("below a u64")
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// True in `share` of all cases.
    fn chance(&mut self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
        let drawn = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < share
    }

    /// Mostly near `typical`, sometimes up to eight times it, never 0.
    fn around(&mut self, typical: u64) -> i64 {
        let spread = self.below(typical) + self.below(typical);
        let long = if self.below(16) == 0 { self.below(typical * 6) } else { 0 };
        i64::try_from(1 + spread + long).expect("tokens and milliseconds are small")
    }
}

/// All that makes one event, so that a duplicate is the same to the byte.
#[derive(Clone, Copy)]
struct Draft {
    serial: u64,
    at: Timestamp,
    org: usize,
    user: usize,
    product: &'static Product,
    operation: &'static str,
    detail: Option<&'static str>,
    category: &'static str,
    model: usize,
    multiplier: Option<i32>,
    credits: Credits,
    input_tokens: i64,
    output_tokens: i64,
    cached_tokens: Option<i64>,
    latency_ms: i64,
    first_token_ms: i64,
    status: Status,
    content: Option<Content>,
}

#[derive(Clone, Copy)]
struct Content {
    serial: u64,
    attempt: i64,
}

/// An endless stream of events.
pub struct Generator {
    load: Load,
    random: Random,
    /// Upper ends of the orgs' shares, out of the last one.
    shares: Vec<u64>,
    users: Vec<String>,
    workspaces: Vec<String>,
    recent: Vec<Draft>,
    contents: Vec<Draft>,
    serial: u64,
    event_id: String,
    content_id: String,
    totals: Totals,
}

impl Generator {
    /// A stream of this load.
    ///
    /// # Panics
    /// When the load has no org.
    #[must_use]
    pub fn new(load: Load) -> Self {
        assert!(!load.orgs.is_empty(), "a load has at least one org");
        let users = load.users_per_org.max(1);
        let mut end = 0;
        let shares = (1..=load.orgs.len()).map(|rank| {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // A share of the largest, in 2^-32: positive and far below 2^63 for any number of orgs that fits in memory.
            let share = ((1_u64 << 32) as f64 / (rank as f64).powf(load.skew)) as u64;
            end += share.max(1);
            end
        });
        Self {
            random: Random(load.seed),
            shares: shares.collect(),
            users: (0..users).map(|number| format!("user-{number}")).collect(),
            workspaces: (0..=users / 8).map(|number| format!("ws-{number}")).collect(),
            recent: Vec::with_capacity(RECENT),
            contents: Vec::with_capacity(RECENT),
            serial: 0,
            event_id: String::new(),
            content_id: String::new(),
            totals: Totals::default(),
            load,
        }
    }

    /// The next record, as of `at`; a duplicate keeps the time of what it repeats.
    pub fn next(&mut self, at: Timestamp) -> UsageEvent<'_> {
        let repeat = !self.recent.is_empty() && self.random.chance(self.load.duplicates);
        let draft = if repeat {
            self.totals.duplicates += 1;
            self.random.pick(&self.recent)
        } else {
            let draft = self.draft(at);
            self.totals.credits += draft.credits.into();
            remember(&mut self.recent, draft, self.serial);
            draft
        };
        self.totals.records += 1;
        self.event(&draft)
    }

    /// What was drawn so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn org(&mut self) -> usize {
        let all = *self.shares.last().expect("a load has at least one org");
        let drawn = self.random.below(all);
        self.shares.partition_point(|end| *end <= drawn)
    }

    fn draft(&mut self, at: Timestamp) -> Draft {
        self.serial += 1;
        // A quarter of the events tries again on content that the same user made shortly before.
        let again = self.random.below(4) == 0 && !self.contents.is_empty();
        let earlier = again.then(|| self.random.pick(&self.contents));
        let product = earlier.map_or_else(|| self.random.pick(PRODUCTS), |earlier| earlier.product);
        let org = earlier.map_or_else(|| self.org(), |earlier| earlier.org);
        // The lesser of two draws: a few users do most of it.
        let user = self.random.index(self.users.len()).min(self.random.index(self.users.len()));
        let user = earlier.map_or(user, |earlier| earlier.user);
        let random = &mut self.random;
        let model = random.index(product.models.len());
        let (rate, pace) = (product.models[model].micros_per_token, product.models[model].ms_per_100_tokens);
        let status = match random.below(100) {
            0..=2 => Status::Error,
            3 => Status::Cancelled,
            _ => Status::Ok,
        };
        let (input_tokens, output_tokens) =
            (random.around(product.input_tokens), random.around(product.output_tokens));
        let multiplier = random.pick(product.models[model].multipliers);
        // Integers all the way: credits are exact. A call that failed is not charged.
        let full = (input_tokens + 4 * output_tokens) * rate * i64::from(multiplier.unwrap_or(10_000)) / 10_000;
        let micros = if status == Status::Error { 0 } else { full.min(self.load.credits_max.micros()) };
        let makes_content = product.content && status == Status::Ok;
        let content = earlier.and_then(|earlier| earlier.content);
        let content = makes_content.then(|| {
            content.map_or(Content { serial: self.serial, attempt: 1 }, |content| Content {
                attempt: content.attempt + 1,
                ..content
            })
        });
        let draft = Draft {
            serial: self.serial,
            at,
            org,
            user,
            product,
            operation: random.pick(product.operations),
            detail: (random.below(4) == 0).then(|| random.pick(DETAILS)),
            category: random.pick(CATEGORIES),
            model,
            multiplier,
            credits: Credits::from_micros(micros).expect("capped by a legal value"),
            input_tokens,
            output_tokens,
            cached_tokens: (random.below(3) == 0).then_some(input_tokens / 2),
            latency_ms: random.around(120) + output_tokens * pace / 100,
            first_token_ms: random.around(100),
            status,
            content,
        };
        if content.is_some_and(|content| content.attempt < 5) {
            remember(&mut self.contents, draft, self.serial);
        }
        draft
    }

    fn event(&mut self, draft: &Draft) -> UsageEvent<'_> {
        self.event_id.clear();
        write!(self.event_id, "{:x}-{}", self.load.seed, draft.serial).expect("a String takes all");
        self.content_id.clear();
        if let Some(content) = draft.content {
            write!(self.content_id, "{:x}-c{}", self.load.seed, content.serial).expect("a String takes all");
        }
        let model = &draft.product.models[draft.model];
        let workspace = &self.workspaces[draft.user / 8];
        let mut dims = Dims::default();
        for (dimension, value) in [
            (Dimension::User, Some(self.users[draft.user].as_str())),
            (Dimension::Product, Some(draft.product.name)),
            (Dimension::Model, Some(model.name)),
            (Dimension::Provider, Some(model.provider)),
            (Dimension::Operation, Some(draft.operation)),
            (Dimension::OperationDetail, draft.detail),
            (Dimension::Category, Some(draft.category)),
            (Dimension::Workspace, Some(workspace.as_str())),
            (Dimension::Department, Some(DEPARTMENTS[draft.user % DEPARTMENTS.len()])),
        ] {
            dims.0[dimension.index()] = value.map(Cow::Borrowed);
        }
        UsageEvent {
            event_id: Cow::Borrowed(&self.event_id),
            source: Cow::Borrowed(draft.product.source),
            occurred_at: draft.at,
            org_id: Cow::Borrowed(&self.load.orgs[draft.org]),
            dims,
            credits: draft.credits,
            multiplier: draft.multiplier.map(Multiplier),
            input_tokens: Some(draft.input_tokens),
            output_tokens: Some(draft.output_tokens),
            cached_input_tokens: draft.cached_tokens,
            reasoning_tokens: None,
            latency_ms: Some(draft.latency_ms),
            time_to_first_token_ms: Some(draft.first_token_ms.min(draft.latency_ms)),
            status: draft.status,
            content_id: draft.content.map(|_| Cow::Borrowed(self.content_id.as_str())),
            attempt: draft.content.map(|content| content.attempt),
            trace_id: None,
        }
    }
}

/// Keeps the latest [`RECENT`]: number `serial` takes the place of the one that many before it.
fn remember(ring: &mut Vec<Draft>, draft: Draft, serial: u64) {
    if ring.len() < RECENT {
        ring.push(draft);
    } else {
        ring[usize::try_from(serial % RECENT as u64).expect("below RECENT")] = draft;
    }
}

/// About `count` instants from `from` up to `to`, ascending, as people work: by day, less at the weekend.
pub fn working_times(from: Hour, to: Hour, count: u64) -> impl Iterator<Item = Timestamp> {
    let weight = |hour: Hour| -> u64 {
        let by_day = match hour.0.rem_euclid(24) {
            8..=17 => 10,
            6..=7 | 18..=21 => 4,
            _ => 1,
        };
        // 1970-01-01 was a Thursday: days 2 and 3 of each week since then are Saturday and Sunday.
        if matches!(hour.day().0.rem_euclid(7), 2 | 3) { by_day.min(2) } else { by_day }
    };
    let all: u64 = (from.0..to.0).map(|hour| weight(Hour(hour))).sum();
    let mut owed = 0;
    (from.0..to.0).flat_map(move |hour| {
        owed += count * weight(Hour(hour));
        let now = owed / all;
        owed %= all;
        let step = 3_600_000_000 / i64::try_from(now.max(1)).unwrap_or(i64::MAX);
        (0..i64::try_from(now).unwrap_or(i64::MAX)).map(move |place| Hour(hour).start().plus_micros(place * step))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn drawn(generator: &mut Generator, count: i64) -> Vec<String> {
        (0..count).map(|step| format!("{:?}", generator.next(AT.plus_micros(step)))).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_seed_gives_others() {
        let of = |seed| drawn(&mut Generator::new(Load::new(seed, 100)), 2_000);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_duplicate_is_the_same_to_the_byte_and_the_sum_counts_it_once() {
        let mut generator = Generator::new(Load { duplicates: 0.1, ..Load::new(1, 50) });
        let (mut seen, mut sum, mut repeated) = (HashMap::new(), CreditSum::ZERO, 0);
        for step in 0..20_000 {
            let event = generator.next(AT.plus_micros(step));
            let (id, credits, text) = (event.event_id.to_string(), event.credits, format!("{event:?}"));
            if let Some(first) = seen.get(&id) {
                assert_eq!(*first, text);
                repeated += 1;
            } else {
                seen.insert(id, text);
                sum += credits.into();
            }
        }
        let totals = generator.totals();
        assert_eq!(totals, Totals { records: 20_000, duplicates: repeated, credits: sum });
        assert!((1_500..2_500).contains(&repeated), "{repeated}");
    }

    #[test]
    fn orgs_have_shares_by_their_rank() {
        let mut generator = Generator::new(Load::new(3, 1_000));
        let mut counts: HashMap<String, u32> = HashMap::new();
        for _ in 0..50_000 {
            *counts.entry(generator.next(AT).org_id.into_owned()).or_default() += 1;
        }
        assert!(counts["org-0000"] > 3 * counts["org-0004"], "{}", counts["org-0000"]);
        assert!(counts.len() > 900, "{}", counts.len());
    }

    #[test]
    fn content_is_tried_again_by_the_user_who_made_it() {
        let mut generator = Generator::new(Load { duplicates: 0.0, ..Load::new(5, 20) });
        let mut last: HashMap<String, (String, i64)> = HashMap::new();
        let mut attempts = HashSet::new();
        for _ in 0..20_000 {
            let event = generator.next(AT);
            let (Some(content), Some(attempt)) = (&event.content_id, event.attempt) else { continue };
            let owner = format!("{} {:?}", event.org_id, event.dims.get(Dimension::User));
            let earlier = last.insert(content.to_string(), (owner.clone(), attempt));
            assert_eq!(earlier.is_none(), attempt == 1);
            assert!(earlier.is_none_or(|(before, _)| before == owner));
            attempts.insert(attempt);
        }
        assert!(attempts.contains(&3), "{attempts:?}");
    }

    #[test]
    fn working_times_ascend_and_are_as_many_as_asked_for() {
        let (from, to) = (Hour(495_000), Hour(495_000 + 24 * 30));
        let times: Vec<Timestamp> = working_times(from, to, 10_000).collect();
        assert_eq!(times.len(), 10_000);
        assert!(times.is_sorted());
        assert!(times[0] >= from.start() && times[9_999] < to.start());
    }
}
