//! One partition that cannot go on: the others of its worker do, through every rebalance, and `/readyz` says why.

use tallyman::domain::usage::murmur2::partition_of;
use tallyman::kafka::read_topic;

use crate::support::{PATIENCE, Progress, Site, kafka, wait_for, wait_until};

fn org_of(partition: i32, partitions: i32) -> String {
    (0..1_000)
        .map(|n| format!("org-{n}"))
        .find(|org| partition_of(org.as_bytes(), partitions) == partition)
        .unwrap()
}

fn usage(org: &str, id: &str) -> Vec<u8> {
    format!(
        r#"{{"type":"UsageEvent","event_id":"{id}","source":"e2e","occurred_at":"{}","org_id":"{org}","product":"chat",
            "operation":"ask","credits":"1"}}"#,
        jiff::Timestamp::now()
    )
    .into_bytes()
}

#[test]
fn a_log_that_shrinks_under_a_running_instance_halts_its_partition_alone() {
    const PARTITIONS: i32 = 4;
    let broker = kafka();
    let kafka = broker.with_topics("shrinks", PARTITIONS);
    // Nobody answers there: a framed record waits, and its partition with it.
    let registry = ("registry.url", "\"http://127.0.0.1:9\"");
    let (first, second) = (Site::new(&kafka, &[registry]), Site::new(&kafka, &[registry]));
    let one = first.run();
    one.wait_until_ready(PATIENCE);
    let orgs: Vec<String> = (0..PARTITIONS).map(|partition| org_of(partition, PARTITIONS)).collect();
    first.send(&[(&orgs[0], vec![0, 0, 0, 0, 1, 2])]);
    first.send(&[(&orgs[0], b"no record, and not published yet".to_vec())]);
    for round in 0..10 {
        first.send(&orgs.iter().map(|org| (org.as_str(), usage(org, &format!("a{round}")))).collect::<Vec<_>>());
    }
    let progress = Progress::new(&kafka);
    let others_ended = || {
        let offsets = progress.offsets();
        offsets.is_some_and(|offsets| offsets[1..].iter().all(|(committed, end)| committed == end && *end > 0))
    };
    wait_until("the other partitions to be folded", PATIENCE, others_ended);
    broker.delete_records(&kafka.topics.usage, 0, 1);
    let halted = |reasons: &str| reasons.contains("partition 0 is halted (log_truncated)");
    wait_until("the partition to halt", PATIENCE, || halted(&one.get("/readyz").1));

    let two = second.run();
    wait_until("the second instance to own some", PATIENCE, || {
        two.metrics().sum("tallyman_assigned_partitions") > 0.5
    });
    two.stop();
    one.wait_until_it_owns(f64::from(PARTITIONS));
    first.send(&orgs.iter().map(|org| (org.as_str(), usage(org, "b"))).collect::<Vec<_>>());
    wait_until("the other partitions to go on", PATIENCE, others_ended);
    for org in &orgs[1..] {
        let summary = wait_for("an org's sum", PATIENCE, || {
            let answer = one.json(&format!("/v1/orgs/{org}"));
            (answer["used"] == "11.000000").then_some(answer)
        });
        assert_eq!(summary["org_id"], org.as_str());
    }
    let (status, reasons) = one.get("/readyz");
    assert!(status == 503 && halted(&reasons), "{reasons}");
    assert!(
        reasons.contains("`tallyman rebuild --partition 0` and start once with `tallyman run --adopt-from store`")
    );
    one.stop();

    // The remedy that it names: what is left is folded and published.
    first.tell(&["rebuild", "--partition", "0", "--yes"]);
    let one = first.run_with(&["--adopt-from", "store"]);
    one.wait_until_ready(PATIENCE);
    wait_for("the org's sum", PATIENCE, || {
        (one.json(&format!("/v1/orgs/{}", orgs[0]))["used"] == "11.000000").then_some(())
    });
    let mut letters = 0;
    read_topic(&kafka, &kafka.topics.dead_letters, |_, _| letters += 1).unwrap();
    assert_eq!(letters, 1, "nothing is lost in silence");
    one.stop();
}
