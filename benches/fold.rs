//! How many events a fold into sealed facts takes per second, beside decoding alone of the same bytes in the same
//! run. `cargo bench --profile release --bench fold [-- <events>]`; one line per measurement.

use std::collections::HashSet;
use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use tallyman::cli::generator::{Generator, Load};
use tallyman::codec::{Decoder, ValueEncoding, encode_usage};
use tallyman::domain::cube::fold::{ContentKey, Contents, Fold};
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::content::Content;
use tallyman::domain::usage::dedupe::IdHasher;

/// Events whose instructions are counted.
const INSTRUCTIONS_OF: usize = 50_000;
/// Records of one poll.
const BATCH: usize = 10_000;
/// Additions of one flush.
const FLUSH: usize = 200_000;
/// Events that lie in one hour.
const EVENTS_PER_HOUR: usize = 200_000;

/// A store without content: what is measured is the fold.
struct Empty;

impl Contents for Empty {
    type Error = Infallible;

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
    let (mut decoder, mut fold, mut sealer) = (Decoder::new(None), Fold::default(), Sealer::default());
    let (mut adding, mut sealing, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    let mut seal = |fold: &mut Fold| {
        let started = Instant::now();
        let frozen = fold.freeze();
        let Ok(()) = sealer.seal(&frozen, |sealed| {
            bytes += sealed.block.len();
            Ok::<_, Infallible>(())
        });
        fold.thaw(frozen);
        sealing += started.elapsed();
    };
    for batch in values.chunks(batch) {
        let events: Vec<_> = batch.iter().map(|value| decoder.usage(value).expect("it is valid")).collect();
        let started = Instant::now();
        for event in &events {
            let Ok(_) = fold.add(event, &Empty);
        }
        fold.end_batch();
        adding += started.elapsed();
        if fold.dirty_len() > FLUSH {
            seal(&mut fold);
        }
    }
    seal(&mut fold);
    report(&format!("fold: add, batches of {batch}"), values.len(), adding);
    report("fold: seal", values.len(), sealing);
    println!("{:<52} {:>12}", "fold: bytes of blocks an event", bytes / values.len().max(1));
}

/// Decode, dedupe, append and seal of a fixed log: `benches/instructions.sh` counts what this function runs.
#[inline(never)]
fn hot_path(values: &[Vec<u8>]) -> usize {
    let (mut decoder, mut hasher, mut bytes) = (Decoder::new(None), IdHasher::default(), 0);
    let (mut fold, mut sealer, mut ids) =
        (Fold::default(), Sealer::default(), HashSet::with_hasher(FixedState::default()));
    for batch in values.chunks(1_000) {
        for value in batch {
            let event = decoder.usage(value).expect("it is valid");
            black_box(hasher.fingerprint(&event));
            if ids.insert(hasher.key(&event)) {
                let Ok(_) = fold.add(&event, &Empty);
            }
        }
        fold.end_batch();
    }
    let Ok(()) = sealer.seal(&fold.freeze(), |sealed| {
        bytes += sealed.block.len();
        Ok::<_, Infallible>(())
    });
    bytes
}

fn main() {
    if std::env::args().any(|argument| argument == "instructions") {
        println!("{} bytes of blocks", hot_path(&values(INSTRUCTIONS_OF)));
        return;
    }
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
