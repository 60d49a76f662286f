//! Each rule can fail: bad snippets with the rule and line that must be told, and clean ones with none.

use crate::rules::{Fault, Rule, check_rust, check_text};
use crate::source::Source;

fn faults(path: &str, text: &str) -> Vec<(Rule, usize)> {
    let mut faults: Vec<Fault> = check_text(path, text);
    faults.extend(check_rust(&Source::new(path, text)));
    faults.iter().map(|fault| (fault.rule, fault.line)).collect()
}

fn told(path: &str, text: &str, rule: Rule, line: usize) {
    assert_eq!(faults(path, text), [(rule, line)], "{path}:\n{text}");
}

fn clean(path: &str, text: &str) {
    assert_eq!(faults(path, text), [], "{path}:\n{text}");
}

#[test]
fn a_room_imports_only_what_its_row_names() {
    for (path, line) in [
        ("src/domain/a.rs", "use crate::store::Store;"),
        ("src/codec/a.rs", "fn f() { crate::kafka::open() }"),
        ("src/kafka/a.rs", "use crate::processor::worker::Worker;"),
        ("src/kafka/a.rs", "use crate::{domain::time::Hour, http::Server};"),
        ("src/query/a.rs", "use crate::store::{Shelf, Writer};"),
        ("src/cli/run.rs", "use crate::app;"),
        ("src/clock.rs", "use crate::kafka;"),
        ("src/unheard_of/a.rs", ""),
        ("src/store/a.rs", "use super::super::kafka::Source;"),
        ("src/store/mod.rs", "use super::kafka::Source;"),
        ("src/clock.rs", "use super::kafka::Source;"),
        ("src/store/deep/a.rs", "use super::super::super::kafka::Source;"),
    ] {
        let at = if line.is_empty() { 1 } else { 2 };
        told(path, &format!("//! Text.\n{line}\n"), Rule::Import, at);
    }
    for (path, line) in [
        ("src/domain/a.rs", "use crate::domain::time::Hour;\nuse super::time::Day;"),
        ("src/kafka/a.rs", "use crate::processor::ports::{Sink, Source};"),
        ("src/query/a.rs", "use crate::store::{Shelf, StoreSnapshot, StoreReader};"),
        ("src/store/deep/a.rs", "use super::super::Store;"),
        ("src/app.rs", "use crate::{http::Server, kafka};"),
        ("src/codec/a.rs", "// crate::kafka\nconst A: &str = \"crate::kafka::x\"; const B: char = '\\'';"),
        ("src/codec/mod.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}"),
    ] {
        clean(path, &format!("//! Text.\n{line}\n"));
    }
}

#[test]
fn a_native_client_has_one_importer() {
    told("src/query/a.rs", "//! Text.\nuse rocksdb::DB;\n", Rule::Importer, 2);
    told("src/processor/a.rs", "//! Text.\nfn f(a: rdkafka::Offset) {}\n", Rule::Importer, 2);
    told("src/kafka/a.rs", "//! Text.\nuse axum as web;\n", Rule::Importer, 2);
    clean("src/store/a.rs", "//! Text, as rocksdb::DB has it.\nuse rocksdb::DB;\nfn f(rdkafka: u8) {}\n");
}

#[test]
fn the_domain_is_pure() {
    for line in [
        "use serde::Serialize;",
        "use std::fs;",
        "fn f() { std::net::lookup() }",
        "fn f() { tracing::info!(1) }",
        "use std::time::SystemTime;",
        "use std::{fmt, fs};",
        "fn f() { jiff::Timestamp::now() }",
    ] {
        told("src/domain/a.rs", &format!("//! Text.\n{line}\n"), Rule::Pure, 2);
    }
    clean("src/domain/a.rs", "//! No serde, no tracing.\nuse std::fmt;\nfn observed() -> u8 { 1 }\n");
}

