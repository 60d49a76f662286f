//! Tallyman: an event-sourced stream processor for AI credits.
//!
//! A record's way reads off the rooms: `kafka -> codec -> domain -> store -> kafka`, and `query -> http`.
//! ARCHITECTURE.md tells the laws and where each is enforced.

pub mod app;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod http;
pub mod kafka;
pub mod memory;
pub mod processor;
pub mod query;
pub mod registry;
pub mod store;
pub mod telemetry;
