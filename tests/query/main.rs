//! Questions over a real store: every answer against a naive sum over the same events, and the HTTP API and the
//! command line on a real listener. Nothing here knows Kafka.

mod api;
mod cli;
mod explain;
mod overage;
mod simulate;
mod support;
mod usage;
