//! A writer's schema compiled into steps: which field of the bytes goes to which slot of ours, by name. Fields that we do
//! not know are skipped; fields that the writer does not have stay empty. A plan is made once per schema.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, RecordSchema, UuidSchema};

use super::compatibility::can_read;
use super::schemas::{NAMESPACE, RecordType, current};
use super::terms::AUTO_PURCHASE;
use crate::domain::usage::reject::{Reason, Reject};

/// The slot of a field that nobody reads.
pub(crate) const NO_SLOT: u8 = u8::MAX;

/// How values of one schema are read.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Which record.
    pub record: RecordType,
    /// The writer's fields in its order.
    pub steps: Box<[Step]>,
    /// Their names, for messages.
    pub names: Box<[String]>,
    /// Whether the values' bytes are those of our current schema, whatever the schema's docs and defaults.
    pub is_current: bool,
}

/// One field of the writer.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    /// Where its value goes.
    pub slot: u8,
    /// Where its null stands.
    pub null: Null,
    /// What its bytes are.
    pub shape: Shape,
}

/// Which branch of a field's two-branch union is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Null {
    /// It is no such union.
    Never,
    /// `["null", T]`.
    First,
    /// `[T, "null"]`.
    Second,
}

/// What a value's bytes are, logical types apart: those were compared once, when the plan was made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Null,
    Boolean,
    /// Int, long, or the index of an enum's symbol.
    Long,
    /// So many bytes of a float.
    Floating(usize),
    Bytes,
    Text,
    Fixed(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    /// Fields in order; a name for those that somebody reads.
    Record(Vec<(Option<&'static str>, Shape)>),
    Union(Vec<Shape>),
}

/// Compiles a writer's schema.
///
/// # Errors
/// [`Reason::UnknownSchema`] when it is no record of ours, or cannot be read as ours.
pub(crate) fn compile(writer: &Schema) -> Result<Plan, Reject> {
    let refuse = |detail: String| Reject::new(Reason::UnknownSchema, detail);
    let Schema::Record(record) = writer else { return Err(refuse("the writer's schema is no record".to_owned())) };
    let full_name = record.name.fullname(None);
    let known = RecordType::from_name(record.name.name()).filter(|_| record.name.namespace() == Some(NAMESPACE));
    let known = known.ok_or_else(|| refuse(format!("{full_name} is no record of {NAMESPACE}")))?;
    can_read(writer, &current(known).schema)
        .map_err(|why| refuse(format!("the writer's version of {full_name} cannot be read: {why}")))?;
    let steps = steps(known, record).map_err(|why| refuse(format!("{full_name}: {why}")))?;
    let Schema::Record(ours) = &current(known).schema else {
        unreachable!("a test reads each schema as a record")
    };
    let is_current = self::steps(known, ours).is_ok_and(|ours| ours == steps);
    let names = record.fields.iter().map(|field| field.name.clone()).collect();
    Ok(Plan { record: known, steps, names, is_current })
}

fn steps(known: RecordType, record: &RecordSchema) -> Result<Box<[Step]>, String> {
    let mut shapes = Shapes::default();
    record.fields.iter().map(|field| shapes.step(known, &field.name, &field.schema)).collect()
}

/// The named types met so far; one that is not finished yet is `None`.
#[derive(Default)]
struct Shapes(BTreeMap<String, Option<Shape>>);

impl Shapes {
    fn step(&mut self, record: RecordType, name: &str, schema: &Schema) -> Result<Step, String> {
        let (null, schema) = match schema {
            Schema::Union(union) => match union.variants() {
                [Schema::Null, only] => (Null::First, only),
                [only, Schema::Null] => (Null::Second, only),
                _ => (Null::Never, schema),
            },
            _ => (Null::Never, schema),
        };
        let slot = record.fields().iter().position(|field| *field == name);
        let slot = slot.map_or(NO_SLOT, |slot| u8::try_from(slot).expect("FIELDS_MAX is below 255"));
        Ok(Step { slot, null, shape: self.shape(schema)? })
    }

    fn shape(&mut self, schema: &Schema) -> Result<Shape, String> {
        Ok(match schema {
            Schema::Null => Shape::Null,
            Schema::Boolean => Shape::Boolean,
            Schema::Float => Shape::Floating(4),
            Schema::Double => Shape::Floating(8),
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Shape::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Shape::Text,
            Schema::Array(array) => Shape::Array(Box::new(self.shape(&array.items)?)),
            Schema::Map(map) => Shape::Map(Box::new(self.shape(&map.types)?)),
            Schema::Union(union) => {
                Shape::Union(union.variants().iter().map(|branch| self.shape(branch)).collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => self.record(record)?,
            Schema::Enum(inner) => self.named(&inner.name.fullname(None), Shape::Long),
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.named(&fixed.name.fullname(None), Shape::Fixed(fixed.size))
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Shape::Bytes,
                InnerDecimalSchema::Fixed(fixed) => {
                    self.named(&fixed.name.fullname(None), Shape::Fixed(fixed.size))
                }
            },
            Schema::Ref { name } => {
                let name = name.fullname(None);
                self.0.get(&name).cloned().flatten().ok_or_else(|| format!("the type {name} holds itself"))?
            }
            Schema::Int
            | Schema::Long
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Shape::Long,
        })
    }

    fn record(&mut self, record: &RecordSchema) -> Result<Shape, String> {
        let name = record.name.fullname(None);
        self.0.insert(name.clone(), None);
        let known = |field: &str| {
            let short = AUTO_PURCHASE.iter().filter_map(|dotted| dotted.rsplit('.').next());
            short.into_iter().find(|known| *known == field)
        };
        let fields = record.fields.iter().map(|field| Ok((known(&field.name), self.shape(&field.schema)?)));
        let shape = Shape::Record(fields.collect::<Result<_, String>>()?);
        Ok(self.named(&name, shape))
    }

    fn named(&mut self, name: &str, shape: Shape) -> Shape {
        self.0.insert(name.to_owned(), Some(shape.clone()));
        shape
    }
}
