//! The schemas: each record's current text, its older versions, their fingerprints, and the port to a registry.
//! The texts are compiled in, so that a value in single-object encoding needs nobody to be read.

use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use serde_json::Value;

/// The namespace of every record.
pub const NAMESPACE: &str = "tallyman.v1";

/// Older versions that producers may still write with: every file in `schemas/history/`, which a test compares.
const HISTORY: &[(RecordType, &str)] = &[];

/// A record of CONTRACT.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum RecordType {
    UsageEvent,
    UsageAdjusted,
    OutcomeRecorded,
    OrgPolicy,
    Budget,
    CreditGrant,
    PurchaseDeclined,
    Label,
    LimitDecision,
    Heartbeat,
    Alert,
    PurchaseRequested,
}

/// The most fields of any record.
pub(crate) const FIELDS_MAX: usize = 28;

macro_rules! dimension_fields {
    ([$($before:literal),*], [$($after:literal),*]) => {
        &[
            $($before,)* "user_id", "product", "model", "provider", "operation", "operation_detail", "category", "tier",
            "workspace_id", "workspace_kind", "project_id", "department", $($after),*
        ]
    };
}

impl RecordType {
    /// How many records there are.
    pub const COUNT: usize = 12;

    /// Every record.
    pub const ALL: [Self; Self::COUNT] = [
        Self::UsageEvent,
        Self::UsageAdjusted,
        Self::OutcomeRecorded,
        Self::OrgPolicy,
        Self::Budget,
        Self::CreditGrant,
        Self::PurchaseDeclined,
        Self::Label,
        Self::LimitDecision,
        Self::Heartbeat,
        Self::Alert,
        Self::PurchaseRequested,
    ];

    /// Its name without the namespace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsageEvent => "UsageEvent",
            Self::UsageAdjusted => "UsageAdjusted",
            Self::OutcomeRecorded => "OutcomeRecorded",
            Self::OrgPolicy => "OrgPolicy",
            Self::Budget => "Budget",
            Self::CreditGrant => "CreditGrant",
            Self::PurchaseDeclined => "PurchaseDeclined",
            Self::Label => "Label",
            Self::LimitDecision => "LimitDecision",
            Self::Heartbeat => "Heartbeat",
            Self::Alert => "Alert",
            Self::PurchaseRequested => "PurchaseRequested",
        }
    }

    /// The record of that name, with or without the namespace.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let short = name.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        Self::ALL.into_iter().find(|record| record.name() == short)
    }

    /// Its subject in a registry (RecordNameStrategy): the full name.
    #[must_use]
    pub fn subject(self) -> String {
        format!("{NAMESPACE}.{}", self.name())
    }

    /// Its current schema as it stands in `schemas/`.
    #[must_use]
    pub const fn avsc(self) -> &'static str {
        match self {
            Self::UsageEvent => include_str!("../../schemas/UsageEvent.avsc"),
            Self::UsageAdjusted => include_str!("../../schemas/UsageAdjusted.avsc"),
            Self::OutcomeRecorded => include_str!("../../schemas/OutcomeRecorded.avsc"),
            Self::OrgPolicy => include_str!("../../schemas/OrgPolicy.avsc"),
            Self::Budget => include_str!("../../schemas/Budget.avsc"),
            Self::CreditGrant => include_str!("../../schemas/CreditGrant.avsc"),
            Self::PurchaseDeclined => include_str!("../../schemas/PurchaseDeclined.avsc"),
            Self::Label => include_str!("../../schemas/Label.avsc"),
            Self::LimitDecision => include_str!("../../schemas/LimitDecision.avsc"),
            Self::Heartbeat => include_str!("../../schemas/Heartbeat.avsc"),
            Self::Alert => include_str!("../../schemas/Alert.avsc"),
            Self::PurchaseRequested => include_str!("../../schemas/PurchaseRequested.avsc"),
        }
    }

    /// The names of its fields in the order of its schema; the readers and writers of `events`, `terms` and
    /// `outputs` follow that order.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::UsageEvent => dimension_fields!(
                ["event_id", "source", "occurred_at", "org_id"],
                [
                    "credits",
                    "multiplier",
                    "input_tokens",
                    "output_tokens",
                    "cached_input_tokens",
                    "reasoning_tokens",
                    "latency_ms",
                    "time_to_first_token_ms",
                    "status",
                    "content_id",
                    "attempt",
                    "trace_id"
                ]
            ),
            Self::UsageAdjusted => dimension_fields!(
                ["adjustment_id", "source", "occurred_at", "org_id"],
                ["credits", "events", "reason", "event_id"]
            ),
            Self::OutcomeRecorded => dimension_fields!(
                ["outcome_id", "source", "occurred_at", "org_id", "content_id", "event_id"],
                ["outcome", "rating", "value"]
            ),
            Self::OrgPolicy => ORG_POLICY,
            Self::Budget => BUDGET,
            Self::CreditGrant => CREDIT_GRANT,
            Self::PurchaseDeclined => &["org_id", "purchase_id", "reason"],
            Self::Label => &["org_id", "dimension", "value", "display_name"],
            Self::LimitDecision => LIMIT_DECISION,
            Self::Heartbeat => &["partition", "at", "log_time"],
            Self::Alert => ALERT,
            Self::PurchaseRequested => {
                &["purchase_id", "org_id", "period_start", "ordinal", "credits", "requested_at"]
            }
        }
    }

    /// The field that holds the record's own id, which a `CloudEvent`'s envelope gives: for usage records alone.
    #[must_use]
    pub(crate) const fn envelope_id_field(self) -> Option<&'static str> {
        match self {
            Self::UsageEvent => Some("event_id"),
            Self::UsageAdjusted => Some("adjustment_id"),
            Self::OutcomeRecorded => Some("outcome_id"),
            _ => None,
        }
    }
}

