//! Terms documents as people write them: defaults, several in a text, and errors that name document, line and field.

use tallyman::codec::terms_document::{DocumentDefaults, DocumentErrors, parse as parse_documents};
use tallyman::codec::terms_fields;
use tallyman::domain::terms::records::{BudgetAction, LimitMode, TermsRecord};
use tallyman::domain::time::Timestamp;

fn defaults() -> DocumentDefaults {
    DocumentDefaults { effective_at: Timestamp::from_micros(1_795_000_000_000_000), updated_by: "cli".to_owned() }
}

fn parse(text: &str, defaults: &DocumentDefaults) -> Result<Vec<TermsRecord>, DocumentErrors> {
    Ok(parse_documents(text, defaults)?.into_iter().map(|document| document.record).collect())
}

#[test]
fn a_text_of_several_documents_gives_each_with_its_defaults() {
    let text = r#"# the plan
type: OrgPolicy
org_id: acme
plan: team
base_allocation: 1000
credit_price: "0.002"
auto_purchase:
  at_percent: 90
  pack_credits: 10
  max_packs_per_period: 2
---
type: tallyman.v1.Budget
org_id: acme
budget_id: b1
name: per user
dimension: user
value: "*"
limit: "2.5"
period: month
action: BLOCK
effective_at: 2026-11-01T00:00:00Z
updated_by: ops
"#;
    let terms = parse(text, &defaults()).unwrap();
    let [TermsRecord::OrgPolicy(policy), TermsRecord::Budget(budget)] = &terms[..] else { panic!("{terms:?}") };
    assert_eq!(policy.base_allocation.to_string(), "1000.000000");
    assert_eq!(policy.credit_price.unwrap().micros(), 2000);
    assert_eq!((policy.limit_mode, policy.anchor_day, &*policy.time_zone), (LimitMode::Hard, 1, "UTC"));
    assert_eq!(policy.thresholds, [75, 90, 100]);
    assert_eq!((policy.effective_at, &*policy.updated_by), (defaults().effective_at, "cli"));
    assert_eq!(policy.auto_purchase.as_ref().unwrap().pack_credits.micros(), 10_000_000);
    assert_eq!(
        (budget.limit.micros(), budget.action, &*budget.updated_by),
        (2_500_000, BudgetAction::Block, "ops")
    );
}

#[test]
fn a_json_document_is_one_too_and_what_is_got_can_be_applied() {
    let text = r#"{"type": "OrgPolicy", "org_id": "acme", "plan": "p", "unlimited": true}"#;
    let terms = parse(text, &defaults()).unwrap();
    let shown = serde_json::to_string_pretty(&terms_fields(&terms[0])).unwrap();
    assert_eq!(parse(&shown, &defaults()).unwrap(), terms);
}

