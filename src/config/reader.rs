//! Takes settings out of the raw entries one by one. What is asked for is known; what is left at the end is not, and
//! is told with the nearest known key. All problems are gathered, so that a person mends them in one go.

use super::entries::{Entries, Entry, Origin, Raw, meant};
use super::units::Parsed;
use super::{Effective, Secret};

/// Entries still to be taken, and what came of those that were.
pub(super) struct Reader {
    entries: Entries,
    /// Environment variables whose names are nearly those of settings.
    strays: Vec<String>,
    known: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) effective: Vec<Effective>,
}

impl Reader {
    pub(super) fn new(entries: Entries, strays: Vec<String>) -> Self {
        Self { entries, strays, known: Vec::new(), problems: Vec::new(), effective: Vec::new() }
    }

    fn take(&mut self, key: &str) -> Option<Entry> {
        self.known.push(key.to_owned());
        self.entries.remove(key)
    }

    /// Notes a problem with `key`.
    pub(super) fn problem(&mut self, origin: &Origin, key: &str, what: &str) {
        self.problems.push(match origin {
            Origin::Default => format!("`{key}` {what}"),
            origin => format!("{origin}: `{key}` {what}"),
        });
    }

    /// Notes a problem with a key that was taken already, at the place where it was set.
    pub(super) fn problem_with(&mut self, key: &str, what: &str) {
        let taken = self.effective.iter().find(|taken| taken.key == key);
        let origin = taken.map_or(Origin::Default, |taken| taken.origin.clone());
        self.problem(&origin, key, what);
    }

    fn note(&mut self, key: &str, value: String, origin: Origin) {
        self.effective.push(Effective { key: key.to_owned(), value, origin });
    }

    /// A setting that may be absent.
    pub(super) fn optional<T>(&mut self, key: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let entry = self.take(key)?;
        let Raw::Scalar(raw) = entry.raw else {
            self.problem(&entry.origin, key, "is a list, it must be a single value");
            return None;
        };
        match parse(&raw) {
            Ok(value) => {
                self.note(key, raw, entry.origin);
                Some(value)
            }
            Err(wanted) => {
                self.problem(&entry.origin, key, &format!("is `{raw}`: it {wanted}"));
                None
            }
        }
    }

    /// A setting with a default, which is a text like any other.
    pub(super) fn get<T>(&mut self, key: &str, default: &str, parse: impl Fn(&str) -> Parsed<T>) -> T {
        let set = self.entries.contains_key(key);
        if let Some(value) = self.optional(key, &parse) {
            return value;
        }
        if !set {
            self.note(key, default.to_owned(), Origin::Default);
        }
        parse(default).expect("a default is a legal value")
    }

    /// A list of texts that may be absent. In the environment: comma separated.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let entry = self.take(key)?;
        let list = match entry.raw {
            Raw::List(list) => list,
            Raw::Scalar(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
        };
        self.note(key, format!("[{}]", list.join(", ")), entry.origin);
        Some(list)
    }

    /// A secret: `key` itself, or the content of the file that `key`_file names.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let (given, file) = (self.take(key), self.take(&file_key));
        if let (Some(given), Some(_)) = (&given, &file) {
            self.problem(&given.origin, key, &format!("and `{file_key}` are both set: keep one"));
            return None;
        }
        let entry = given.or_else(|| file.clone())?;
        let Raw::Scalar(raw) = entry.raw else {
            self.problem(&entry.origin, key, "is a list, it must be a single value");
            return None;
        };
        if file.is_none() {
            self.note(key, "(secret)".to_owned(), entry.origin);
            return Some(Secret(raw));
        }
        match std::fs::read_to_string(&raw) {
            Ok(content) => {
                self.note(&file_key, raw, entry.origin);
                Some(Secret(content.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Err(error) => {
                self.problem(&entry.origin, &file_key, &format!("names `{raw}`, which cannot be read: {error}"));
                None
            }
        }
    }

    /// The names below `prefix` that are still there: for maps of free names.
    pub(super) fn below(&self, prefix: &str) -> Vec<String> {
        let names = self.entries.keys().filter_map(|key| key.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }

    /// Tells each key that nobody asked for, with the nearest known one, and each misspelt variable with the right one.
    pub(super) fn finish(&mut self) {
        for stray in std::mem::take(&mut self.strays) {
            if let Some(meant) = meant(&stray, self.known.iter().map(String::as_str)) {
                self.problems.push(format!("{stray}: the environment variable must be named `{meant}`"));
            }
        }
        let mut views = false;
        for (key, entry) in std::mem::take(&mut self.entries) {
            if key == "store.builtin_views" || key.starts_with("views[") {
                // Once for all keys of all tables.
                if !std::mem::replace(&mut views, true) {
                    let what = "is no longer needed: every question is answered without a view. Remove it";
                    self.problem(&entry.origin, &key, what);
                }
                continue;
            }
            let score = |known: &String| strsim::normalized_damerau_levenshtein(known, &key);
            let nearer = |one: &&String, other: &&String| score(one).total_cmp(&score(other));
            let nearest = self.known.iter().max_by(nearer).map_or("", String::as_str);
            let what = format!("is not known; the nearest known key is `{nearest}`");
            self.problem(&entry.origin, &key, &what);
        }
    }
}
