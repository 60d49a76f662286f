//! Bytes to domain values and back: the records of CONTRACT.md in their three encodings, and their schemas.
//!
//! A value is told by its first bytes: Confluent framing, Avro single-object encoding, or JSON. Whatever the encoding,
//! one function per record reads its fields in the order of our schema, with every bound checked, and one writes them. Nothing here does I/O: the schema registry is a port that `registry` fills.
//! Read on: `decoder` (in), `encoder` (out), `events`, `terms`, `outputs` (what each record holds).

mod avro;
mod avro_plan;
mod avro_writer;
pub mod compatibility;
pub mod decoder;
pub mod encoder;
mod events;
mod fields;
mod json;
mod json_writer;
mod outputs;
mod reader;
pub mod schemas;
mod slots;
pub mod store_ids;
pub mod store_keys;
pub mod store_terms;
pub mod store_values;
mod terms;
pub mod terms_document;
mod unknown;
mod writer;

pub use decoder::{DecodeError, Decoder, unpack_decision};
pub use encoder::{
    Encoder, OutputEncoding, ValueEncoding, decision_bytes, encode_event, encode_terms, encode_usage,
    pack_decision,
};
pub use fields::{FieldChange, Fields, decision_fields, differences, terms_fields};
pub use outputs::DecisionNotice;
pub use schemas::{RecordType, RegistryError, SchemaRegistry};
pub use unknown::{UnknownFields, nearest_field};
