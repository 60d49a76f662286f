//! The house keeps its rules: what each room may import, how long files and functions are, what is documented.
//!
//! `rules` says what is wrong with one source file, `source` reads Rust just well enough for that, and `self_test` shows
//! that each rule can fail. ARCHITECTURE.md, "The house", says why the rooms are what they are.

mod rules;
mod self_test;
mod source;

use std::path::{Path, PathBuf};

use rules::{Fault, check_rust, check_text};
use source::Source;

/// Folders that are not part of the project's text.
const SKIPPED: [&str; 3] = [".git", "target", "data"];

/// What a person wrote; anything else (images, fixtures of bytes, lock files) is not looked at.
const TEXT: [&str; 13] =
    ["rs", "md", "toml", "avsc", "json", "yaml", "yml", "sh", "xml", "properties", "py", "html", "js"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&&*name) {
            files(&path, found);
        }
        let text = path.extension().is_some_and(|ending| TEXT.iter().any(|text| ending == *text));
        if path.is_file() && (text || name == "Makefile" || path.ends_with(".ci/run")) {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_the_rules_of_the_house() {
    let root = Path::new(".");
    let mut found = Vec::new();
    files(root, &mut found);
    found.sort();
    let mut faults: Vec<Fault> = Vec::new();
    for path in &found {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        faults.extend(check_text(&name, &text));
        if path.extension().is_some_and(|ending| ending == "rs") {
            faults.extend(check_rust(&Source::new(&name, &text)));
        }
    }
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(found.len() > 30, "the project's files were not found under its root");
    assert!(told.is_empty(), "{} faults:\n{}", told.len(), told.join("\n"));
}

#[test]
fn a_test_that_the_architecture_names_is_there() {
    let text = std::fs::read_to_string("ARCHITECTURE.md").unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let named: Vec<(&str, &str)> = quoted.filter_map(|quoted| quoted.split_once(".rs::")).collect();
    assert!(named.len() > 15, "{} tests are named", named.len());
    for (file, name) in named {
        let source = std::fs::read_to_string(format!("{file}.rs")).unwrap_or_default();
        assert!(
            source.contains(&format!("#[test]\n    fn {name}("))
                || source.contains(&format!("#[test]\nfn {name}(")),
            "{file}.rs has no test {name}"
        );
    }
}
