//! Whether one version of a schema can be read as another: Avro's own resolution, and our law that a field's logical
//! type, precision and scale never change (CONTRACT.md, Records).

use apache_avro::Schema;
use apache_avro::error::CompatibilityError;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

/// Whether values of `writer` can be read as `reader`.
///
/// # Errors
/// What is in the way, naming the field.
pub fn can_read(writer: &Schema, reader: &Schema) -> Result<(), String> {
    same_logical_types("", writer, reader)?;
    SchemaCompatibility::can_read(writer, reader).map(drop).map_err(|error| told(&error))
}

/// Whether two versions can each read every value of the other, as `FULL_TRANSITIVE` asks.
///
/// # Errors
/// What is in the way, naming the field.
pub fn full(older: &Schema, newer: &Schema) -> Result<(), String> {
    same_logical_types("", older, newer)?;
    match SchemaCompatibility::mutual_read(older, newer) {
        Ok(Compatibility::Full) => Ok(()),
        Ok(Compatibility::Partial) => Err("some values of one version cannot be read as the other".to_owned()),
        Err(error) => Err(told(&error)),
    }
}

/// Avro's own message prints whole schemas; a dead letter's header needs one line.
fn told(error: &CompatibilityError) -> String {
    match error {
        CompatibilityError::FieldTypeMismatch(field, _) => {
            format!("field `{field}` has a type that ours cannot take")
        }
        CompatibilityError::MissingDefaultValue(field) => format!("field `{field}` is missing and has no default"),
        CompatibilityError::WrongType { .. } => "it has another type".to_owned(),
        other => other.to_string(),
    }
}

fn same_logical_types(path: &str, one: &Schema, other: &Schema) -> Result<(), String> {
    match (without_null(one), without_null(other)) {
        (Schema::Record(one), Schema::Record(other)) => {
            for field in &one.fields {
                if let Some(twin) = other.fields.iter().find(|twin| twin.name == field.name) {
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    same_logical_types(&path, &field.schema, &twin.schema)?;
                }
            }
            Ok(())
        }
        (Schema::Array(one), Schema::Array(other)) => same_logical_types(path, &one.items, &other.items),
        (one, other) => {
            let (one, other) = (logical_type(one), logical_type(other));
            let message = || format!("field `{path}` is {one} in one version and {other} in the other");
            if one == other { Ok(()) } else { Err(message()) }
        }
    }
}

fn without_null(schema: &Schema) -> &Schema {
    let Schema::Union(union) = schema else { return schema };
    match union.variants() {
        [Schema::Null, only] | [only, Schema::Null] => only,
        _ => schema,
    }
}

fn logical_type(schema: &Schema) -> String {
    match schema {
        Schema::Decimal(decimal) => {
            let base = match &decimal.inner {
                InnerDecimalSchema::Bytes => "bytes".to_owned(),
                InnerDecimalSchema::Fixed(fixed) => format!("fixed({})", fixed.size),
            };
            format!("{base}/decimal({},{})", decimal.precision, decimal.scale)
        }
        Schema::BigDecimal => "big-decimal".to_owned(),
        Schema::Uuid(UuidSchema::String) => "string/uuid".to_owned(),
        Schema::Uuid(_) => "uuid".to_owned(),
        Schema::Date => "date".to_owned(),
        Schema::TimeMillis => "time-millis".to_owned(),
        Schema::TimeMicros => "time-micros".to_owned(),
        Schema::TimestampMillis => "timestamp-millis".to_owned(),
        Schema::TimestampMicros => "timestamp-micros".to_owned(),
        Schema::TimestampNanos => "timestamp-nanos".to_owned(),
        Schema::LocalTimestampMillis => "local-timestamp-millis".to_owned(),
        Schema::LocalTimestampMicros => "local-timestamp-micros".to_owned(),
        Schema::LocalTimestampNanos => "local-timestamp-nanos".to_owned(),
        Schema::Duration(_) => "duration".to_owned(),
        _ => "of no logical type".to_owned(),
    }
}
