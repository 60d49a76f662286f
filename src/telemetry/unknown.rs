//! Which unknown fields were logged already: each once for each source, a few at a time, in bounded memory.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// Lines in one [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// The most fields that are remembered; those beyond are counted and not named (Law 6).
const FIELDS_MAX: usize = 1_000;

/// The fields that were logged, by a hash of source and name.
#[derive(Default)]
pub(super) struct Named {
    fields: HashSet<u64>,
    window: Option<Instant>,
    lines: u32,
}

impl Named {
    /// Whether this field of this source is to be logged now. One that is not, because others were just now, is the next time.
    pub fn is_news(&mut self, source: &str, field: &str, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        (source, field).hash(&mut hasher);
        let hash = hasher.finish();
        if self.fields.contains(&hash) || self.fields.len() >= FIELDS_MAX {
            return false;
        }
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            (self.window, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES_MAX {
            return false;
        }
        self.lines += 1;
        self.fields.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_of_each_source_is_news_once() {
        let (mut named, now) = (Named::default(), Instant::now());
        for (source, field, news) in [
            ("a", "user", true),
            ("a", "user", false),
            ("b", "user", true),
            ("a", "colour", true),
            ("b", "user", false),
        ] {
            assert_eq!(named.is_news(source, field, now), news, "{source} {field}");
        }
    }

    #[test]
    fn many_fields_are_news_a_few_at_a_time_and_never_fill_the_memory() {
        let (mut named, start) = (Named::default(), Instant::now());
        let fields: Vec<String> = (0..2 * FIELDS_MAX).map(|number| number.to_string()).collect();
        let mut news = |now| fields.iter().filter(|field| named.is_news("a", field, now)).count();
        assert_eq!(news(start), LINES_MAX as usize);
        assert_eq!(news(start + WINDOW / 2), 0);
        assert_eq!(news(start + WINDOW), LINES_MAX as usize, "others are told later");
        let windows = u32::try_from(FIELDS_MAX).unwrap() / LINES_MAX;
        (2..windows).for_each(|window| assert_eq!(news(start + WINDOW * window), LINES_MAX as usize));
        assert_eq!(news(start + WINDOW * windows), 0);
    }
}
