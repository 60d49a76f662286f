//! `tallyman policy apply` as a person uses it, against the embedded broker: what changes is shown before it is written,
//! nothing is written twice, and what cannot be valid is refused with its line and field.

use std::path::PathBuf;
use std::process::Command;

use tallyman::kafka::{Embedded, KafkaSettings, Producer, Sent, read_topic};

struct Desk {
    settings: KafkaSettings,
    dir: tempfile::TempDir,
    _broker: Embedded,
}

impl Desk {
    fn new() -> Self {
        let mut settings = KafkaSettings { partitions: 3, replication_factor: 1, ..KafkaSettings::default() };
        let broker = Embedded::start(&settings).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        Self { settings, dir: tempfile::tempdir().unwrap(), _broker: broker }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("terms.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Exit code, standard output and standard error, without the folder's name.
    fn apply(&self, text: &str, more: &[&str]) -> (i32, String, String) {
        self.ask(&["policy", "apply"], text, more)
    }

    /// The same of any command that takes a file of terms.
    fn ask(&self, command: &[&str], text: &str, more: &[&str]) -> (i32, String, String) {
        let path = self.file(text);
        let done = Command::new(env!("CARGO_BIN_EXE_tallyman"))
            .args(command)
            .arg(&path)
            .args(more)
            .env("TALLYMAN__KAFKA__BOOTSTRAP_SERVERS", &self.settings.bootstrap_servers)
            .env("TALLYMAN__LIMITS__DEFAULT", "allow")
            .env("USER", "ann")
            .env_remove("TALLYMAN_CONFIG")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let err = text(done.stderr).replace(&path.display().to_string(), "terms.yaml");
        (done.status.code().unwrap(), text(done.stdout), err)
    }

    fn records(&self) -> usize {
        let mut count = 0;
        read_topic(&self.settings, &self.settings.topics.policies, |_, _| count += 1).unwrap();
        count
    }
}

const TERMS: &str = "\
type: OrgPolicy
org_id: acme
plan: team
base_allocation: 1000
---
type: Budget
org_id: acme
budget_id: per-user
name: Each user
dimension: user
value: \"*\"
limit: 50
period: day
action: BLOCK
---
type: CreditGrant
org_id: acme
grant_id: welcome
credits: 25
kind: promo
effective_at: 2026-01-01T00:00:00Z
expires_at: 2027-01-01T00:00:00Z
---
type: Label
org_id: acme
dimension: user
value: u1
display_name: Ann
---
type: PurchaseDeclined
org_id: acme
purchase_id: p1
reason: no funds
";

#[test]
fn a_file_is_shown_before_it_is_written_and_applied_twice_writes_nothing() {
    let desk = Desk::new();
    let (code, out, err) = desk.apply(TERMS, &["--dry-run"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "OrgPolicy acme from 20",
        "(new)\n  + plan ",
        "  + base_allocation    1000.000000\n",
        "Budget acme per-user from",
        "CreditGrant acme welcome from 2026-01-01T00:00:00Z (new)",
        "Label acme user:u1 (new)",
        "PurchaseDeclined acme p1 (new)",
        "Dry run: 5 of 5 documents would be written to credit.policies.",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(desk.records(), 0);
    let (_, out, _) = desk.apply(TERMS, &[]);
    assert!(out.ends_with("5 of 5 documents written to credit.policies.\n"), "{out}");
    assert_eq!(desk.records(), 5);

    let (code, out, _) = desk.apply(TERMS, &[]);
    assert_eq!((code, desk.records()), (0, 5), "{out}");
    assert!(out.contains("OrgPolicy acme: unchanged (offset 0 since 20"), "{out}");
    assert!(out.ends_with("Nothing to write: all of it stands in credit.policies already.\n"), "{out}");

    let raised =
        TERMS.replace("base_allocation: 1000", "base_allocation: 2000\nlimit_mode: SOFT\nsoft_extra: \"0.5\"");
    let (_, out, _) = desk.apply(&raised, &[]);
    for part in [
        "(now offset 0 since 20",
        ", by ann)\n",
        "  ~ base_allocation  1000.000000 -> 2000.000000\n",
        "  ~ limit_mode       HARD -> SOFT\n",
        "  ~ soft_extra       0.000000 -> 0.500000\n",
        "Budget acme per-user: unchanged",
        "1 of 5 documents written",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("plan"), "only what changes is shown: {out}");
    assert_eq!(desk.records(), 6);
}

#[test]
fn a_scheduled_change_is_written_once_and_what_it_ends_is_told() {
    let desk = Desk::new();
    let policy = "type: OrgPolicy\norg_id: acme\nplan: team\nbase_allocation: 1000\n";
    let later = policy.replace("1000", "500") + "effective_at: 2099-01-01T00:00:00Z\n";
    let both = format!("{policy}---\n{later}");
    let (code, out, err) = desk.apply(&both, &[]);
    assert_eq!((code, desk.records()), (0, 2), "{err}");
    assert!(out.contains("from 2099-01-01T00:00:00Z (now offset 0 since"), "{out}");
    assert!(out.contains("  ~ base_allocation  1000.000000 -> 500.000000\n"), "{out}");
    assert_eq!(desk.apply(&both, &[]).0, 0);
    assert_eq!(desk.records(), 2);
    let (_, out, _) = desk.apply(&policy.replace("1000", "700"), &["--dry-run"]);
    assert!(
        out.contains("it holds until 2099-01-01T00:00:00Z, when the record at offset 1 takes its place"),
        "{out}"
    );
    // Who wrote it counts when the file says so.
    desk.apply(&format!("{policy}updated_by: bob\n"), &[]);
    assert_eq!(desk.records(), 3);
    desk.apply(&format!("{policy}updated_by: bob\n"), &[]);
    desk.apply(policy, &[]);
    assert_eq!(desk.records(), 3);
}

#[test]
fn what_cannot_be_valid_is_refused_with_line_and_field_and_keeps_all_out() {
    let desk = Desk::new();
    desk.apply("type: PurchaseDeclined\norg_id: acme\npurchase_id: p1\nreason: no funds\n", &[]);
    let good = "type: Label\norg_id: acme\ndimension: user\nvalue: u1\ndisplay_name: Ann\n---\n";
    let budget = "type: Budget\norg_id: acme\nbudget_id: b\nname: b\nlimit: 5\nperiod: day\naction: WARN\n";
    let cases: &[(String, &[&str])] = &[
        (
            format!("{budget}expires_at: 2020-01-01T00:00:00Z\neffective_at: 2026-01-01T00:00:00Z\n"),
            &["terms.yaml, document 2, line 14: `expires_at` is 2020-01-01T00:00:00Z, not after `effective_at` \
               2026-01-01T00:00:00Z: it would never hold"],
        ),
        (
            format!("{budget}value: u1\n---\n{}", budget.replace("limit: 5", "limit: -5").replace("WARN", "warn")),
            &[
                "terms.yaml, document 2, line 14: `value` needs a `dimension`",
                "terms.yaml, document 3, line 20: `limit` must lie within 0..10^9",
                "terms.yaml, document 3, line 22: `action` is \"warn\", none of the known values",
            ],
        ),
        (
            format!("{budget}---\n{}", budget.replace("limit: 5", "limit: 6")),
            &[
                "terms.yaml, document 3, line 15: `type` is that of document 2 from the same instant on: keep one of them",
            ],
        ),
        (
            "type: CreditGrant\norg_id: acme\ngrant_id: p1\ncredits: 5\nkind: purchase\n".to_owned(),
            &[
                "terms.yaml, document 2, line 9: `grant_id` was declined already, by the record at offset 0; grant \
               another id",
            ],
        ),
        (
            "type: Budgte\n".to_owned(),
            &["terms.yaml, document 2, line 7: `type` is \"Budgte\"; it must be one of"],
        ),
    ];
    for (text, faults) in cases {
        let (code, out, err) = desk.apply(&format!("{good}{text}"), &[]);
        assert_eq!(code, 2, "{text}: {out}");
        assert_eq!(err.lines().count(), faults.len() + 1, "{text}: {err}");
        for fault in *faults {
            assert!(err.contains(fault), "{fault}: {err}");
        }
        assert!(err.ends_with("nothing is written\n"), "{err}");
    }
    assert_eq!(desk.records(), 1);
}

#[test]
fn a_change_of_a_scheduled_grant_is_refused_where_it_would_start_the_grant_earlier() {
    let desk = Desk::new();
    let grant = "type: CreditGrant\norg_id: acme\ngrant_id: g\ncredits: 5\nkind: pack\n";
    let scheduled = format!("{grant}effective_at: 2099-12-01T00:00:00Z\n");
    assert_eq!(desk.apply(&scheduled, &[]).0, 0);
    let void = format!("{grant}voided_at: 2026-11-20T00:00:00Z\n");
    for (text, line) in [(void.clone(), 1), (format!("{void}effective_at: 2099-11-30T23:59:59Z\n"), 7)] {
        let (code, _, err) = desk.apply(&text, &[]);
        assert_eq!(code, 2, "{err}");
        let fault = format!("terms.yaml, document 1, line {line}: `effective_at` is ");
        assert!(err.contains(&fault), "{err}");
        let says = "before the grant's start 2099-12-01T00:00:00Z: it would start then, and at 2099-12-01T00:00:00Z \
                    what stands there would take this record's place; write `effective_at: 2099-12-01T00:00:00Z` or \
                    later";
        assert!(err.contains(says), "{err}");
    }
    let (code, out, err) = desk.apply(&format!("{void}effective_at: 2099-12-01T00:00:00Z\n"), &[]);
    assert_eq!((code, desk.records()), (0, 2), "{err}");
    assert!(out.contains("  ~ voided_at  none -> 2026-11-20T00:00:00Z\n"), "{out}");
}

#[test]
fn what_is_legal_and_perhaps_not_meant_is_noted() {
    let desk = Desk::new();
    let (code, out, _) = desk.apply(
        "type: OrgPolicy\norg_id: acme\nplan: p\nbase_allocation: 1\nsoft_extra: 5\n---\n\
         type: CreditGrant\norg_id: acmee\ngrant_id: g\ncredits: 5\nkind: pack\nprice: 3\n",
        &["--dry-run"],
    );
    assert_eq!(code, 0);
    for note in
        ["mean nothing while `limit_mode` is HARD", "`acmee` has no policy", "a `price` without a `currency`"]
    {
        assert!(out.contains(note), "{note}: {out}");
    }
}

#[test]
fn an_exact_simulation_of_an_org_that_the_log_does_not_know_is_refused() {
    let desk = Desk::new();
    let terms = "type: OrgPolicy\norg_id: nobody\nplan: p\nbase_allocation: 1\n";
    let simulate = || desk.ask(&["simulate", "nobody", "--exact", "--policy"], terms, &[]);
    let (code, out, err) = simulate();
    assert_eq!((code, &*out), (1, ""), "{err}");
    assert!(err.contains("org `nobody` has no usage and no policy in partition"), "{err}");
    desk.apply(terms, &[]);
    let (code, out, err) = simulate();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nobody from "), "{out}");
}

#[test]
fn an_exact_simulation_counts_usage_that_came_after_its_month_and_blocks_nothing_by_it() {
    let desk = Desk::new();
    let terms = "type: OrgPolicy\norg_id: acme\nplan: p\nbase_allocation: 5\neffective_at: 2020-01-01T00:00:00Z\n";
    assert_eq!(desk.apply(terms, &[]).0, 0);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let month = today.first_of_month();
    let before = month.yesterday().unwrap();
    let usage = format!(
        "{{\"type\":\"UsageEvent\",\"event_id\":\"e1\",\"source\":\"t\",\"occurred_at\":\"{before}T10:00:00Z\",\
         \"org_id\":\"acme\",\"product\":\"chat\",\"operation\":\"ask\",\"credits\":\"7\"}}"
    );
    let producer = Producer::new(&desk.settings, "late").unwrap();
    let sent = Sent { key: Some(b"acme"), value: Some(usage.as_bytes()), ..Sent::default() };
    producer.send(&desk.settings.topics.usage, &sent).unwrap();
    producer.flush(std::time::Duration::from_secs(10)).unwrap();
    // The whole range is asked for, and the closed month alone.
    for to in [today.tomorrow().unwrap(), month] {
        let from = before.first_of_month().to_string();
        let range = ["--from", &from, "--to", &to.to_string(), "--output", "json"];
        let (code, out, err) = desk.ask(&["simulate", "acme", "--exact", "--policy"], terms, &range);
        assert_eq!(code, 0, "{err}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        for side in ["actual", "simulated"] {
            let closed = &told[side][0];
            let sums = ["used", "allowance", "overage"].map(|name| closed[name].as_str().unwrap());
            assert_eq!(sums, ["7.000000", "5.000000", "2.000000"], "{side} up to {to}: {out}");
            assert_eq!(closed["blocked"], serde_json::json!([]), "{out}");
        }
    }
}

#[test]
fn a_record_that_changes_closed_periods_or_that_nothing_can_match_is_noted() {
    let desk = Desk::new();
    let policy = "type: OrgPolicy\norg_id: acme\nplan: p\nbase_allocation: 1\n";
    let apply = |text: &str| {
        let (code, out, err) = desk.apply(text, &[]);
        assert_eq!(code, 0, "{err}");
        out
    };
    assert!(!apply(policy).contains("note:"), "what holds from now on changes nothing that is over");
    let out = apply(&format!("{policy}effective_at: 2026-01-15T00:00:00Z\n"));
    assert!(
        out.contains("  note: it holds from 2026-01-15T00:00:00Z on, and the running period began at 20"),
        "{out}"
    );
    assert!(out.contains("closed periods change too: their allowance and overage, in `query periods`"), "{out}");
    assert!(!apply(&format!("{policy}effective_at: 2026-01-15T00:00:00Z\n")).contains("note:"), "it stands there");
    let out = apply(&format!("{policy}effective_at: 1795000000\n"));
    let says = "  note: `effective_at` is 1970-01-01T00:29:55Z, before the year 2000: a whole number is microseconds since \
                1970; as seconds the number would be 2026-11-18T";
    assert!(out.contains(says), "{out}");
    let budget = "type: Budget\norg_id: acme\nbudget_id: b\nname: b\ndimension: user\nvalue: \"ann \"\nlimit: 5\nperiod: day\n\
                  action: BLOCK\n";
    let out = apply(budget);
    assert!(
        out.contains("  note: `value` is \"ann \", with a blank at its start or end: a check over HTTP never"),
        "{out}"
    );
    let declined = "type: PurchaseDeclined\norg_id: acme\npurchase_id: p1\nreason: no funds\n";
    assert!(apply(declined).contains("`purchase_id` is p1, which no purchase of acme can have"));
}

#[test]
fn standard_input_is_named_so_in_every_message() {
    let desk = Desk::new();
    let said = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tallyman"))
            .args(["policy", "apply", "-"])
            .env("TALLYMAN__KAFKA__BOOTSTRAP_SERVERS", &desk.settings.bootstrap_servers)
            .env_remove("TALLYMAN_CONFIG")
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(2));
        String::from_utf8(done.stderr).unwrap()
    };
    assert_eq!(said(""), "tallyman: standard input holds no document\n");
    assert!(said("type: Budgte\n").starts_with("tallyman: standard input, document 1, line 1: `type` is"));
}
