//! What an instance looks at before it takes partitions from others: a machine that cannot hold the stores starts none.

use std::process::Command;
use std::time::{Duration, Instant};

use tallyman::kafka::{Embedded, KafkaSettings};

use crate::support::{PATIENCE, Site, TALLYMAN, kafka};

#[test]
fn an_instance_that_cannot_hold_stores_takes_no_partition_from_a_healthy_one() {
    let kafka = kafka().with_topics("no-place", 1);
    let healthy = Site::new(&kafka, &[]);
    let instance = healthy.run();
    instance.wait_until_ready(PATIENCE);
    let rebalances = instance.metrics().sum("tallyman_rebalances_total");

    // Not even root makes a directory there.
    let nowhere = Site::new(&kafka, &[("store.dir", "\"/proc/tallyman/data\"")]);
    // Nobody has a quarter of that free.
    let small = Site::new(&kafka, &[("memory.limit", "\"4194304GiB\"")]);
    let file = Site::new(&kafka, &[]);
    std::fs::write(file.path("data"), "no directory").unwrap();
    for (site, words) in [
        (&nowhere, ["/proc/tallyman/data", "store.dir"]),
        (&small, ["MiB are needed", "memory.limit"]),
        (&file, ["data", "store.dir"]),
    ] {
        for command in ["check-config", "run"] {
            let (code, _, told) = site.ask(&[command]);
            assert_eq!(code, 1, "{command}: {told}");
            assert!(words.iter().all(|word| told.contains(word)), "{command}: {told}");
        }
    }
    for command in ["check-config", "run"] {
        let few = Command::new("sh")
            .args(["-c", "ulimit -n 300; exec \"$@\"", "sh", TALLYMAN, command, "--config"])
            .arg(healthy.path("tallyman.toml"))
            .output()
            .unwrap();
        let told = String::from_utf8(few.stderr).unwrap();
        assert_eq!(few.status.code(), Some(1), "{command}: {told}");
        assert!(told.contains("may have 300 files open, and 320 are needed"), "{command}: {told}");
    }
    assert!((instance.metrics().sum("tallyman_rebalances_total") - rebalances).abs() < 0.5, "nobody joined");
    assert_eq!(instance.get("/readyz").0, 200);
    instance.stop();

    let (code, told, _) = healthy.ask(&["check-config"]);
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_broker_that_does_not_know_a_request_is_told_of_within_seconds() {
    let mut kafka = KafkaSettings { partitions: 2, ..KafkaSettings::default() };
    let broker = Embedded::start(&kafka).unwrap();
    kafka.bootstrap_servers = broker.bootstrap_servers();
    let asked = Instant::now();
    let (code, _, told) = Site::new(&kafka, &[]).ask(&["run"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("did not answer DescribeConfigs") && told.contains("Apache Kafka 2.5"), "{told}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}