#[test]
fn files_and_functions_are_short() {
    let file = format!("//! Text.\n{}", "// A line.\n".repeat(500));
    told("src/domain/a.rs", &file, Rule::FileLength, 501);
    told("tests/a.rs", &file, Rule::FileLength, 501);
    clean("src/domain/a.rs", &format!("//! Text.\n{}", "// A line.\n".repeat(499)));

    let function =
        |lines: usize| format!("fn long(\n    a: [u8; 3],\n) {{\n{}}}\n", "    a();\n".repeat(lines - 4));
    told("src/domain/a.rs", &format!("//! Text.\n\n{}", function(71)), Rule::FunctionLength, 3);
    clean("src/domain/a.rs", &format!("//! Text.\n\n{}", function(70)));
    clean("src/domain/a.rs", &format!("//! Text.\n#[cfg(test)]\nmod tests {{\n{}}}\n", function(71)));
    // Braces within texts and characters count for nothing.
    let texts = "    let a = (\"{\", '{', r#\"{\"#, b'{');\n    // {\n".repeat(30);
    clean("src/domain/a.rs", &format!("//! Text.\nfn f<'a>() {{\n{texts}}}\nfn g() {{\n}}\n"));
}

#[test]
fn every_file_opens_with_its_purpose() {
    told("src/domain/a.rs", "use std::fmt;\n", Rule::Opening, 1);
    told("tests/a.rs", "//!\n", Rule::Opening, 1);
    told("benches/a.rs", "", Rule::Opening, 1);
}

#[test]
fn every_public_item_has_a_docstring() {
    for item in [
        "pub fn f() {}",
        "pub const fn f() {}",
        "pub async fn f() {}",
        "pub struct S;",
        "pub struct S(pub u8);",
        "pub enum E {}",
        "pub trait T {}",
        "pub const C: u8 = 1;",
        "pub static C: u8 = 1;",
        "pub type T = u8;",
        "pub mod m {}",
        "#[must_use]\npub fn f() {}",
        "// No docstring.\n#[derive(\n    Debug,\n)]\npub struct S;",
        "impl S {\n    pub fn f() {}\n}",
    ] {
        let line = 1 + item.lines().position(|line| line.trim().starts_with("pub ")).unwrap() + 1;
        told("src/domain/a.rs", &format!("//! Text.\n{item}\n"), Rule::Docstring, line);
    }
    for item in [
        "/// Doc.\n#[must_use]\n#[derive(\n    Debug,\n)]\npub struct S {\n    pub field: u8,\n}",
        "pub mod m;\npub use m::S;\npub(crate) fn f() {}\nconst S: &str = \"\npub fn f() {}\n\";",
        "#[cfg(test)]\nmod tests {\n    pub fn f() {}\n}",
    ] {
        clean("src/domain/a.rs", &format!("//! Text.\n{item}\n"));
    }
}

#[test]
fn errors_are_named_and_nothing_is_unwrapped() {
    told("src/codec/a.rs", "//! Text.\nfn f() { g()\n.unwrap() }\n", Rule::Unwrap, 3);
    clean("src/codec/a.rs", "//! Text.\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }\n");
    clean("src/codec/tests.rs", "//! Text.\nfn f() { g().unwrap() }\n");
    told("src/codec/a.rs", "//! Text.\nuse anyhow::Result;\n", Rule::Anyhow, 2);
    told("src/app.rs", "//! Text.\nfn f() -> anyhow::Result<()> {}\n", Rule::Anyhow, 2);
    clean("src/cli/a.rs", "//! Text.\nuse anyhow::Result;\n");
    clean("src/main.rs", "//! Text.\nfn main() -> anyhow::Result<()> {}\n");
}

#[test]
fn no_text_names_a_path_of_one_machine() {
    let path = ["/ho", "me/ada/tallyman"].concat();
    told("src/domain/a.rs", &format!("//! Text.\n// {path}\n"), Rule::MachinePath, 2);
    assert_eq!(check_text("README.md", &format!("# Tallyman\n\nSee {path}.\n")).len(), 1);
    assert!(check_text("README.md", "see /v1/orgs/acme and ./data").is_empty());
}
