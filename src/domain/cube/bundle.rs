//! A bundle: the blocks of one (org, UTC day) as the store keeps them, each behind its length. What a flush adds is a bundle too,
//! and two bundles one after the other are one. Next to read: `merge`.

use super::block::Block;
use super::merge::merge;
use crate::domain::cube::bytes::{Reader, StoredError, put_u64};

/// Appends a block.
pub fn push(out: &mut Vec<u8>, block: &[u8]) {
    put_u64(out, block.len() as u64);
    out.extend_from_slice(block);
}

/// The blocks of a bundle.
///
/// # Errors
/// When the bytes are none.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, StoredError> {
    let mut reader = Reader::new("bundle", bytes);
    let mut blocks = Vec::new();
    while !reader.rest().is_empty() {
        let length = usize::try_from(reader.u64()?).map_err(|_| reader.wrong("a length is too large"))?;
        blocks.push(Block::read(reader.bytes(length)?)?);
    }
    Ok(blocks)
}

/// The facts of several bundles in one, equal facts added up: the same facts give the same bytes, however they were spread.
///
/// # Errors
/// When the bytes of one are none.
pub fn merged<'a>(bundles: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, StoredError> {
    let mut all = Vec::new();
    for bundle in bundles {
        all.append(&mut blocks(bundle)?);
    }
    if all.is_empty() {
        return Err(Reader::new("bundle", &[]).wrong("it has no block"));
    }
    let mut out = Vec::new();
    merge(&all)?.iter().for_each(|block| push(&mut out, block));
    Ok(out)
}
