//! Values to domain records: tells the encoding by the first bytes, finds the writer's schema, and reads each field with its
//! bounds checked. A record's own fault is a [`DecodeError::Reject`]; a registry that does not answer is
//! [`DecodeError::Unavailable`], which is never the record's fault: the caller asks again later (Law 7).

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::avro::{Positional, read_fields};
use super::avro_plan::{Plan, compile};
use super::json::{self, Object};
use super::outputs::{DecisionNotice, read_decision, read_heartbeat, read_notice};
use super::reader::Fault;
use super::schemas::{RecordType, RegistryError, SchemaRegistry, current, known};
use super::slots::Slots;
use super::unknown::UnknownFields;
use super::{events, terms};
use crate::domain::limits::decision::{Heartbeat, LimitDecision};
use crate::domain::terms::records::TermsRecord;
use crate::domain::usage::event::Event;
use crate::domain::usage::reject::{Reason, Reject};

/// The greatest id that a registry gives: it counts from 1, with 31 bits.
const SCHEMA_ID_MAX: u32 = i32::MAX.unsigned_abs();
/// The most schemas asked for ahead of their records at a time, and the time after which no other is: a question takes a call,
/// and a worker's other partitions are not to wait for many.
const FORESEEN_MAX: usize = 16;
const FORESEEN_FOR: Duration = Duration::from_millis(100);
/// First byte of Confluent framing; a schema id of 4 bytes, big end first, follows.
pub(crate) const FRAMED: u8 = 0;
/// First bytes of Avro single-object encoding; the fingerprint, little end first, follows.
pub(crate) const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is at fault: a dead letter.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// The schema registry does not answer: wait and decode the same record again.
    #[error(transparent)]
    Unavailable(#[from] RegistryError),
}

impl From<Box<Fault>> for DecodeError {
    fn from(fault: Box<Fault>) -> Self {
        Self::Reject((*fault).into())
    }
}

/// Decodes values; one per worker thread, for it keeps the schemas it has met.
pub struct Decoder {
    plans: Vec<Plan>,
    by_fingerprint: Vec<(u64, usize)>,
    /// What the registry said of each id; what it denied is asked again, for an id may yet be given out.
    by_id: HashMap<u32, Result<usize, Reject>, foldhash::fast::RandomState>,
    registry: Option<Arc<dyn SchemaRegistry>>,
    unknown: UnknownFields,
}

