//! The schemas keep their promise: every version of a record reads every other (`FULL_TRANSITIVE`), and no field's logical
//! type, precision or scale ever changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use tallyman::codec::RecordType;
use tallyman::codec::compatibility::full;
use tallyman::codec::schemas::{current, fingerprint, history, known};

fn root() -> PathBuf {
    PathBuf::from(".")
}

fn parse(path: &Path) -> Schema {
    Schema::parse_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every version of a record that is kept in `schemas/history/<Record>/`.
fn older_versions(record: RecordType) -> Vec<PathBuf> {
    let folder = root().join("schemas/history").join(record.name());
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "avsc"));
    paths.sort();
    paths
}

#[test]
fn every_version_of_a_record_reads_every_other() {
    for record in RecordType::ALL {
        let mut versions: Vec<(PathBuf, Schema)> =
            older_versions(record).into_iter().map(|path| (path.clone(), parse(&path))).collect();
        let present = root().join("schemas").join(format!("{}.avsc", record.name()));
        versions.push((present.clone(), parse(&present)));
        for (path, one) in &versions {
            for (other_path, other) in &versions {
                full(one, other)
                    .unwrap_or_else(|why| panic!("{} and {}: {why}", path.display(), other_path.display()));
            }
        }
    }
}

#[test]
fn a_breaking_change_fails_the_check() {
    let ours = &current(RecordType::UsageEvent).schema;
    let fixture =
        |name: &str| parse(&root().join("tests/fixtures/schemas").join(format!("UsageEvent.{name}.avsc")));
    let error = full(ours, &fixture("other_scale")).unwrap_err();
    assert_eq!(
        error,
        "field `credits` is bytes/decimal(18,6) in one version and bytes/decimal(18,4) in the other"
    );
    let error = full(ours, &fixture("new_required_field")).unwrap_err();
    assert_eq!(error, "field `region` is missing and has no default");
    full(ours, &fixture("compatible")).unwrap();
}

#[test]
fn each_older_version_is_compiled_in() {
    let compiled: Vec<u64> = history().iter().map(|(_, text)| fingerprint(text).unwrap()).collect();
    let mut files = 0;
    for record in RecordType::ALL {
        for path in older_versions(record) {
            assert!(
                compiled.contains(&fingerprint(&fs::read_to_string(&path).unwrap()).unwrap()),
                "add {} to HISTORY",
                path.display()
            );
            files += 1;
        }
    }
    assert_eq!(files, history().len(), "HISTORY names a version that schemas/history lacks");
}

#[test]
fn a_schema_is_the_record_of_its_file_and_its_fields_are_the_codecs() {
    for record in RecordType::ALL {
        let Schema::Record(schema) = &current(record).schema else { panic!("{} is no record", record.name()) };
        assert_eq!(schema.name.fullname(None), record.subject());
        assert!(schema.doc.is_some(), "{} has no doc", record.name());
        let names: Vec<&str> = schema.fields.iter().map(|field| &*field.name).collect();
        assert_eq!(names, record.fields(), "{}", record.name());
        for field in &schema.fields {
            assert!(field.doc.is_some(), "{}.{} has no doc", record.name(), field.name);
        }
    }
}

#[test]
fn an_optional_field_is_a_union_with_null_first_and_null_as_its_default() {
    for schema in known() {
        let Schema::Record(record) = &schema.schema else { unreachable!() };
        for field in &record.fields {
            if let Schema::Union(union) = &field.schema {
                assert_eq!((union.variants().len(), &union.variants()[0]), (2, &Schema::Null), "{}", field.name);
                assert_eq!(field.default, Some(serde_json::Value::Null), "{}", field.name);
            }
        }
    }
}

/// Two independent implementations agree, and a change of a schema's canonical form does not go unseen: values in
/// single-object encoding carry these numbers for ever.
#[test]
fn fingerprints_are_those_that_values_carry() {
    let text = fs::read_to_string(root().join("tests/fixtures/schemas/fingerprints.json")).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.len(), RecordType::COUNT);
    for record in RecordType::ALL {
        let other: serde_avro_fast::Schema = record.avsc().parse().unwrap();
        let ours = current(record).fingerprint;
        assert_eq!(ours.to_le_bytes(), *other.rabin_fingerprint(), "{}", record.name());
        assert_eq!(golden[record.name()], format!("{ours:016x}"), "keep the old text in schemas/history first");
    }
}
