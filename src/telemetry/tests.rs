//! What a scrape shows after each happening.

use std::time::Instant;

use super::*;
use crate::domain::time::Timestamp;

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
    telemetry.lag(3, Some(LagReading { records: 5, seconds: 0.5, unstable: 1, policies: 2 }));
    telemetry.committed(3, Timestamp::from_millis(1_500));
    telemetry.transaction_committed(Duration::from_millis(3));
    telemetry.transaction_failed(TransactionFailure::Aborted, "a coordinator moved");
    telemetry.transaction_failed(TransactionFailure::Aborted, "a coordinator moved");
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
        ("tallyman_policies_lag_records{partition=\"3\"}", "2"),
        ("tallyman_transactions_total{outcome=\"committed\"}", "1"),
        ("tallyman_transactions_total{outcome=\"aborted\"}", "2"),
        ("tallyman_transactions_total{outcome=\"unknown\"}", "0"),
        ("tallyman_transactions_total{outcome=\"fenced\"}", "0"),
        ("tallyman_transaction_duration_seconds_count", "1"),
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
fn what_fails_beside_a_transaction_counts_as_none() {
    let telemetry = Telemetry::default();
    telemetry.poll_failed("x");
    telemetry.pause_failed(1, "x");
    telemetry.resume_failed(1, "x");
    telemetry.seek_failed(1, "x");
    telemetry.close_failed(1, "x");
    telemetry.recovery_waits("x");
    telemetry.renew_failed("x");
    let text = telemetry.render();
    let transactions: Vec<_> =
        text.lines().filter(|line| line.starts_with("tallyman_transactions_total{")).collect();
    assert_eq!(transactions.len(), 4, "{text}");
    assert!(transactions.iter().all(|line| line.ends_with(" 0")), "{transactions:?}");
}

#[test]
fn readiness_connection_and_state_of_each_partition_are_shown_as_they_are_now() {
    let (telemetry, health) = (Telemetry::default(), Health::new(0));
    telemetry.observe(health.clone(), || Some(4096));
    health.set(0, TaskState::CaughtUp);
    health.set(1, TaskState::Halted { reason: "store", message: "it is full".into() });
    let text = telemetry.render();
    for (series, value) in [
        ("tallyman_ready", "0"),
        ("tallyman_kafka_connected", "1"),
        ("tallyman_store_free_bytes", "4096"),
        ("tallyman_partition_state{partition=\"0\",state=\"caught_up\"}", "1"),
        ("tallyman_partition_state{partition=\"0\",state=\"halted\"}", "0"),
        ("tallyman_partition_state{partition=\"1\",state=\"halted\"}", "1"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series} in\n{text}");
    }
    health.gone(1);
    let text = telemetry.render();
    assert_eq!(line(&text, "tallyman_ready"), Some("1"));
    assert!(!text.contains("tallyman_partition_state{partition=\"1\""), "{text}");
    let trouble = KafkaTrouble { since: Instant::now(), connected: false, message: "refused".into() };
    assert!(health.kafka_is_not_well(trouble), "news");
    let text = telemetry.render();
    let shown = ["tallyman_ready", "tallyman_kafka_connected"].map(|series| line(&text, series));
    assert_eq!(shown, [Some("0"), Some("0")]);
}

#[test]
fn a_lag_that_nobody_knows_is_not_shown_as_what_it_was() {
    let telemetry = Telemetry::default();
    telemetry.lag(3, Some(LagReading::default()));
    telemetry.lag(3, None);
    let text = telemetry.render();
    assert!(!text.contains("partition=\"3\""), "{text}");
}