const ORG_POLICY: &[&str] = &[
    "org_id",
    "plan",
    "status",
    "unlimited",
    "base_allocation",
    "limit_mode",
    "soft_extra",
    "unlimited_overage",
    "thresholds",
    "anchor_day",
    "time_zone",
    "auto_purchase",
    "products",
    "credit_price",
    "overage_price",
    "currency",
    "effective_at",
    "updated_by",
];
const BUDGET: &[&str] = &[
    "org_id",
    "budget_id",
    "name",
    "dimension",
    "value",
    "limit",
    "period",
    "action",
    "thresholds",
    "effective_at",
    "expires_at",
    "updated_by",
];
const CREDIT_GRANT: &[&str] = &[
    "org_id",
    "grant_id",
    "credits",
    "kind",
    "price",
    "currency",
    "effective_at",
    "expires_at",
    "voided_at",
    "priority",
    "updated_by",
];
const LIMIT_DECISION: &[&str] = &[
    "org_id",
    "dimension",
    "value",
    "budget_id",
    "budget_name",
    "period",
    "action",
    "reason",
    "level",
    "used",
    "allowance",
    "extra",
    "remaining",
    "credits_per_second",
    "period_start",
    "period_end",
    "valid_until",
    "version",
    "decided_at",
    "forecast_alerted_on",
    "purchases_requested",
    "cause_partition",
    "cause_offset",
    "cause_event_id",
    "cause_trace_id",
    "policy_offset",
];
const ALERT: &[&str] = &[
    "alert_id",
    "org_id",
    "dimension",
    "value",
    "budget_id",
    "kind",
    "level",
    "previous_level",
    "used",
    "allowance",
    "period_start",
    "at",
];

/// A version of a record's schema that is compiled in.
#[derive(Debug)]
pub struct KnownSchema {
    /// Which record.
    pub record: RecordType,
    /// The parsed schema.
    pub schema: Schema,
    /// CRC-64-AVRO of its parsing canonical form.
    pub fingerprint: u64,
}

impl KnownSchema {
    fn parse((record, text): (RecordType, &str)) -> Self {
        let schema = Schema::parse_str(text).expect("the compiled-in schemas are parsed by a test");
        let fingerprint = fingerprint(text).expect("it is parsed already");
        Self { record, schema, fingerprint }
    }
}

/// CRC-64-AVRO of a schema's parsing canonical form; `None` when the text is no schema.
#[must_use]
pub fn fingerprint(text: &str) -> Option<u64> {
    let mut json = serde_json::from_str(text).ok()?;
    drop_logical_types(&mut json);
    let digest = Schema::parse(&json).ok()?.fingerprint::<Rabin>().bytes;
    Some(u64::from_le_bytes(digest.try_into().ok()?))
}

/// The canonical form knows no logical types; apache-avro leaves them in, which no other library would.
fn drop_logical_types(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(drop_logical_types),
        Value::Object(fields) => {
            if fields.remove("logicalType").is_some() {
                fields.retain(|name, _| name != "precision" && name != "scale");
            }
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "default")
                .for_each(|(_, value)| drop_logical_types(value));
        }
        _ => {}
    }
}

/// Every compiled-in version: the current ones in the order of [`RecordType::ALL`], then the older ones.
#[must_use]
pub fn known() -> &'static [KnownSchema] {
    static KNOWN: LazyLock<Vec<KnownSchema>> = LazyLock::new(|| {
        let current = RecordType::ALL.into_iter().map(|record| (record, record.avsc()));
        current.chain(HISTORY.iter().copied()).map(KnownSchema::parse).collect()
    });
    &KNOWN
}

/// The current version of a record's schema.
#[must_use]
pub fn current(record: RecordType) -> &'static KnownSchema {
    &known()[record as usize]
}

/// The texts of the older versions that are compiled in.
#[must_use]
pub const fn history() -> &'static [(RecordType, &'static str)] {
    HISTORY
}

/// The registry cannot answer now. That is no fault of a record: ask again later (Law 7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema registry: {0}")]
pub struct RegistryError(pub String);

/// A schema registry, as the codec needs it. A call may block for a short while and never waits for an outage to end.
pub trait SchemaRegistry: Send + Sync {
    /// The text of the schema with this id; `None` when the registry denies that there is one.
    ///
    /// # Errors
    /// When the registry does not answer.
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError>;

    /// The id of this schema under `subject`, registered if it is not yet.
    ///
    /// # Errors
    /// When the registry does not answer, or refuses the schema.
    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError>;
}