/// A value whose type and encoding are known.
enum Located<'a> {
    Avro { plan: usize, body: &'a [u8] },
    Json(Object<'a>),
}

impl Decoder {
    /// A decoder that asks `registry` for the schemas of Confluent-framed values; without one these wait.
    ///
    /// # Panics
    /// Never: a test compiles each schema of ours.
    #[must_use]
    pub fn new(registry: Option<Arc<dyn SchemaRegistry>>) -> Self {
        let compiled =
            known().iter().map(|schema| compile(&schema.schema).expect("a test compiles each known schema"));
        let plans: Vec<Plan> = compiled.collect();
        let by_fingerprint = known().iter().map(|schema| schema.fingerprint).zip(0..).collect();
        Self { plans, by_fingerprint, by_id: HashMap::default(), registry, unknown: UnknownFields::default() }
    }

    /// The JSON fields of the value decoded last that its record does not have, and that were ignored.
    #[must_use]
    pub const fn unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    /// Decodes a value of the usage topic; its strings borrow from `bytes` where the encoding allows it.
    ///
    /// # Errors
    /// See [`DecodeError`].
    #[inline]
    pub fn usage<'a>(&mut self, bytes: &'a [u8]) -> Result<Event<'a>, DecodeError> {
        let located = self.locate(bytes)?;
        let record = self.record(&located);
        if let (RecordType::UsageEvent, &Located::Avro { plan, body }) = (record, &located)
            && self.plans[plan].is_current
        {
            let mut fields = Positional::new(record.fields(), body);
            let event = events::read_usage(&mut fields)?;
            fields.finish()?;
            return Ok(Event::Usage(event));
        }
        self.usage_by_slots(record, located)
    }

    /// The way of every usage value but a `UsageEvent` of our current schema.
    #[inline(never)]
    fn usage_by_slots<'a>(&mut self, record: RecordType, located: Located<'a>) -> Result<Event<'a>, DecodeError> {
        let mut slots = Slots::new(record.fields());
        match record {
            RecordType::UsageEvent => {
                self.fill(located, &mut slots)?;
                Ok(Event::Usage(events::read_usage(&mut slots)?))
            }
            RecordType::UsageAdjusted => {
                self.fill(located, &mut slots)?;
                Ok(Event::Adjusted(events::read_adjusted(&mut slots)?))
            }
            RecordType::OutcomeRecorded => {
                self.fill(located, &mut slots)?;
                Ok(Event::Outcome(events::read_outcome(&mut slots)?))
            }
            other => Err(foreign(other, "usage")),
        }
    }

    /// Decodes a value of the policies topic.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn terms(&mut self, bytes: &[u8]) -> Result<TermsRecord, DecodeError> {
        let located = self.locate(bytes)?;
        let record = self.record(&located);
        let mut slots = Slots::new(record.fields());
        self.fill(located, &mut slots)?;
        terms::read(record, &mut slots).ok_or_else(|| foreign(record, "policies"))?.map_err(DecodeError::from)
    }

    /// Decodes a decision as it was published, exactly.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decision(&mut self, bytes: &[u8]) -> Result<LimitDecision, DecodeError> {
        Ok(read_decision(&mut self.only(RecordType::LimitDecision, bytes)?)?)
    }

    /// What a gateway needs of a decision, also of one that holds words of a later version.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn notice(&mut self, bytes: &[u8]) -> Result<DecisionNotice, DecodeError> {
        Ok(read_notice(&mut self.only(RecordType::LimitDecision, bytes)?)?)
    }

    /// Decodes a heartbeat as it was published.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn heartbeat(&mut self, bytes: &[u8]) -> Result<Heartbeat, DecodeError> {
        Ok(read_heartbeat(&mut self.only(RecordType::Heartbeat, bytes)?)?)
    }

    fn only<'a>(&mut self, expected: RecordType, bytes: &'a [u8]) -> Result<Slots<'a>, DecodeError> {
        let located = self.locate(bytes)?;
        let record = self.record(&located);
        if record != expected {
            return Err(foreign(record, "decisions"));
        }
        let mut slots = Slots::new(record.fields());
        self.fill(located, &mut slots)?;
        Ok(slots)
    }

    #[inline]
    fn record(&self, located: &Located<'_>) -> RecordType {
        match located {
            Located::Avro { plan, .. } => self.plans[*plan].record,
            Located::Json(object) => object.record,
        }
    }

    #[inline]
    fn fill<'a>(&mut self, located: Located<'a>, slots: &mut Slots<'a>) -> Result<(), Reject> {
        match located {
            Located::Avro { plan, body } => read_fields(&self.plans[plan], body, slots),
            Located::Json(object) => {
                let record = object.record;
                let unknown = object.sort(slots)?;
                self.unknown.note(record, &unknown, slots);
                Ok(())
            }
        }
    }

    #[inline]
    fn locate<'a>(&mut self, bytes: &'a [u8]) -> Result<Located<'a>, DecodeError> {
        self.unknown.clear();
        if let [first, second, rest @ ..] = bytes
            && [*first, *second] == SINGLE_OBJECT
        {
            let Some((fingerprint, body)) = rest.split_first_chunk() else { return Err(short("fingerprint")) };
            let plan = self.plan_of_fingerprint(u64::from_le_bytes(*fingerprint))?;
            return Ok(Located::Avro { plan, body });
        }
        match bytes.split_first() {
            Some((&FRAMED, rest)) => {
                let Some((id, body)) = rest.split_first_chunk() else { return Err(short("schema id")) };
                Ok(Located::Avro { plan: self.plan_of_id(u32::from_be_bytes(*id))?, body })
            }
            Some(_) if bytes.trim_ascii_start().first() == Some(&b'{') => Ok(Located::Json(json::parse(bytes)?)),
            first => {
                let start =
                    first.map_or("is empty".to_owned(), |(byte, _)| format!("starts with byte {byte:#04x}"));
                let detail =
                    format!("the value {start}: neither Confluent framing, single-object encoding nor JSON");
                Err(Reject::new(Reason::Undecodable, detail).into())
            }
        }
    }

    #[inline]
    fn plan_of_fingerprint(&self, fingerprint: u64) -> Result<usize, Reject> {
        let found = self.by_fingerprint.iter().find(|(known, _)| *known == fingerprint);
        found.map(|(_, plan)| *plan).ok_or_else(|| {
            let detail = format!("no version of a schema has the fingerprint {fingerprint:016x}");
            Reject::new(Reason::UnknownSchema, detail)
        })
    }

    #[inline]
    fn plan_of_id(&mut self, id: u32) -> Result<usize, DecodeError> {
        match self.by_id.get(&id) {
            Some(Ok(plan)) => Ok(*plan),
            Some(Err(reject)) => Err(reject.clone().into()),
            None => self.learn(id),
        }
    }

    /// Asks for the schemas of records that stand behind one that waits for its own, so that what the registry denies of
    /// them is denied for as long: a denial is believed only after a while, and many bad records must not wait one after
    /// the other.
    pub fn foresee<'a>(&self, values: impl Iterator<Item = &'a [u8]>) {
        let Some(registry) = &self.registry else { return };
        let (mut asked, start) = (Vec::new(), Instant::now());
        for value in values {
            let [FRAMED, id @ ..] = value else { continue };
            let Some(id) = id.first_chunk().copied().map(u32::from_be_bytes) else { continue };
            if self.by_id.contains_key(&id) || !(1..=SCHEMA_ID_MAX).contains(&id) || asked.contains(&id) {
                continue;
            }
            // The answer is for the record itself to meet: a schema that is given is kept by the registry's client.
            let _ = registry.schema(id);
            asked.push(id);
            if asked.len() == FORESEEN_MAX || start.elapsed() >= FORESEEN_FOR {
                return;
            }
        }
    }

    #[cold]
    fn learn(&mut self, id: u32) -> Result<usize, DecodeError> {
        let refuse = |detail: String| Reject::new(Reason::UnknownSchema, detail);
        if !(1..=SCHEMA_ID_MAX).contains(&id) {
            return Err(
                refuse(format!("no registry gives a schema the id {id}: they are 1 to {SCHEMA_ID_MAX}")).into()
            );
        }
        let Some(registry) = &self.registry else {
            // Law 7: a setting that is missing is not the record's fault.
            let what =
                format!("`registry.url` is not set, and a record needs schema id {id}: set it and start again");
            return Err(RegistryError(what).into());
        };
        let Some(text) = registry.schema(id)? else {
            return Err(refuse(format!("the registry has no schema with id {id}")).into());
        };
        let plan = match apache_avro::Schema::parse_str(&text) {
            Ok(schema) => compile(&schema),
            Err(error) => Err(refuse(format!("no Avro schema that stands for itself: {error}"))),
        };
        let plan = plan.map_err(|reject| refuse(format!("schema id {id}: {}", reject.detail)));
        let learned = plan.map(|plan| {
            self.plans.push(plan);
            self.plans.len() - 1
        });
        // A schema id never changes its meaning, so both answers hold for good.
        self.by_id.insert(id, learned.clone());
        Ok(learned?)
    }
}

/// A decision out of what [`super::pack_decision`] made of it; `None` when it did not.
#[must_use]
pub fn unpack_decision(packed: &[u8]) -> Option<LimitDecision> {
    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        compile(&current(RecordType::LimitDecision).schema).expect("a test compiles each known schema")
    });
    let mut slots = Slots::new(RecordType::LimitDecision.fields());
    read_fields(&PLAN, packed, &mut slots).ok()?;
    read_decision(&mut slots).ok()
}

#[cold]
fn short(what: &str) -> DecodeError {
    Reject::new(Reason::Undecodable, format!("the value ends within its {what}")).into()
}

#[cold]
fn foreign(record: RecordType, topic: &str) -> DecodeError {
    Reject::new(Reason::UnknownType, format!("{} does not belong to the {topic} topic", record.name())).into()
}
