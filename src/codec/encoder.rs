//! Domain records to values: outputs in the configured encoding, and what producers and `policy apply` write.

use std::sync::Arc;

use super::avro_writer::AvroWriter;
use super::decoder::{FRAMED, SINGLE_OBJECT};
use super::json_writer::{JsonWriter, Nulls};
use super::schemas::{RecordType, RegistryError, SchemaRegistry, current};
use super::writer::FieldWriter;
use super::{events, outputs, terms};
use crate::domain::limits::alert::Alert;
use crate::domain::limits::decision::{Heartbeat, LimitDecision};
use crate::domain::limits::purchase::PurchaseRequested;
use crate::domain::terms::records::TermsRecord;
use crate::domain::usage::event::{Event, EventType, UsageEvent};

/// How outputs are encoded: `kafka.output_encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputEncoding {
    /// JSON with `type`.
    #[default]
    Json,
    /// Confluent framing; the schema is registered under the record's full name.
    Registry,
    /// Avro single-object encoding.
    SingleObject,
}

impl OutputEncoding {
    /// The encoding of that name in the config.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "registry" => Some(Self::Registry),
            "single_object" => Some(Self::SingleObject),
            _ => None,
        }
    }
}

/// How one value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueEncoding {
    /// JSON with `type`.
    Json,
    /// Avro single-object encoding.
    SingleObject,
    /// Confluent framing with this id, under which the registry holds our current schema.
    Framed(u32),
}

/// A record that can be written, whatever the encoding.
trait Encode {
    /// Whether JSON holds its null fields: people and gateways see all fields of an output, usage saves the bytes.
    const NULLS: Nulls;
    fn record(&self) -> RecordType;
    fn write<W: FieldWriter>(&self, writer: &mut W);

    #[inline]
    fn encode(&self, encoding: ValueEncoding, out: &mut Vec<u8>) {
        match encoding {
            ValueEncoding::Json => {
                let mut writer = JsonWriter::new(self.record(), Self::NULLS, out);
                self.write(&mut writer);
                return writer.finish();
            }
            ValueEncoding::SingleObject => {
                out.extend_from_slice(&SINGLE_OBJECT);
                out.extend_from_slice(&current(self.record()).fingerprint.to_le_bytes());
            }
            ValueEncoding::Framed(id) => {
                out.push(FRAMED);
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
        self.write(&mut AvroWriter(out));
    }
}

macro_rules! encode {
    ($type:ty, $nulls:expr, $record:expr, $write:expr) => {
        impl Encode for $type {
            const NULLS: Nulls = $nulls;
            fn record(&self) -> RecordType {
                $record(self)
            }
            fn write<W: FieldWriter>(&self, writer: &mut W) {
                $write(self, writer);
            }
        }
    };
}

encode!(UsageEvent<'_>, Nulls::Omitted, |_| RecordType::UsageEvent, events::write_usage);
encode!(Event<'_>, Nulls::Omitted, event_record, events::write_event);
encode!(TermsRecord, Nulls::Written, terms::type_of, terms::write);
encode!(LimitDecision, Nulls::Written, |_| RecordType::LimitDecision, outputs::write_decision);
encode!(Heartbeat, Nulls::Written, |_| RecordType::Heartbeat, outputs::write_heartbeat);
encode!(Alert, Nulls::Written, |_| RecordType::Alert, outputs::write_alert);
encode!(PurchaseRequested, Nulls::Written, |_| RecordType::PurchaseRequested, outputs::write_purchase);

fn event_record(event: &Event<'_>) -> RecordType {
    match event.event_type() {
        EventType::Usage => RecordType::UsageEvent,
        EventType::Adjusted => RecordType::UsageAdjusted,
        EventType::Outcome => RecordType::OutcomeRecorded,
    }
}

/// Appends a usage event's value to `out`.
#[inline]
pub fn encode_usage(event: &UsageEvent<'_>, encoding: ValueEncoding, out: &mut Vec<u8>) {
    event.encode(encoding, out);
}

/// Appends the value of any record of the usage topic to `out`.
pub fn encode_event(event: &Event<'_>, encoding: ValueEncoding, out: &mut Vec<u8>) {
    event.encode(encoding, out);
}

/// Appends the value of a record of the policies topic to `out`.
pub fn encode_terms(record: &TermsRecord, encoding: ValueEncoding, out: &mut Vec<u8>) {
    record.encode(encoding, out);
}

/// The JSON value of a record of the policies topic.
pub(super) fn terms_bytes(record: &TermsRecord) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(ValueEncoding::Json, &mut out);
    out
}

/// A decision's JSON value as it is published.
#[must_use]
pub fn decision_bytes(decision: &LimitDecision) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    decision.encode(ValueEncoding::Json, &mut out);
    out
}

/// A decision in as few bytes as hold it whole, for memory and never for a topic: they name no schema. Back:
/// [`super::unpack_decision`].
#[must_use]
pub fn pack_decision(decision: &LimitDecision) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    decision.write(&mut AvroWriter(&mut out));
    out
}

/// Encodes outputs; one per worker thread, for it keeps the ids under which the registry holds their schemas.
pub struct Encoder {
    encoding: OutputEncoding,
    registry: Option<Arc<dyn SchemaRegistry>>,
    ids: [Option<u32>; RecordType::COUNT],
}

impl Encoder {
    /// An encoder of outputs; [`OutputEncoding::Registry`] needs a registry.
    #[must_use]
    pub const fn new(encoding: OutputEncoding, registry: Option<Arc<dyn SchemaRegistry>>) -> Self {
        Self { encoding, registry, ids: [None; RecordType::COUNT] }
    }

    /// A decision's value.
    ///
    /// # Errors
    /// When the registry must be asked for the schema's id and does not answer, or refuses the schema.
    pub fn decision(&mut self, decision: &LimitDecision) -> Result<Vec<u8>, RegistryError> {
        self.value(decision)
    }

    /// A heartbeat's value.
    ///
    /// # Errors
    /// As [`Encoder::decision`].
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<Vec<u8>, RegistryError> {
        self.value(heartbeat)
    }

    /// An alert's value.
    ///
    /// # Errors
    /// As [`Encoder::decision`].
    pub fn alert(&mut self, alert: &Alert) -> Result<Vec<u8>, RegistryError> {
        self.value(alert)
    }

    /// A purchase request's value.
    ///
    /// # Errors
    /// As [`Encoder::decision`].
    pub fn purchase(&mut self, purchase: &PurchaseRequested) -> Result<Vec<u8>, RegistryError> {
        self.value(purchase)
    }

    fn value(&mut self, record: &impl Encode) -> Result<Vec<u8>, RegistryError> {
        let encoding = match self.encoding {
            OutputEncoding::Json => ValueEncoding::Json,
            OutputEncoding::SingleObject => ValueEncoding::SingleObject,
            OutputEncoding::Registry => ValueEncoding::Framed(self.id(record.record())?),
        };
        let mut out = Vec::with_capacity(512);
        record.encode(encoding, &mut out);
        Ok(out)
    }

    fn id(&mut self, record: RecordType) -> Result<u32, RegistryError> {
        if let Some(id) = self.ids[record as usize] {
            return Ok(id);
        }
        let missing = || RegistryError("kafka.output_encoding = registry needs `registry.url`".to_owned());
        let id = self.registry.as_ref().ok_or_else(missing)?.register(&record.subject(), record.avsc())?;
        self.ids[record as usize] = Some(id);
        Ok(id)
    }
}
