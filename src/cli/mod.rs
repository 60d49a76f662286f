//! The command line.

mod catalogue;
pub mod generator;
pub mod query;
pub mod table;
