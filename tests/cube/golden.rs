//! The bytes of a block, which must read for ever: every kind of column, a value that is absent, and latencies.

use tallyman::domain::cube::block::Block;
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::cube::segment::{Frozen, Segment};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::Hour;
use tallyman::domain::usage::dimension::Dimension;

/// A block of the first version, in hexadecimal: `segment` below, sealed.
const VERSION_1: &str = include_str!("../fixtures/cube/block-1.hex");

/// Constant (events), multiples of a step (credits), the same as the credits (those of events that ended ok), far apart (value),
/// least and greatest multipliers of which one fact has none, and two latency buckets.
fn segment() -> Segment {
    let mut segment = Segment::default();
    for number in 0..4_i64 {
        let mut values = [None; Dimension::COUNT];
        values[Dimension::User.index()] =
            [None, Some("ada"), Some("bob"), Some("ada")][usize::try_from(number).unwrap()];
        values[Dimension::Product.index()] = Some("chat");
        let symbols = segment.symbols("acme", &values);
        let mut addition = segment.append(symbols, Hour(480_000 + i32::try_from(number).unwrap()));
        let credits = 1_500 + 500 * number;
        addition.add(Field::CREDITS, credits).add(Field::EVENTS, 1).add(Field::OK_CREDITS, credits);
        if number > 0 {
            addition.add(Field::MULTIPLIER_MIN, 9_999 + number).add(Field::MULTIPLIER_MAX, 9_999 + number);
            addition.add(Field::latency_bucket(usize::try_from(10 + number).unwrap()), 1);
        }
    }
    let mut far = Tally::new();
    far.add(Field::VALUE, 1 << 70);
    let symbols = segment.symbols("acme", &[None; Dimension::COUNT]);
    segment.append_all(symbols, Hour(480_000), &far);
    segment
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_block_has_the_bytes_that_it_always_had_and_they_are_read() {
    let mut blocks = Vec::new();
    let frozen = segment().freeze(Frozen::default());
    Sealer::default()
        .seal(&frozen, |sealed| {
            blocks.push(sealed.block.to_vec());
            Ok::<(), ()>(())
        })
        .unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!(hex(&blocks[0]), VERSION_1.trim());
    let block = Block::read(&blocks[0]).unwrap();
    let credits = block.field(Field::CREDITS).unwrap().unwrap();
    let all: Vec<i128> = (0..block.rows()).map(|row| credits.get(row)).collect();
    assert_eq!(all, [0, 1_500, 2_000, 3_000, 2_500]);
    let users = block.values(Dimension::User).unwrap();
    let all: Vec<_> = (0..block.rows()).map(|row| users.text(users.code(row))).collect();
    assert_eq!(all, [None, None, Some("ada"), Some("ada"), Some("bob")]);
}
