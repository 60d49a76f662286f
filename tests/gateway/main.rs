//! The gateway's table against an obvious model and sentence by sentence of CONTRACT.md, and the checks over HTTP. On a real
//! Kafka with nginx and Python: `tests/e2e/gateway.rs`.

mod http;
mod model;
mod rules;
mod support;
