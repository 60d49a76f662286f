//! README's worked example, "A soft limit with packs, to the credit", done with the documents that stand there: what the running
//! instance tells after each step is the line of the README's table.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tallyman::kafka::read_topic;

use crate::support::{Instance, PATIENCE, Site, kafka, wait_until};

const TITLE: &str = "### A soft limit with packs, to the credit\n";

/// The example's part of the README.
fn section() -> String {
    let readme = fs::read_to_string("README.md").unwrap();
    let (_, rest) = readme.split_once(TITLE).expect("the README has the example");
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The documents that the section applies, in order.
fn documents(section: &str) -> Vec<String> {
    let heredocs = section.split("END'\n").skip(1).chain(section.split("<<END\n").skip(1));
    heredocs.map(|rest| rest.split("\nEND\n").next().unwrap().to_owned() + "\n").collect()
}

struct Studio {
    site: Site,
    instance: Instance,
    records: u32,
}

impl Studio {
    fn spend(&mut self, record: &str, credits: &str) {
        self.records += 1;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let mut event = json!({
            "type": record, "source": "walk", "occurred_at": now, "org_id": "studio", "product": "chat",
            "operation": "ask", "credits": credits,
        });
        let id = if record == "UsageEvent" { "event_id" } else { "adjustment_id" };
        event[id] = self.records.to_string().into();
        if record == "UsageAdjusted" {
            event["reason"] = "charged twice".into();
        }
        self.site.send(&[("studio", event.to_string().into_bytes())]);
    }

    /// The ids of the packs asked for.
    fn asked(&self) -> Vec<String> {
        let mut ids = Vec::new();
        read_topic(&self.site.kafka, &self.site.kafka.topics.purchases, |record, _| {
            let asked: Value = serde_json::from_slice(record.value.unwrap()).unwrap();
            assert_eq!(asked["credits"], "50.000000");
            ids.push(asked["purchase_id"].as_str().unwrap().to_owned());
        })
        .unwrap();
        ids
    }

    /// Waits until the instance tells so much used, allowance, and packs asked for, and makes the table's line of it.
    fn line(&self, step: &str, used: &str, (allowance, asked): (&str, usize)) -> String {
        let mut line = String::new();
        wait_until(step, PATIENCE, || {
            let (status, body) = self.instance.get("/v1/orgs/studio");
            let told: Value = if status == 200 { serde_json::from_str(&body).unwrap() } else { Value::Null };
            let text =
                |field: &str| told[field].as_str().unwrap_or("").trim_end_matches('0').trim_end_matches('.');
            let numbers =
                ["used", "base_used", "grants_used", "overage", "allowance", "remaining", "soft_extra_remaining"];
            let decision = &told["decision"];
            let verdict = ["action", "reason"].map(|field| decision[field].as_str().unwrap_or("")).join(" ");
            let level = decision["level"].to_string();
            let cells: Vec<&str> =
                numbers.into_iter().map(text).chain([verdict.as_str(), level.as_str()]).collect();
            line = format!("| {step} | {} |", cells.join(" | "));
            (text("used"), text("allowance"), self.asked().len()) == (used, allowance, asked)
                && decision["allowance"] == told["allowance"]
        });
        line
    }
}

#[test]
fn the_readmes_worked_example_is_what_happens() {
    let (section, kafka) = (section(), kafka().with_topics("example", 2));
    let documents = documents(&section);
    let [policy, grant] = documents.as_slice() else { panic!("{documents:?}") };
    let site = Site::new(&kafka, &[]);
    site.apply(policy);
    let instance = site.run();
    instance.wait_until_ready(PATIENCE);
    let mut studio = Studio { site, instance, records: 0 };
    let mut lines = Vec::new();
    for (step, credits, used, asked) in
        [("spends 80", "80", "80", 0), ("spends 12.5", "12.5", "92.5", 1), ("spends 20", "20", "112.5", 1)]
    {
        studio.spend("UsageEvent", credits);
        lines.push(studio.line(step, used, ("100", asked)));
    }
    studio.spend("UsageEvent", "10");
    lines.push(studio.line("spends 10", "122.5", ("100", 1)));
    let explained = studio.site.tell(&["explain", "studio", "--url", &studio.instance.url]);
    studio.site.apply(&grant.replace("$ID", &studio.asked()[0]));
    lines.push(studio.line("the pack is granted", "122.5", ("150", 1)));
    studio.spend("UsageEvent", "12.5");
    lines.push(studio.line("spends 12.5 again", "135", ("150", 2)));
    studio.spend("UsageAdjusted", "-5");
    lines.push(studio.line("5 are taken back", "130", ("150", 2)));
    let table = lines.join("\n");
    println!("{table}\n{explained}");
    println!("{}", studio.site.tell(&["query", "periods", "studio", "--url", &studio.instance.url]));
    assert!(section.contains(&table), "the README's table is not what happened:\n{table}");
    for way in explained.lines().filter(|line| line.starts_with("  - ") && !line.contains("Wait")) {
        assert!(section.contains(way), "the README does not tell: {way}");
    }
    studio.instance.stop();
}
