//! The naive fold, and the real one with blocks in a map.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tallyman::domain::cube::bundle;
use tallyman::domain::cube::fold::{ContentKey, Contents, Fold};
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Day, Hour};
use tallyman::domain::usage::content::Content;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{
    Dims, Event, Outcome, OutcomeRecorded, Status, Subject, UsageAdjusted, UsageEvent,
};

use crate::facts::{Fact, facts_of, told};

type Values = [Option<String>; Dimension::COUNT];

/// What became of a piece of content in the model.
#[derive(Clone, Default)]
struct Told {
    outcome: Option<Outcome>,
    rating: Option<u8>,
    value: Option<i128>,
    hour: Hour,
    values: Values,
    first_attempt: bool,
}

#[derive(Clone, Default)]
struct Piece {
    credits: i128,
    events: i64,
    attempts: i64,
    values: Values,
    told: Option<Told>,
}

/// The naive fold.
#[derive(Default)]
pub struct Model {
    facts: BTreeMap<Fact, Tally>,
    pieces: BTreeMap<(String, bool, String), Piece>,
}

/// Facts with the fields of each that are not zero, and its least and greatest values.
pub type Facts = BTreeMap<Fact, Vec<(Field, i128)>>;

fn values_of(dims: &Dims<'_>) -> Values {
    std::array::from_fn(|place| dims.0[place].as_deref().map(str::to_owned))
}

impl Model {
    /// Its facts.
    pub fn facts(&self) -> Facts {
        self.facts.iter().map(|(fact, tally)| (fact.clone(), told(tally))).collect()
    }

    fn count(&mut self, org: &str, hour: Hour, values: &Values, fields: &[(Field, i128)]) {
        let fact = Fact { org: org.to_owned(), hour, values: values.clone() };
        let tally = self.facts.entry(fact).or_default();
        fields.iter().for_each(|&(field, value)| tally.add(field, value));
    }

    /// Folds one event.
    pub fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Usage(event) => self.usage(event),
            Event::Adjusted(event) => self.adjusted(event),
            Event::Outcome(event) => self.outcome(event),
        }
    }

    fn adjusted(&mut self, event: &UsageAdjusted<'_>) {
        let fields = [
            (Field::CREDITS, event.credits.micros().into()),
            (Field::EVENTS, event.events.into()),
            (Field::ADJUSTMENTS, 1),
        ];
        self.count(&event.org_id, event.occurred_at.hour(), &values_of(&event.dims), &fields);
    }

    fn usage(&mut self, event: &UsageEvent<'_>) {
        let credits = i128::from(event.credits.micros());
        let mut values = values_of(&event.dims);
        let tier = &mut values[Dimension::Tier.index()];
        if let (None, Some(multiplier)) = (&tier, event.multiplier) {
            let name = if multiplier.0 < 10_000 {
                "economy"
            } else if multiplier.0 >= 20_000 {
                "premium"
            } else {
                "standard"
            };
            *tier = Some(name.to_owned());
        }
        let mut fields = plain_fields(event);
        let mut attempt = event.attempt;
        let mut late = None;
        if let Some(id) = &event.content_id {
            let piece = self.pieces.entry((event.org_id.to_string(), true, id.to_string())).or_default();
            fields.push((Field::CONTENT_CREDITS, credits));
            if piece.events == 0 {
                fields.push((Field::CONTENTS, 1));
            }
            piece.events += 1;
            let this = attempt.unwrap_or(piece.events);
            attempt = Some(this);
            piece.attempts = piece.attempts.max(this);
            piece.credits += credits;
            piece.values.clone_from(&values);
            late.clone_from(&piece.told);
        }
        if let Some(attempt) = attempt {
            let (count, of_credits) = Field::attempt(attempt);
            fields.extend([(count, 1), (of_credits, credits)]);
        }
        self.count(&event.org_id, event.occurred_at.hour(), &values, &fields);
        if let Some(Told { outcome: Some(outcome), hour, values, .. }) = late {
            self.count(&event.org_id, hour, &values, &[(Field::outcome(outcome).1, credits)]);
        }
    }

    fn outcome(&mut self, event: &OutcomeRecorded<'_>) {
        let (is_content, id) = match &event.subject {
            Subject::Content(id) => (true, id),
            Subject::Event(id) => (false, id),
        };
        let key = (event.org_id.to_string(), is_content, id.to_string());
        let mut piece = self.pieces.get(&key).cloned().unwrap_or_default();
        let before = piece.told.take();
        if let Some(before) = &before {
            self.tell(&event.org_id, &piece, before, -1);
        }
        let before = before.unwrap_or_default();
        let outcome = event.outcome.or(before.outcome);
        let told = Told {
            outcome,
            rating: event.rating.or(before.rating),
            value: event.value.map(|value| value.micros().into()).or(before.value),
            hour: event.occurred_at.hour(),
            values: std::array::from_fn(|place| {
                event.dims.0[place].as_deref().map(str::to_owned).or_else(|| piece.values[place].clone())
            }),
            first_attempt: outcome == Some(Outcome::Accepted) && piece.attempts == 1,
        };
        self.tell(&event.org_id, &piece, &told, 1);
        piece.told = Some(told);
        self.pieces.insert(key, piece);
    }

    fn tell(&mut self, org: &str, piece: &Piece, told: &Told, sign: i128) {
        let mut fields = Vec::new();
        if let Some(outcome) = told.outcome {
            let (count, credits) = Field::outcome(outcome);
            fields.extend([(count, sign), (credits, sign * piece.credits)]);
        }
        if told.first_attempt {
            fields.push((Field::ACCEPTED_FIRST, sign));
        }
        if let Some(rating) = told.rating {
            fields.extend([(Field::RATINGS, sign), (Field::RATING_SUM, sign * i128::from(rating))]);
        }
        if let Some(value) = told.value {
            fields.push((Field::VALUE, sign * value));
        }
        self.count(org, told.hour, &told.values, &fields);
    }
}