#[test]
fn an_error_names_document_line_and_field() {
    let good = "type: Label\norg_id: acme\ndimension: user\nvalue: u1\ndisplay_name: Ann\n";
    let cases = [
        (
            format!("{good}---\n{good}colour: red\n"),
            "document 2, line 12: `colour` is no field of Label; it has org_id, dimension, value, display_name",
        ),
        (
            good.replace("dimension: user", "dimension: users"),
            "document 1, line 3: `dimension` is \"users\", none of the known values; known are user, product, model, provider, \
             operation, operation_detail, category, tier, workspace, workspace_kind, project, department",
        ),
        (
            good.replace("type: Label", "type: Lable"),
            "document 1, line 1: `type` is \"Lable\"; it must be one of OrgPolicy, Budget, CreditGrant, Label, PurchaseDeclined",
        ),
        (
            good.replace("type: Label\n", ""),
            "document 1, line 1: `type` is missing; it is one of OrgPolicy, Budget, CreditGrant, Label, PurchaseDeclined",
        ),
        (good.replace("value: u1\n", ""), "document 1, line 1: `value` is missing"),
        (
            good.replace("value: u1", "value: 17"),
            "document 1, line 4: `value` is a number, and must be text: quote it, \"17\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(&text, &defaults()).unwrap_err().to_string(), expected);
    }
    let policy = "type: OrgPolicy\norg_id: acme\nplan: p\nbase_allocation: 12.5\n";
    let error = parse(policy, &defaults()).unwrap_err().to_string();
    assert_eq!(error, "document 1, line 4: `base_allocation` is a number; write the decimal as text, \"12.5\"");
    let nested = format!("{}auto_purchase:\n  at_percent: 900\n", policy.replace("12.5", "12"));
    let error = parse(&nested, &defaults()).unwrap_err().to_string();
    let told: Vec<&str> = error.lines().collect();
    assert_eq!(
        told,
        [
            "document 1, line 6: `auto_purchase.at_percent` is 900, beyond 1..100",
            "document 1, line 5: `auto_purchase.pack_credits` is missing",
            "document 1, line 5: `auto_purchase.max_packs_per_period` is missing",
        ]
    );
    let broken = format!("{good}---\ntype: [Label\n");
    let errors = parse(&broken, &defaults()).unwrap_err();
    assert_eq!(errors.0[0].document, 2, "{errors}");
    assert!(errors.0[0].line.is_some(), "{errors}");
}

#[test]
fn every_fault_of_every_document_is_told_at_once() {
    let text = "\
type: Budget
org_id: a b
budget_id: b1
dimension: users
value: \"*\"
limit: -1
period: fortnight
action: STOP
thresholds: [90, 80]
effective_at: yesterday
colour: red
---
type: Label
org_id: acme
dimension: user
value: u1
---
type: UsageEvent
org_id: acme
---
type: CreditGrant
org_id: acme
grant_id: g1
credits: 1.5
kind: present
currency: euro
priority: high
";
    let told: Vec<String> = parse(text, &defaults()).unwrap_err().0.iter().map(ToString::to_string).collect();
    let expected = [
        "document 1, line 11: `colour` is no field of Budget; it has org_id, budget_id, name, dimension, value, limit, period, \
         action, thresholds, effective_at, expires_at, updated_by",
        "document 1, line 2: `org_id` must match [A-Za-z0-9._:@-]{1,128}",
        "document 1, line 1: `name` is missing",
        "document 1, line 4: `dimension` is \"users\", none of the known values; known are user, product, model, provider, \
         operation, operation_detail, category, tier, workspace, workspace_kind, project, department",
        "document 1, line 6: `limit` must lie within 0..10^9",
        "document 1, line 7: `period` is \"fortnight\", none of the known values; known are day, week, month",
        "document 1, line 8: `action` is \"STOP\", none of the known values; known are BLOCK, WARN",
        "document 1, line 9: `thresholds` must ascend",
        "document 1, line 10: `effective_at` must be RFC 3339 or whole microseconds since 1970",
        "document 2, line 13: `display_name` is missing",
        "document 3, line 18: `type` is \"UsageEvent\"; it must be one of OrgPolicy, Budget, CreditGrant, Label, PurchaseDeclined",
        "document 4, line 24: `credits` is a number; write the decimal as text, \"12.5\"",
        "document 4, line 25: `kind` is \"present\", none of the known values; known are pack, promo, goodwill, purchase",
        "document 4, line 26: `currency` must be three upper-case letters, as EUR",
        "document 4, line 27: `priority` must be a whole number",
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_name_that_is_suggested_is_near_or_none_is() {
    let policy = "type: OrgPolicy\norg_id: acme\nplan: p\nunlimited: true\n";
    for (name, near) in [
        ("softextra", Some("soft_extra")),
        ("Soft_Extra", Some("soft_extra")),
        ("timezone", Some("time_zone")),
        ("anchor", Some("anchor_day")),
        ("allocation", Some("base_allocation")),
        ("threshold", Some("thresholds")),
        ("colour", None),
        ("id", None),
        ("x", None),
        ("quota", None),
    ] {
        let told = parse(&format!("{policy}{name}: 5\n"), &defaults()).unwrap_err().to_string();
        match near {
            Some(near) => assert!(told.contains(&format!("did you mean `{near}`?")), "{told}"),
            None => assert!(
                told.contains("; it has org_id, plan, status,") && !told.contains("did you mean"),
                "{told}"
            ),
        }
    }
}

#[test]
fn what_yaml_reads_as_something_else_than_the_text_that_stands_there_is_told_with_the_quotes_it_needs() {
    let label =
        |value: &str| format!("type: Label\norg_id: acme\ndimension: user\nvalue: u1\ndisplay_name: {value}\n");
    for value in ["n", "no", "Off", "y", "yes", "on", "true", "False"] {
        let told = parse(&label(value), &defaults()).unwrap_err().to_string();
        let says = "document 1, line 5: `display_name` is a boolean, and must be text: YAML reads y, yes, on, true, n, no, off \
                    and false so; quote it, as \"no\"";
        assert_eq!(told, says, "{value}");
        parse(&label(&format!("\"{value}\"")), &defaults()).unwrap();
    }
    for (value, says) in [
        ("17", "line 5: `display_name` is a number, and must be text: quote it, \"17\""),
        ("1.5", "line 5: `display_name` is a number, and must be text: quote it, as \"1.5\""),
        ("*", "`display_name` is *, which YAML reads as an alias: quote it, \"*\""),
        ("*all", "`display_name` is *all, which YAML reads as an alias: quote it, \"*all\""),
        ("%ann", "`display_name` is %ann, which YAML reads as a directive: quote it, \"%ann\""),
        ("@ann", "`display_name` is @ann, which YAML reads as something else than a text: quote it, \"@ann\""),
        ("`ann`", "`display_name` is `ann`, which YAML reads as something else than a text: quote it, \"`ann`\""),
        ("a: b", "`display_name` is a: b, which YAML reads as something else than a text: quote it, \"a: b\""),
        ("- a", "`display_name` is - a, which YAML reads as something else than a text: quote it, \"- a\""),
        (".inf", "`display_name` is .inf, which YAML reads as something else than a text: quote it, \".inf\""),
    ] {
        let told = parse(&label(value), &defaults()).unwrap_err().to_string();
        assert!(told.starts_with("document 1, line 5: ") && told.ends_with(says), "{told}");
    }
    for value in ["&ann", "!ann", "~", "null", "#ann", ""] {
        let told = parse(&label(value), &defaults()).unwrap_err().to_string();
        let says = "document 1, line 5: `display_name` is nothing: YAML reads null, ~, and what begins with #, & or ! as no \
                    text; quote a text that does";
        assert_eq!(told, says, "{value}");
    }
}

#[test]
fn a_misspelt_field_inside_an_object_is_told_with_its_own_line() {
    let text = "type: OrgPolicy\norg_id: acme\nplan: p\nunlimited: true\nauto_purchase:\n  at_percent: 90\n  \
                pack_credit: 10\n  max_packs_per_period: 2\n";
    let told = parse(text, &defaults()).unwrap_err().to_string();
    assert_eq!(
        told,
        "document 1, line 7: `auto_purchase.pack_credit` is no field of OrgPolicy; did you mean \
         `auto_purchase.pack_credits`?\ndocument 1, line 5: `auto_purchase.pack_credits` is missing"
    );
}

#[test]
fn a_file_may_hold_ten_thousand_documents() {
    let label =
        |number| format!("type: Label\norg_id: acme\ndimension: user\nvalue: u{number}\ndisplay_name: Ann\n");
    let text: Vec<String> = (0..10_000).map(label).collect();
    assert_eq!(parse(&text.join("---\n"), &defaults()).unwrap().len(), 10_000);
}

#[test]
fn the_known_values_that_are_told_are_legal() {
    let policy = "type: OrgPolicy\norg_id: acme\nplan: p\nunlimited: true\nstatus: active\nlimit_mode: HARD\n";
    let budget = "type: Budget\norg_id: acme\nbudget_id: b\nname: b\nlimit: 1\ndimension: user\nvalue: u\nperiod: day\n\
                  action: BLOCK\n";
    let grant = "type: CreditGrant\norg_id: acme\ngrant_id: g\ncredits: 1\nkind: pack\n";
    for (text, field, legal) in [
        (policy, "status", "active"),
        (policy, "limit_mode", "HARD"),
        (budget, "dimension", "user"),
        (budget, "period", "day"),
        (budget, "action", "BLOCK"),
        (grant, "kind", "pack"),
    ] {
        let with = |value: &str| text.replace(&format!("{field}: {legal}"), &format!("{field}: {value}"));
        let refused = parse(&with("other"), &defaults()).unwrap_err().to_string();
        let (_, known) = refused.split_once("; known are ").unwrap();
        assert!(known.split(", ").count() > 1, "{refused}");
        for value in known.split(", ") {
            parse(&with(value), &defaults()).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn what_is_wrong_with_a_text_is_told_in_the_words_of_those_who_write_it() {
    let label = "type: Label\norg_id: acme\ndimension: user\nvalue: u1\ndisplay_name: Ann\n";
    let laughs: Vec<String> = (1..9)
        .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", ")))
        .collect();
    for (text, says) in [
        (format!("{label}value: u2\n"), "document 1, line 6: `value` stands there twice"),
        (format!("{label}loop: &l [*l]\n"), "an alias (`*`) stands inside of what it repeats"),
        (format!("{label}a0: &a0 [x, x]\n{}", laughs.concat()), "repeats too much by aliases (`*`)"),
    ] {
        let error = parse(&text, &defaults()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn never_and_whole_numbers_are_taken_in_every_spelling_of_yaml_and_json() {
    for never in ["9999-12-31T23:59:59Z", "\"9999-12-31T23:59:59Z\"", "9999-12-31 23:59:59Z", "253402300799000000"]
    {
        let text = format!(
            "type: CreditGrant\norg_id: acme\ngrant_id: g\ncredits: 1e3\nkind: pack\npriority: 5.0\nexpires_at: {never}\n"
        );
        let terms = parse(&text, &defaults()).unwrap_or_else(|errors| panic!("{never}: {errors}"));
        let [TermsRecord::CreditGrant(grant)] = &terms[..] else { panic!("{terms:?}") };
        assert_eq!(grant.expires_at, Some(Timestamp::from_micros(253_402_300_799_000_000)), "{never}");
        assert_eq!((grant.credits.micros(), grant.priority), (1_000_000_000, 5));
        let shown = serde_json::to_string(&terms_fields(&terms[0])).unwrap();
        assert!(shown.contains("\"expires_at\":\"9999-12-31T23:59:59Z\""), "{shown}");
        assert_eq!(parse(&shown, &defaults()).unwrap(), terms);
    }
}

#[test]
fn a_zone_that_only_libraries_know_is_refused_with_its_line() {
    let text = "type: OrgPolicy\norg_id: acme\nplan: p\nbase_allocation: 1\ntime_zone: Etc/Unknown\n";
    let errors = parse(text, &defaults()).unwrap_err().to_string();
    assert!(errors.contains("line 5: `time_zone` is \"Etc/Unknown\", no IANA time zone"), "{errors}");
}
