//! How many events a fold into all built-in views takes per second, beside decoding alone of the same bytes in the same
//! run. `cargo bench --profile release --bench fold [-- <events>]`; one line per measurement.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tallyman::cli::generator::{Generator, Load};
use tallyman::codec::{Decoder, ValueEncoding, encode_usage};
use tallyman::domain::content::Content;
use tallyman::domain::fold::{ContentKey, Fold, RowKey, RowSets, Rows};
use tallyman::domain::tally::Tally;
use tallyman::domain::time::Timestamp;
use tallyman::domain::view::built_in;

/// Records of one poll.
const BATCH: usize = 10_000;
/// Events that lie in one hour.
const EVENTS_PER_HOUR: usize = 200_000;

/// A store without rows: what is measured is the fold.
struct Empty;

impl Rows for Empty {
    type Error = Infallible;

    fn row(&self, _: &RowKey<'_>) -> Result<Option<Tally>, Infallible> {
        Ok(None)
    }

    fn content(&self, _: &ContentKey<'_>) -> Result<Option<Content>, Infallible> {
        Ok(None)
    }
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what:<52} {:>12}/s", count as u128 * 1_000_000 / took.as_micros().max(1));
}

fn values(count: usize) -> Vec<Vec<u8>> {
    let mut generator = Generator::new(Load::new(1, 1_000));
    let step = 3_600_000_000 / EVENTS_PER_HOUR as i64;
    let mut at = Timestamp::from_millis(1_795_000_000_000);
    let draw = |_| {
        at = at.plus_micros(step);
        let mut value = Vec::new();
        encode_usage(&generator.next(at), ValueEncoding::SingleObject, &mut value);
        value
    };
    (0..count).map(draw).collect()
}

fn fold(values: &[Vec<u8>], batch: usize) {
    let (mut decoder, mut fold, mut sets) = (Decoder::new(None), Fold::default(), RowSets::new(built_in()));
    let (mut took, mut settling, mut flushing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for batch in values.chunks(batch) {
        let events: Vec<_> = batch.iter().map(|value| decoder.usage(value).expect("it is valid")).collect();
        let started = Instant::now();
        for event in &events {
            let Ok(_) = fold.add(event, &Empty);
        }
        let added = Instant::now();
        let mut frozen = fold.freeze();
        let Ok(()) = sets.settle(&mut frozen, &Empty);
        fold.thaw(frozen);
        fold.end_batch();
        settling += added.elapsed();
        took += started.elapsed();
        let started = Instant::now();
        if sets.dirty_len() > 200_000 {
            let Ok(rows) = sets.flush(|_, _| Ok::<_, Infallible>(()));
            if fold.heap_bytes() + sets.heap_bytes() > 256 << 20 {
                fold.forget();
                sets.forget();
            }
            black_box(rows);
        }
        flushing += started.elapsed();
    }
    report(&format!("fold: add and settle, batches of {batch}"), values.len(), took);
    report("fold: of that, settle", values.len(), settling);
    report("fold: walk over changed rows", values.len(), flushing);
}

fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let values = values(count);
    let mut decoder = Decoder::new(None);
    let started = Instant::now();
    for value in &values {
        black_box(decoder.usage(black_box(value)).expect("it is valid"));
    }
    report("reference: decode alone, single object", count, started.elapsed());
    fold(&values, BATCH);
    fold(&values, 1_000);
}
