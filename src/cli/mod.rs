//! Room to be built.

pub mod query;
pub mod table;
