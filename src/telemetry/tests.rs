//! What a scrape shows after each happening.

use super::*;

fn line<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

fn use_of(org: &str, used: i64, allowance: Option<i64>) -> OrgUse {
    OrgUse { org: org.into(), used: CreditSum::whole(used), allowance: allowance.map(CreditSum::whole) }
}

#[test]
fn every_metric_has_the_name_and_labels_of_the_contract() {
    let telemetry = Telemetry::default();
    telemetry.records(RecordOutcome::Folded, 7);
    telemetry.dead_letter(Reason::BadField, 2, "usage[0]@5: credits");
    telemetry.credits("chat", Some("m1"), CreditSum(1_500_000));
    telemetry.adjusted(CreditSum::whole(-3));
    telemetry.decided(Action::Block, DecisionReason::AllowanceSpent);
    telemetry.alerted(AlertKind::Blocked);
    telemetry.rebalanced(Moved::Assigned, &[3]);
    telemetry.lag(3, LagReading { records: 5, seconds: 0.5, unstable: 1 });
    telemetry.committed(3, Timestamp::from_millis(1_500));
    telemetry.halted(3, "log_shrunk", "rebuild it");
    telemetry.orgs(3, 4, 6);
    telemetry.store(3, 100, 2_000_000);
    telemetry.store(3, 120, 2_500_000);
    telemetry.store(3, 130, 500_000);
    telemetry.registry_error("down");
    telemetry.gate_check(Action::Block, "BUDGET_SPENT");
    telemetry.gate_check(Action::Allow, "FULL_MOON");
    telemetry.gate_heartbeat_age(2.5);
    telemetry.http("GET", "/livez", 200, Duration::from_millis(2));
    let text = telemetry.render();
    for (series, value) in [
        ("tallyman_records_total{outcome=\"folded\"}", "7"),
        ("tallyman_dead_letters_total{reason=\"bad_field\"}", "2"),
        ("tallyman_credits_total{model=\"m1\",product=\"chat\"}", "1.5"),
        ("tallyman_adjusted_credits_total{direction=\"down\"}", "3"),
        ("tallyman_decisions_total{action=\"BLOCK\",reason=\"ALLOWANCE_SPENT\"}", "1"),
        ("tallyman_alerts_total{kind=\"BLOCKED\"}", "1"),
        ("tallyman_assigned_partitions", "1"),
        ("tallyman_rebalances_total", "1"),
        ("tallyman_lag_records{partition=\"3\"}", "5"),
        ("tallyman_lag_seconds{partition=\"3\"}", "0.5"),
        ("tallyman_unstable_records{partition=\"3\"}", "1"),
        ("tallyman_last_commit_timestamp_seconds{partition=\"3\"}", "1.5"),
        ("tallyman_partition_halted{partition=\"3\",reason=\"log_shrunk\"}", "1"),
        ("tallyman_orgs_without_policy", "4"),
        ("tallyman_blocked_scopes", "6"),
        ("tallyman_store_bytes", "130"),
        ("tallyman_store_stall_seconds_total", "3"),
        ("tallyman_registry_errors_total", "1"),
        ("tallyman_series_dropped_total", "0"),
        ("tallyman_event_to_decision_seconds_count", "0"),
        ("tallyman_overshoot_credits_count", "0"),
        ("tallyman_transaction_duration_seconds_count", "0"),
        ("tallyman_batch_records_count", "0"),
        ("tallyman_store_flush_duration_seconds_count", "0"),
        ("tallyman_restore_duration_seconds_count", "0"),
        ("tallyman_http_request_duration_seconds_count{method=\"GET\",route=\"/livez\",status=\"200\"}", "1"),
        ("tallyman_gate_checks_total{action=\"BLOCK\",reason=\"BUDGET_SPENT\"}", "1"),
        ("tallyman_gate_checks_total{action=\"ALLOW\",reason=\"__other__\"}", "1"),
        ("tallyman_gate_heartbeat_age_seconds", "2.5"),
        ("tallyman_build_info{version=\"0.1.0\"}", "1"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series} in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes"));
}

#[test]
fn the_series_of_a_partition_vanish_when_it_goes() {
    let telemetry = Telemetry::default();
    telemetry.rebalanced(Moved::Assigned, &[1, 2]);
    for partition in [1, 2] {
        telemetry.lag(partition, LagReading::default());
        telemetry.committed(partition, Timestamp::from_millis(1));
        telemetry.halted(partition, "disk_full", "free some");
        telemetry.orgs(partition, 1, 1);
        telemetry.set_top_orgs(partition, vec![use_of(&format!("org-{partition}"), 1, None)]);
    }
    telemetry.rebalanced(Moved::Revoked, &[1]);
    telemetry.unhalted(2);
    let text = telemetry.render();
    assert!(!text.contains("partition=\"1\""), "{text}");
    assert!(!text.contains("org-1"), "{text}");
    assert!(!text.contains("tallyman_partition_halted{"), "{text}");
    assert_eq!(line(&text, "tallyman_lag_records{partition=\"2\"}"), Some("0"));
    assert_eq!(line(&text, "tallyman_blocked_scopes"), Some("1"));
    assert_eq!(line(&text, "tallyman_assigned_partitions"), Some("1"));
}

#[test]
fn the_largest_orgs_of_all_partitions_are_shown_and_no_others() {
    let telemetry = Telemetry::new(2);
    telemetry.set_top_orgs(0, vec![use_of("a", 50, Some(100)), use_of("b", 5, Some(10))]);
    telemetry.set_top_orgs(1, vec![use_of("c", 70, None)]);
    let text = telemetry.render();
    assert_eq!(line(&text, "tallyman_org_used_ratio{org=\"a\"}"), Some("0.5"));
    assert_eq!(line(&text, "tallyman_org_used_credits{org=\"c\"}"), Some("70"));
    assert_eq!(line(&text, "tallyman_org_allowance_credits{org=\"c\"}"), None);
    assert!(!text.contains("org=\"b\""), "{text}");
    telemetry.set_top_orgs(1, Vec::new());
    assert!(telemetry.render().contains("org=\"b\""));
}

#[test]
fn a_flood_of_models_ends_in_other_and_is_counted() {
    let telemetry = Telemetry::default();
    for model in 0..CREDIT_SERIES_MAX + 3 {
        telemetry.credits("chat", Some(&model.to_string()), CreditSum::whole(1));
    }
    telemetry.credits("chat", Some("0"), CreditSum::whole(1));
    let text = telemetry.render();
    let other = "tallyman_credits_total{model=\"__other__\",product=\"__other__\"}";
    assert_eq!(line(&text, other), Some("3"));
    assert_eq!(line(&text, "tallyman_series_dropped_total"), Some("3"));
    assert_eq!(line(&text, "tallyman_credits_total{model=\"0\",product=\"chat\"}"), Some("2"));
}
