//! The imperative shell around the pure core.

pub mod ports;
