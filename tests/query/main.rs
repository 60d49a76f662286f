//! Questions over a real store: every answer against a naive sum over the same events, and the HTTP API and the
//! command line on a real listener. Nothing here knows Kafka.

mod answers;
mod api;
mod cli;
mod doors;
mod explain;
#[path = "../support/facts.rs"]
mod facts;
mod overage;
mod server;
mod simulate;
mod support;
mod usage;
