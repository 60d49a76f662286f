//! The rules. Each looks at one file and tells where it is broken; none knows what another looks at.

use std::fmt;

use crate::source::{Source, body_or_end, closing, is_name};

/// The most lines of a file.
const FILE_LINES_MAX: usize = 500;
/// The most lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// What a room may use beside itself and the domain: rooms, or single names of one. DESIGN.md, "The house".
const ROOMS: [(&str, &[&str]); 18] = [
    ("domain", &[]),
    ("codec", &[]),
    ("registry", &["codec", "telemetry", "clock"]),
    ("store", &["codec", "telemetry"]),
    ("processor", &["codec", "registry", "store", "telemetry", "clock"]),
    ("kafka", &["telemetry", "processor::ports", "query::ports"]),
    (
        "query",
        &["codec", "store::Shelf", "store::StoreReader", "store::StoreSnapshot", "store::StoreError", "clock"],
    ),
    ("report", &["query"]),
    ("gateway", &["codec", "kafka", "telemetry", "clock"]),
    ("http", &["query", "report", "gateway::table", "telemetry", "clock"]),
    ("telemetry", &[]),
    (
        "cli",
        &[
            "codec",
            "registry",
            "store",
            "processor",
            "kafka",
            "query",
            "report",
            "gateway",
            "http",
            "telemetry",
            "clock",
            "config",
        ],
    ),
    ("clock", &[]),
    ("memory", &[]),
    // It makes the settings that rooms own from raw text.
    (
        "config",
        &[
            "codec::OutputEncoding",
            "codec::terms_document",
            "gateway::table",
            "kafka::KafkaSettings",
            "kafka::Topics",
            "telemetry",
        ],
    ),
    ("app", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// External crates with one importer each.
const ONE_IMPORTER: [(&str, &str); 6] = [
    ("rocksdb", "store"),
    ("rdkafka", "kafka"),
    ("rdkafka_sys", "kafka"),
    ("axum", "http"),
    ("hyper", "http"),
    ("hyper_util", "http"),
];

/// What the pure core must not name: formats, I/O, clocks, logs, chance.
const NOT_IN_DOMAIN: [&str; 17] = [
    "serde",
    "serde_json",
    "apache_avro",
    "tracing",
    "tokio",
    "rand",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
];

/// What can follow `pub` in an item that wants a docstring; a re-export or a field does not.
const ITEMS: [&str; 12] =
    ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "union", "async", "unsafe", "extern"];

/// The rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A room uses what DESIGN.md does not let it use.
    Import,
    /// A crate is named outside the one room that may.
    Importer,
    /// The domain names something impure.
    Pure,
    /// A file is too long.
    FileLength,
    /// A function is too long.
    FunctionLength,
    /// A file does not open with `//!`.
    Opening,
    /// A public item has no docstring.
    Docstring,
    /// `unwrap` outside tests.
    Unwrap,
    /// `anyhow` outside main.rs and cli/.
    Anyhow,
    /// A path of somebody's machine.
    MachinePath,
}

