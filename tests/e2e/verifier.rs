//! Each published decision, in the order of the topic, against what `oracle` says of the logs at its cause_offset, policy_offset and
//! decided_at; and each change of an action against its alert. It writes nothing and asks nobody else.
//!
//! Where a decision names no record, because time or terms caused it, the log's end is known only to the step of the test: any end
//! between the last one that was named and the newest record of that instant is tried. `policy_offset` names the record in force; what
//! else of the terms was read is known likewise.

use std::collections::{BTreeMap, BTreeSet};

use tallyman::codec::Decoder;
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::decision::{Action, DecisionReason, Level, LimitDecision};
use tallyman::kafka::{KafkaSettings, read_topic};

use crate::audit;
use crate::oracle::{Answer, Logs, View};

/// What is known of an org's decider: it has read at least up to these ends.
#[derive(Clone, Copy, Default)]
struct Floor {
    uses: i64,
    terms: i64,
}

/// The logs, and how far each org's decisions have told that they were read.
pub struct Verifier {
    logs: Logs,
    floors: BTreeMap<String, Floor>,
    last: BTreeMap<String, Level>,
    alerts: BTreeSet<String>,
}

fn told(decision: &LimitDecision) -> Answer {
    let level = &decision.level;
    Answer {
        action: level.action,
        reason: level.reason,
        used: decision.figures.used.micros(),
        allowance: level.allowance.map(CreditSum::micros),
        extra: level.extra.map(CreditSum::micros),
        level: level.level,
        period_start: level.period_start.micros(),
        period_end: level.period_end.micros(),
    }
}

/// What the logs up to there say, in the decision's form; a scope that is over is told without numbers of its own.
fn expected(view: &View<'_>, decision: &LimitDecision) -> Answer {
    let Some(scope) = &decision.scope.budget else { return view.org() };
    let said = told(decision);
    let over = Answer {
        action: Action::Allow,
        reason: DecisionReason::WithinBudget,
        allowance: None,
        extra: None,
        level: 0,
        ..said.clone()
    };
    match view.budget(scope) {
        Some(_) if said.allowance.is_none() && view.is_idle(scope) => over,
        Some(answer) => answer,
        None => over,
    }
}

impl Verifier {
    /// Of what the logs hold now.
    pub fn new(kafka: &KafkaSettings) -> Self {
        Self { logs: Logs::read(kafka), floors: BTreeMap::new(), last: BTreeMap::new(), alerts: BTreeSet::new() }
    }

    /// Verifies all decisions and their alerts; how many decisions there were.
    pub fn verify(mut self, kafka: &KafkaSettings) -> usize {
        let (mut decoder, mut count) = (Decoder::new(None), 0);
        read_topic(kafka, &kafka.topics.decisions, |record, _| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            if key.starts_with("!heartbeat|") {
                return;
            }
            match record.value {
                None => drop(self.last.remove(&key)),
                Some(value) => {
                    self.decision(&key, &decoder.decision(value).unwrap());
                    count += 1;
                }
            }
        })
        .unwrap();
        let changed =
            |alert: &serde_json::Value| ["BLOCKED", "UNBLOCKED"].contains(&alert["kind"].as_str().unwrap());
        let alerts = audit::alerts(kafka).into_iter().filter(changed);
        let ids: Vec<String> = alerts.map(|alert| alert["alert_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), self.alerts.len(), "one alert for each change of an action");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), self.alerts);
        count
    }

    fn decision(&mut self, key: &str, decision: &LimitDecision) {
        assert_eq!(decision.scope.key(), key);
        let before = self.last.insert(key.to_owned(), decision.level.clone());
        assert_ne!(before.as_ref(), Some(&decision.level), "{key}: said twice");
        let was = before.map_or(Action::Allow, |before| before.action);
        if was != decision.level.action {
            let kind = if was == Action::Allow { "BLOCKED" } else { "UNBLOCKED" };
            self.alerts.insert(format!("{key}|{kind}|{}", decision.version));
        }
        let org = &decision.scope.org_id;
        let floor = self.floors.entry(org.clone()).or_default();
        let now = decision.decided_at.micros();
        if let Some(offset) = decision.cause.policy_offset {
            floor.terms = floor.terms.max(offset + 1);
        }
        let of_org = |each: &&crate::oracle::Use| each.org == *org && each.at <= now;
        let uses = match decision.cause.record {
            Some((_, offset)) => {
                floor.uses = floor.uses.max(offset + 1);
                vec![offset + 1]
            }
            None => {
                let ends = self.logs.uses.iter().filter(of_org).map(|each| each.offset + 1);
                ends.filter(|end| *end > floor.uses).chain([floor.uses]).collect()
            }
        };
        let terms = self.logs.terms.iter().filter(|each| each.record.org_id() == org && each.at <= now);
        let ends = terms.map(|each| each.offset + 1).filter(|end| *end > floor.terms).chain([floor.terms]);
        let terms: Vec<i64> = ends.collect();
        let said = told(decision);
        let agrees = |uses: &i64, terms: i64| expected(&self.logs.view(org, *uses, terms, now), decision) == said;
        if !uses.iter().any(|uses| terms.iter().any(|terms| agrees(uses, *terms))) {
            let last = self.logs.view(org, *uses.iter().max().unwrap(), *terms.iter().max().unwrap(), now);
            panic!("{decision:?}\nbut the logs say\n{:?}", expected(&last, decision));
        }
    }
}
