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

/// Texts by symbol, in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Texts {
    /// Where text `n` ends in `bytes`; text 1 starts at 0.
    ends: Vec<usize>,
    bytes: String,
}

impl Texts {
    /// The text of a symbol; `None` for [`Symbol::ABSENT`].
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> Option<&str> {
        (symbol != Symbol::ABSENT).then(|| resolve(&self.ends, &self.bytes, symbol.0))
    }

    /// How many texts it holds; the last symbol's number.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes the texts that follow those held, as [`Interner::news`] gave them.
    pub fn append(&mut self, news: &Self) {
        let start = self.bytes.len();
        self.bytes.push_str(&news.bytes);
        self.ends.extend(news.ends.iter().map(|end| start + end));
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// Forgets all texts.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }
}

/// Texts and their symbols.
#[derive(Debug, Default)]
pub struct Interner {
    table: HashTable<u32>,
    texts: Texts,
    /// Texts that [`Interner::news`] gave already.
    told: usize,
    hasher: FixedState,
}

impl Interner {
    /// The symbol of `text`, new if need be; [`Symbol::ABSENT`] for none.
    ///
    /// # Panics
    /// Beyond 2^32 texts, which the memory bound of the working set forbids.
    pub fn intern(&mut self, text: Option<&str>) -> Symbol {
        let Some(text) = text else { return Symbol::ABSENT };
        let Self { table, texts: Texts { ends, bytes }, hasher, .. } = self;
        let hash = hasher.hash_one(text);
        if let Some(&symbol) = table.find(hash, |&symbol| resolve(ends, bytes, symbol) == text) {
            return Symbol(symbol);
        }
        bytes.push_str(text);
        ends.push(bytes.len());
        let symbol = u32::try_from(ends.len()).expect("the working set is bounded far below 2^32 texts");
        table.insert_unique(hash, symbol, |&symbol| hasher.hash_one(resolve(ends, bytes, symbol)));
        Symbol(symbol)
    }

    /// The text of a symbol of this interner; `None` for [`Symbol::ABSENT`].
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> Option<&str> {
        self.texts.text(symbol)
    }

    /// The texts that are new since the last call.
    #[must_use]
    pub fn news(&mut self) -> Texts {
        let Texts { ends, bytes } = &self.texts;
        let start = if self.told == 0 { 0 } else { ends[self.told - 1] };
        let news = Texts {
            ends: ends[self.told..].iter().map(|end| end - start).collect(),
            bytes: bytes[start..].to_owned(),
        };
        self.told = ends.len();
        news
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.texts.heap_bytes() + self.texts.ends.capacity() * 2 * size_of::<u32>()
    }

    /// Forgets all texts; every symbol given out before is void.
    pub fn clear(&mut self) {
        self.table.clear();
        self.texts.clear();
        self.told = 0;
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

    #[test]
    fn a_copy_that_takes_what_is_new_each_time_holds_the_same_texts() {
        let (mut interner, mut copy) = (Interner::default(), Texts::default());
        for round in 0..5 {
            let symbols: Vec<Symbol> =
                (0..round * 7).map(|n| interner.intern(Some(&format!("text {n} of many")))).collect();
            copy.append(&interner.news());
            assert!(symbols.iter().all(|&symbol| copy.text(symbol) == interner.text(symbol)));
        }
        assert_eq!(interner.news().ends.len(), 0);
    }
}