#[test]
fn the_series_of_a_partition_vanish_when_it_goes() {
    let telemetry = Telemetry::default();
    telemetry.rebalanced(Moved::Assigned, &[1, 2]);
    for partition in [1, 2] {
        telemetry.lag(partition, Some(LagReading::default()));
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
    for model in 0..series::SHOWN_MAX + 3 {
        telemetry.credits("chat", Some(&model.to_string()), CreditSum::whole(1));
    }
    telemetry.credits("chat", Some("0"), CreditSum::whole(1));
    let text = telemetry.render();
    let other = "tallyman_credits_total{model=\"__other__\",product=\"__other__\"}";
    assert_eq!(line(&text, other), Some("3"));
    assert_eq!(line(&text, "tallyman_series_dropped_total"), Some("3"));
    assert_eq!(line(&text, "tallyman_credits_total{model=\"0\",product=\"chat\"}"), Some("2"));
}

#[test]
fn a_pair_that_spends_has_a_series_however_many_names_are_made_up() {
    let telemetry = Telemetry::default();
    telemetry.credits("chat", Some("early"), CreditSum::whole(1000));
    let junk = |from: usize, to: usize| {
        for name in from..to {
            telemetry.credits(&format!("junk-{name}"), Some("x"), CreditSum(10_000));
        }
    };
    junk(0, 5000);
    for spent in 0..50 {
        telemetry.credits("chat", Some("late"), CreditSum(50_000));
        junk(5000 + spent * 100, 5100 + spent * 100);
    }
    let text = telemetry.render();
    let number = |series: &str| line(&text, series).map_or(0.0, |value| value.parse().expect("a number"));
    assert_eq!(line(&text, "tallyman_credits_total{model=\"early\",product=\"chat\"}"), Some("1000"));
    let late = number("tallyman_credits_total{model=\"late\",product=\"chat\"}");
    assert!(late > 2.0, "it counts from when it was larger than the least: {late} of 2.5");
    let series: Vec<_> = text.lines().filter(|line| line.starts_with("tallyman_credits_total{")).collect();
    assert_eq!(series.len(), series::SHOWN_MAX + 1, "and `__other__`");
    let sum: f64 = series.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!((sum - 1000.0 - 2.5 - 100.0).abs() < 1e-6, "nothing is lost: {sum}");
}

#[test]
fn a_pair_that_lost_its_series_takes_nothing_out_of_what_was_counted() {
    let telemetry = Telemetry::default();
    for name in 0..series::SHOWN_MAX {
        telemetry.credits(&name.to_string(), None, CreditSum::whole(2));
    }
    telemetry.credits("0", None, CreditSum(-5));
    telemetry.credits("large", None, CreditSum::whole(9));
    let text = telemetry.render();
    let other = "tallyman_credits_total{model=\"__other__\",product=\"__other__\"}";
    assert_eq!(line(&text, other), Some("2"), "what the one that went had counted");
    assert_eq!(line(&text, "tallyman_credits_total{model=\"\",product=\"large\"}"), Some("9"));
}

#[test]
fn a_gate_exports_its_own_series_and_none_of_a_processor() {
    let telemetry = Telemetry::of_gate();
    telemetry.gate_check(Action::Allow, "UNKNOWN");
    telemetry.gate_heartbeat_age(2.5);
    telemetry.gate_scopes(7);
    telemetry.http_listening("main");
    telemetry.http_connections("main", 3);
    telemetry.http_connections("main", -1);
    telemetry.http_refused("main");
    let text = telemetry.render();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &names {
        assert!(name.starts_with("process_") || metrics::is_of_gate(name), "{name} is none of a gate");
    }
    for (series, value) in [
        ("tallyman_gate_scopes", "7"),
        ("tallyman_http_connections{listener=\"main\"}", "2"),
        ("tallyman_http_connections_refused_total{listener=\"main\"}", "1"),
        ("tallyman_gate_heartbeat_age_seconds", "2.5"),
        ("tallyman_build_info{version=\"0.1.0\"}", "1"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series} in\n{text}");
    }
}

#[test]
fn organisations_are_named_only_where_that_is_asked_for() {
    let telemetry = Telemetry::new(2);
    telemetry.set_top_orgs(0, vec![use_of("acme", 50, Some(100))]);
    assert!(telemetry.render().contains("org=\"acme\""));
    let text = telemetry.render_without_orgs();
    assert!(!text.contains("acme") && text.contains("tallyman_store_bytes"), "{text}");
}