fn plain_fields(event: &UsageEvent<'_>) -> Vec<(Field, i128)> {
    let credits = i128::from(event.credits.micros());
    let mut fields = vec![(Field::CREDITS, credits), (Field::EVENTS, 1)];
    fields.extend(match event.status {
        Status::Ok => [(Field::OK, 1), (Field::OK_CREDITS, credits)],
        Status::Error => [(Field::ERROR, 1), (Field::ERROR_CREDITS, credits)],
        Status::Cancelled => [(Field::CANCELLED, 1), (Field::CANCELLED_CREDITS, credits)],
    });
    let mut sum = |field: Field, value: Option<i64>| fields.extend(value.map(|value| (field, i128::from(value))));
    sum(Field::INPUT_TOKENS, event.input_tokens);
    sum(Field::OUTPUT_TOKENS, event.output_tokens);
    sum(Field::CACHED_INPUT_TOKENS, event.cached_input_tokens);
    sum(Field::REASONING_TOKENS, event.reasoning_tokens);
    sum(Field::LATENCY_SUM_MS, event.latency_ms);
    sum(Field::LATENCY_COUNT, event.latency_ms.map(|_| 1));
    sum(Field::FIRST_TOKEN_SUM_MS, event.time_to_first_token_ms);
    sum(Field::FIRST_TOKEN_COUNT, event.time_to_first_token_ms.map(|_| 1));
    let multiplier = event.multiplier.map(|multiplier| i64::from(multiplier.0));
    sum(Field::MULTIPLIER_MIN, multiplier);
    sum(Field::MULTIPLIER_MAX, multiplier);
    if let Some(latency) = event.latency_ms {
        let latency = u64::try_from(latency).unwrap();
        let above = |&bucket: &usize| tallyman::domain::cube::histogram::lower_bound_ms(bucket) <= latency;
        fields.push((
            Field::latency_bucket((0..tallyman::domain::cube::histogram::BUCKETS).rev().find(above).unwrap()),
            1,
        ));
    }
    fields
}

/// What was flushed, in place of a store.
#[derive(Default)]
pub struct Flushed {
    bundles: BTreeMap<(String, Day), Vec<u8>>,
    totals: BTreeMap<(String, Hour), Tally>,
    contents: BTreeMap<(String, bool, String), Content>,
}

fn content_of(key: &ContentKey<'_>) -> (String, bool, String) {
    (key.org.to_owned(), key.is_content, key.id.to_owned())
}

impl Contents for Flushed {
    type Error = Infallible;

    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, Infallible> {
        Ok(self.contents.get(&content_of(key)).cloned())
    }
}

impl Flushed {
    /// Takes what was added. With `forget`, the fold and its sealer drop their texts and content rows.
    pub fn flush(&mut self, fold: &mut Fold, sealer: &mut Sealer, forget: bool) {
        let frozen = fold.freeze();
        let Ok(()) = sealer.seal(&frozen, |sealed| {
            let bundle = self.bundles.entry((sealed.org.to_owned(), sealed.day)).or_default();
            bundle::push(bundle, sealed.block);
            for (hour, total) in sealed.totals {
                self.totals.entry((sealed.org.to_owned(), *hour)).or_default().merge(total);
            }
            Ok::<(), Infallible>(())
        });
        fold.thaw(frozen);
        let Ok(()) = fold.contents(|key, content| {
            self.contents.insert(content_of(key), content.clone());
            Ok::<(), Infallible>(())
        });
        if forget {
            fold.forget();
            sealer.forget();
        }
    }

    /// All facts, and whether the totals are their sums by org and hour.
    pub fn facts(&self) -> (Facts, bool) {
        let (mut facts, mut totals) = (Facts::new(), BTreeMap::<_, Tally>::new());
        for ((org, day), bytes) in &self.bundles {
            let merged = bundle::merged(std::iter::once(bytes.as_slice())).unwrap();
            for (fact, tally) in
                bundle::blocks(&merged).unwrap().iter().flat_map(|block| facts_of(org, *day, block))
            {
                totals.entry((fact.org.clone(), fact.hour)).or_default().merge(&tally);
                assert!(facts.insert(fact, told(&tally)).is_none(), "a fact is there twice");
            }
        }
        let same = |(one, other): ((_, &Tally), (_, &Tally))| one.0 == other.0 && told(one.1) == told(other.1);
        let are_sums = totals.len() == self.totals.len() && totals.iter().zip(&self.totals).all(same);
        (facts, are_sums)
    }
}
