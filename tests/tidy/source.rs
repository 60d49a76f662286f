//! A Rust file read just well enough for the rules: its code without comments, strings and characters, and which of
//! its lines are tests. It is no parser; rustfmt and the compiler keep the rest in shape.

use std::ops::Range;

/// One Rust file.
pub struct Source {
    /// Its path below the project's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its text with the insides of comments, strings and character literals blanked; of the same length.
    pub code: String,
    tests: Vec<Range<usize>>,
    line_starts: Vec<usize>,
}

impl Source {
    /// Reads `text`, which stands at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = test_items(&code);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, tests, line_starts }
    }

    /// The line, from 1, of a byte of the text.
    pub fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// Whether a byte of the text belongs to a test: below `tests/`, in a file of tests, or behind `#[cfg(test)]`.
    pub fn is_test(&self, at: usize) -> bool {
        let file = self.path.starts_with("tests/")
            || self.path.starts_with("benches/")
            || self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs"));
        file || self.tests.iter().any(|range| range.contains(&at))
    }

    /// The room in `src/` to which the file belongs: its folder, or its name without `.rs`.
    pub fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        Some(below.split_once('/').map_or(below.trim_end_matches(".rs"), |(folder, _)| folder))
    }

    /// Where `word` stands in the code, not as a part of a longer name.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_name) && !after.is_some_and(is_name)
        })
    }
}

/// Whether a character can be part of a name.
pub fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The end of the bracket that opens at byte `open`: the byte after its closing one.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The first `{` or `;` at or after `from` that stands in no bracket.
pub fn body_or_end(code: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b'{' | b';' => return at,
            b'(' | b'[' => at = closing(code, at),
            _ => at += 1,
        }
    }
    code.len()
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    let item = |(start, attribute): (usize, &str)| {
        let body = body_or_end(code, start + attribute.len());
        let end = if code.as_bytes().get(body) == Some(&b'{') { closing(code, body) } else { body };
        start..end
    };
    code.match_indices("#[cfg(test)]").map(item).collect()
}

fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = blanked_until(text, at);
        if end == at {
            let next = text[at..].chars().next().map_or(1, char::len_utf8);
            code.push_str(&text[at..at + next]);
            at += next;
        } else {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The end of the comment, string or character literal that starts at `at`; `at` itself when none does.
fn blanked_until(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let until = |found: Option<usize>, length: usize| found.map_or(text.len(), |found| at + found + length);
    if rest.starts_with("//") {
        return until(rest.find('\n'), 0);
    }
    if rest.starts_with("/*") {
        return until(rest.find("*/"), 2);
    }
    let in_name = text[..at].chars().next_back().is_some_and(is_name);
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_name);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = rest.len() - raw.len() + hashes + 1;
            return until(rest[open..].find(&end).map(|found| open + found), end.len());
        }
    }
    if rest.starts_with('"') {
        return at + quoted(rest, '"');
    }
    let mut characters = rest.chars().skip(1);
    let (first, second) = (characters.next(), characters.next());
    // `'a` without a closing quote is a lifetime.
    if rest.starts_with('\'') && (first == Some('\\') || second == Some('\'')) {
        return at + quoted(rest, '\'');
    }
    at
}

/// The length of a literal that starts with `quote` and ends with the next one that is not escaped.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    rest.len()
}
