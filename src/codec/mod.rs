//! Room to be built.
pub mod store_bytes;
pub mod store_keys;
pub mod store_terms;
pub mod store_values;
