//! The dictionary of a task's working set: texts become small integers, so that a text is touched once per batch.
//!
//! Symbols mean nothing beyond this process; stored keys hold the texts themselves, so a dictionary can be dropped
//! whenever its working set is.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// A text's number. [`Symbol::ABSENT`] stands for no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub u32);

impl Symbol {
    /// No text.
    pub const ABSENT: Self = Self(0);
}

/// Texts and their symbols.
#[derive(Debug, Default)]
pub struct Interner {
    table: HashTable<u32>,
    /// Where text `n` ends in `bytes`; text 1 starts at 0.
    ends: Vec<usize>,
    bytes: String,
    hasher: FixedState,
}

impl Interner {
    /// The symbol of `text`, new if need be; [`Symbol::ABSENT`] for none.
    ///
    /// # Panics
    /// Beyond 2^32 texts, which the memory bound of the working set forbids.
    pub fn intern(&mut self, text: Option<&str>) -> Symbol {
        let Some(text) = text else { return Symbol::ABSENT };
        let hash = self.hasher.hash_one(text);
        let found = self.table.find(hash, |&symbol| resolve(&self.ends, &self.bytes, symbol) == text);
        if let Some(&symbol) = found {
            return Symbol(symbol);
        }
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        let symbol = u32::try_from(self.ends.len()).expect("the working set is bounded far below 2^32 texts");
        let Self { table, ends, bytes, hasher } = self;
        table.insert_unique(hash, symbol, |&symbol| hasher.hash_one(resolve(ends, bytes, symbol)));
        Symbol(symbol)
    }

    /// The text of a symbol of this interner; `None` for [`Symbol::ABSENT`].
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> Option<&str> {
        (symbol != Symbol::ABSENT).then(|| resolve(&self.ends, &self.bytes, symbol.0))
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * (size_of::<usize>() + 2 * size_of::<u32>())
    }

    /// Forgets all texts; every symbol given out before is void.
    pub fn clear(&mut self) {
        self.table.clear();
        self.ends.clear();
        self.bytes.clear();
    }
}

fn resolve<'a>(ends: &[usize], bytes: &'a str, symbol: u32) -> &'a str {
    let place = symbol as usize - 1;
    let start = if place == 0 { 0 } else { ends[place - 1] };
    &bytes[start..ends[place]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_symbol_and_gives_itself_back() {
        let mut interner = Interner::default();
        let symbols: Vec<Symbol> = (0..1000).map(|n| interner.intern(Some(&format!("text {n}")))).collect();
        for (n, symbol) in symbols.iter().enumerate() {
            let text = format!("text {n}");
            assert_eq!(interner.text(*symbol), Some(text.as_str()));
            assert_eq!(interner.intern(Some(&text)), *symbol);
        }
        assert_eq!(interner.intern(None), Symbol::ABSENT);
        assert_eq!(interner.text(Symbol::ABSENT), None);
    }
}
