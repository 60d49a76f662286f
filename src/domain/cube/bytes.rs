//! Integers, texts and options as the store's keys and values hold them: varints in little-endian groups of seven
//! bits, signed ones zigzag, texts with their length before them.
//!
//! The same value always gives the same bytes: two stores are compared byte by byte. Nothing here knows what the numbers
//! mean: `cube` and `codec`'s `store_values` and `store_terms` do.

/// Why stored bytes are no value: something else wrote them, or they were damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes are no {what}: {problem}")]
pub struct StoredError {
    /// What they should have been.
    pub what: &'static str,
    /// What is wrong with them.
    pub problem: &'static str,
}

/// Appends an unsigned varint.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a signed varint (zigzag); small magnitudes are short.
pub fn put_i128(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = (value << 1 ^ value >> 127).cast_unsigned();
    if let Ok(short) = u64::try_from(zigzag) {
        return put_u64(out, short);
    }
    while zigzag >= 0x80 {
        out.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

/// Appends a signed varint (zigzag).
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, (value << 1 ^ value >> 63).cast_unsigned());
}

/// Appends a text: its length, then its bytes.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends 0, or 1 and the value.
pub fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Reads what the `put_` functions wrote, front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, which should be a `what`.
    #[must_use]
    pub const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// A reader past the version byte, which must be `version`.
    ///
    /// # Errors
    /// When the first byte is another.
    pub fn versioned(what: &'static str, bytes: &'a [u8], version: u8) -> Result<Self, StoredError> {
        let mut reader = Self::new(what, bytes);
        if reader.u8()? == version { Ok(reader) } else { Err(reader.wrong("unknown version")) }
    }

    /// An error about the bytes being read.
    #[must_use]
    pub const fn wrong(&self, problem: &'static str) -> StoredError {
        StoredError { what: self.what, problem }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], StoredError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(self.wrong("they end early"))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StoredError> {
        self.bytes(N)?.try_into().map_err(|_| self.wrong("they end early"))
    }

    /// The next byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, StoredError> {
        Ok(self.array::<1>()?[0])
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// When it is another or missing.
    pub fn bool(&mut self) -> Result<bool, StoredError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong("a flag is neither 0 nor 1")),
        }
    }

    fn varint(&mut self) -> Result<u128, StoredError> {
        let mut value = 0_u128;
        for (place, byte) in self.rest.iter().enumerate().take(19) {
            value |= u128::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(self.wrong("a number does not end"))
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// When it does not end or does not fit.
    pub fn u64(&mut self) -> Result<u64, StoredError> {
        u64::try_from(self.varint()?).map_err(|_| self.wrong("a number is too large"))
    }

    /// A signed varint.
    ///
    /// # Errors
    /// When it does not end.
    pub fn i128(&mut self) -> Result<i128, StoredError> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// A signed varint.
    ///
    /// # Errors
    /// When it does not end or does not fit.
    pub fn i64(&mut self) -> Result<i64, StoredError> {
        i64::try_from(self.i128()?).map_err(|_| self.wrong("a number is too large"))
    }

    /// A signed varint.
    ///
    /// # Errors
    /// When it does not end or does not fit.
    pub fn i32(&mut self) -> Result<i32, StoredError> {
        i32::try_from(self.i128()?).map_err(|_| self.wrong("a number is too large"))
    }

    /// A text.
    ///
    /// # Errors
    /// When it ends early or is no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, StoredError> {
        let length = usize::try_from(self.u64()?).map_err(|_| self.wrong("a length is too large"))?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| self.wrong("a text is no UTF-8"))
    }

    /// Nothing, or what `read` gives.
    ///
    /// # Errors
    /// What `read` gives, or when the flag is none.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, StoredError>,
    ) -> Result<Option<T>, StoredError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// As many values as the length before them says.
    ///
    /// # Errors
    /// What `read` gives.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, StoredError>,
    ) -> Result<Vec<T>, StoredError> {
        let length = self.u64()?;
        (0..length).map(|_| read(self)).collect()
    }

    /// All that is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// `value`, if no bytes are left.
    ///
    /// # Errors
    /// When some are.
    pub fn end<T>(self, value: T) -> Result<T, StoredError> {
        if self.rest.is_empty() { Ok(value) } else { Err(self.wrong("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_back(a in any::<u64>(), b in any::<i64>(), c in any::<i128>(), d in ".{0,20}") {
            let mut bytes = Vec::new();
            put_u64(&mut bytes, a);
            put_i64(&mut bytes, b);
            put_i128(&mut bytes, c);
            put_option(&mut bytes, Some(&d), |out, text| put_text(out, text));
            let mut reader = Reader::new("test", &bytes);
            prop_assert_eq!(reader.u64()?, a);
            prop_assert_eq!(reader.i64()?, b);
            prop_assert_eq!(reader.i128()?, c);
            prop_assert_eq!(reader.option(Reader::text)?, Some(d.as_str()));
            prop_assert!(reader.end(()).is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new("test", &bytes);
            while reader.i128().is_ok() {}
            let _ = Reader::new("test", &bytes).list(Reader::text);
        }
    }
}
