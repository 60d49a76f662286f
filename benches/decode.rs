//! What one event costs to decode and encode, beside references in the same run: a UTF-8 check of the same bytes (nobody
//! can hand out strings for less), and the two Avro libraries of others, which check none of our bounds.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use tallyman::codec::schemas::current;
use tallyman::codec::{Decoder, RecordType, RegistryError, SchemaRegistry, ValueEncoding, encode_usage};
use tallyman::domain::credits::Credits;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{Dims, Multiplier, Status, UsageEvent};

struct Registry;

impl SchemaRegistry for Registry {
    fn schema(&self, _: u32) -> Result<Option<Arc<str>>, RegistryError> {
        Ok(Some(RecordType::UsageEvent.avsc().into()))
    }
    fn register(&self, _: &str, _: &str) -> Result<u32, RegistryError> {
        Ok(1)
    }
}

/// The fields that a consumer of `serde_avro_fast` would take, unchecked.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Reference<'a> {
    event_id: &'a str,
    source: &'a str,
    occurred_at: i64,
    org_id: &'a str,
    user_id: Option<&'a str>,
    product: &'a str,
    model: Option<&'a str>,
    operation: &'a str,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    latency_ms: Option<i64>,
    status: &'a str,
    content_id: Option<&'a str>,
}

fn event() -> UsageEvent<'static> {
    let mut dims = Dims::default();
    dims.0[Dimension::User.index()] = Some("user-000017".into());
    dims.0[Dimension::Product.index()] = Some("assistant".into());
    dims.0[Dimension::Model.index()] = Some("large-2".into());
    dims.0[Dimension::Operation.index()] = Some("generate".into());
    UsageEvent {
        event_id: "01J9Z3K8Q2V7M5N4R6T8W0Y1".into(),
        source: "gateway".into(),
        occurred_at: Timestamp::from_micros(1_795_000_000_123_456),
        org_id: "org-000123".into(),
        dims,
        credits: Credits::from_micros(12_300_000).expect("within bounds"),
        multiplier: Some(Multiplier(15_000)),
        input_tokens: Some(812),
        output_tokens: Some(303),
        cached_input_tokens: None,
        reasoning_tokens: None,
        latency_ms: Some(950),
        time_to_first_token_ms: None,
        status: Status::Ok,
        content_id: Some("content-4711".into()),
        attempt: None,
        trace_id: None,
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("usage_event");
    group.throughput(Throughput::Elements(1));
    let encoded = |encoding| {
        let mut out = Vec::new();
        encode_usage(&event(), encoding, &mut out);
        out
    };
    let single = encoded(ValueEncoding::SingleObject);
    println!("single-object value: {} bytes", single.len());
    let mut decoder = Decoder::new(Some(Arc::new(Registry)));
    for (name, bytes) in [
        ("decode single object", &single),
        ("decode framed", &encoded(ValueEncoding::Framed(1))),
        ("decode json", &encoded(ValueEncoding::Json)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decoder.usage(black_box(bytes)).expect("it is valid")));
        });
    }
    let body = &single[10..];
    let text = "x".repeat(body.len());
    group.bench_function("reference: UTF-8 check of as many bytes", |bencher| {
        bencher.iter(|| black_box(std::str::from_utf8(black_box(text.as_bytes())).is_ok()));
    });
    let schema: serde_avro_fast::Schema = RecordType::UsageEvent.avsc().parse().expect("it is valid");
    group.bench_function("reference: serde_avro_fast, unchecked", |bencher| {
        bencher.iter(|| {
            black_box(serde_avro_fast::from_datum_slice::<Reference<'_>>(black_box(body), &schema).expect("valid"))
        });
    });
    let schema = &current(RecordType::UsageEvent).schema;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build().expect("it is valid");
    group.bench_function("reference: apache-avro, unchecked", |bencher| {
        bencher.iter(|| black_box(reader.read_value(&mut black_box(body)).expect("it is valid")));
    });
    let mut out = Vec::with_capacity(1024);
    for (name, encoding) in
        [("encode single object", ValueEncoding::SingleObject), ("encode json", ValueEncoding::Json)]
    {
        let event = event();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_usage(black_box(&event), encoding, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = decode
}
criterion_main!(benches);
