//! The command line.

mod catalogue;
pub mod generator;