/// One broken rule.
#[derive(Debug)]
pub struct Fault {
    path: String,
    /// The line, from 1.
    pub line: usize,
    /// Which rule.
    pub rule: Rule,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {:?}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// What is wrong with a Rust file.
pub fn check_rust(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let rules =
        [imports, importers, pure, file_length, function_length, opening, docstrings, unwraps, anyhow_stays_out];
    for rule in rules {
        rule(source, &mut |at, rule, what| {
            faults.push(Fault { path: source.path.clone(), line: source.line(at), rule, what });
        });
    }
    faults
}

/// What is wrong with any text of the project.
pub fn check_text(path: &str, text: &str) -> Vec<Fault> {
    // Written in two halves, so that this file keeps its own rule.
    let machine = [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"], ["/Us", "ers/"]].map(|halves| halves.concat());
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(found) = machine.iter().find(|machine| line.contains(machine.as_str())) {
            let what = format!("`{found}` is a path of one machine; derive it or let it be configured");
            faults.push(Fault { path: path.to_owned(), line: number + 1, rule: Rule::MachinePath, what });
        }
    }
    faults
}

type Tell<'a> = &'a mut dyn FnMut(usize, Rule, String);

fn imports(source: &Source, tell: Tell<'_>) {
    let Some(room) = source.room() else { return };
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    let Some(allowed) = allowed else {
        return tell(0, Rule::Import, format!("`{room}` is no room of the house; see DESIGN.md and this table"));
    };
    for at in source.words("crate") {
        let Some(rest) = source.code[at..].strip_prefix("crate::") else { continue };
        for path in used_paths(rest, 2) {
            let used = path.split("::").next().unwrap_or_default();
            let ours = used == room || used == "domain" || allowed.contains(&"*");
            if !ours && !allowed.contains(&used) && !allowed.contains(&path.as_str()) {
                tell(at, Rule::Import, format!("{room}/ may not use `crate::{path}`"));
            }
        }
    }
    let modules = source.path.trim_end_matches("/mod.rs").matches('/').count();
    for at in source.words("super").filter(|at| !source.code[..*at].ends_with("super::") && !source.is_test(*at)) {
        let climbs = source.code[at..].split("::").take_while(|name| *name == "super").count();
        if climbs >= modules {
            tell(at, Rule::Import, "this `super` leaves the room; name the path from `crate`".to_owned());
        }
    }
}

/// The paths that a `use` tree or a path names, `levels` names deep: `store::{Shelf, reader::Reader}` are
/// `store::Shelf` and `store::reader`.
fn used_paths(tree: &str, levels: usize) -> Vec<String> {
    let tree = tree.trim_start();
    if tree.starts_with('{') {
        let inside = &tree[1..closing(tree, 0).saturating_sub(1).max(1)];
        return top_level_parts(inside).into_iter().flat_map(|part| used_paths(part, levels)).collect();
    }
    let length = tree.find(|character| !is_name(character)).unwrap_or(tree.len());
    let (name, rest) = tree.split_at(length);
    match rest.strip_prefix("::").filter(|_| levels > 1) {
        _ if name.is_empty() => Vec::new(),
        None => vec![name.to_owned()],
        Some(rest) => used_paths(rest, levels - 1).into_iter().map(|below| format!("{name}::{below}")).collect(),
    }
}

fn top_level_parts(list: &str) -> Vec<&str> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < list.len() {
        match list.as_bytes()[at] {
            b'{' => at = closing(list, at),
            b',' => {
                parts.push(&list[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&list[start..]);
    parts
}

/// Where a crate is named as a crate: at the start of a path or in a `use`.
fn crate_uses(source: &Source, name: &str) -> Vec<usize> {
    let is_crate = |at: &usize| {
        let (before, after) = (source.code[..*at].trim_end(), &source.code[at + name.len()..]);
        let in_path = before.ends_with("::") && !before.trim_end_matches("::").ends_with([' ', '(', '\n']);
        !in_path && (after.starts_with("::") || before.ends_with("use") || before.ends_with("crate"))
    };
    source.words(name).filter(is_crate).collect()
}

fn importers(source: &Source, tell: Tell<'_>) {
    let Some(room) = source.room() else { return };
    for (name, owner) in ONE_IMPORTER.iter().filter(|(_, owner)| *owner != room) {
        for at in crate_uses(source, name) {
            tell(at, Rule::Importer, format!("only {owner}/ may name `{name}`"));
        }
    }
}

fn pure(source: &Source, tell: Tell<'_>) {
    if source.room() != Some("domain") {
        return;
    }
    for name in NOT_IN_DOMAIN {
        for at in source.words(name) {
            tell(at, Rule::Pure, format!("domain/ must not name `{name}`: it is pure"));
        }
    }
    for (at, _) in source.code.match_indices("std::{") {
        tell(at, Rule::Pure, "one `use` for each of std's modules, so that they can be checked".to_owned());
    }
}

fn file_length(source: &Source, tell: Tell<'_>) {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines, at most {FILE_LINES_MAX}; find the second idea and give it a file");
        tell(source.text.len() - 1, Rule::FileLength, what);
    }
}

fn function_length(source: &Source, tell: Tell<'_>) {
    for at in source.words("fn") {
        let named = source.code[at + 2..].trim_start().starts_with(is_name);
        let body = body_or_end(&source.code, at);
        if !named || source.is_test(at) || source.code.as_bytes().get(body) != Some(&b'{') {
            continue;
        }
        let lines = source.line(closing(&source.code, body) - 1) - source.line(at) + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = source.code[at..].split(['(', '<']).next().unwrap_or_default();
            tell(at, Rule::FunctionLength, format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
}

fn opening(source: &Source, tell: Tell<'_>) {
    if !source.text.starts_with("//! ") {
        tell(0, Rule::Opening, "open with `//!`: purpose, what it must never do, where to read next".to_owned());
    }
}

fn docstrings(source: &Source, tell: Tell<'_>) {
    if source.room().is_none() {
        return;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let opens_line = |at: &usize| source.code[..*at].trim_end_matches(' ').ends_with('\n');
    for at in source.words("pub").filter(opens_line).filter(|at| !source.is_test(*at)) {
        let line = source.line(at) - 1;
        let declared = lines[line].trim().strip_prefix("pub ").and_then(|rest| rest.split(' ').next());
        let item = declared.is_some_and(|keyword| ITEMS.contains(&keyword));
        let in_own_file = declared == Some("mod") && lines[line].ends_with(';');
        if item && !in_own_file && !documented(&lines, line) {
            tell(at, Rule::Docstring, format!("no docstring above `{}`", lines[line].trim()));
        }
    }
}

/// Whether a doc comment stands above `line`, attributes between allowed.
fn documented(lines: &[&str], line: usize) -> bool {
    let mut above = lines[..line].iter().rev().map(|line| line.trim()).peekable();
    while let Some(line) = above.next() {
        if line.starts_with("///") || line.starts_with("#[doc") {
            return true;
        }
        if line.starts_with("#[") {
            continue;
        }
        // The last line of an attribute over several lines: go up to its first.
        if !line.ends_with(']') || !above.any(|line| line.starts_with("#[")) {
            return false;
        }
    }
    false
}

fn unwraps(source: &Source, tell: Tell<'_>) {
    for (at, _) in source.code.match_indices(".unwrap()") {
        if !source.is_test(at) {
            tell(at, Rule::Unwrap, "return an error, or `expect` with the invariant".to_owned());
        }
    }
}

fn anyhow_stays_out(source: &Source, tell: Tell<'_>) {
    if matches!(source.room(), None | Some("main" | "cli")) {
        return;
    }
    for at in crate_uses(source, "anyhow") {
        tell(at, Rule::Anyhow, "one error enum a room; anyhow only in main.rs and cli/".to_owned());
    }
}
