//! Two instances in one group: they share the partitions, and whoever is left takes over what a killed or stopped one had.

use std::time::Duration;

use tallyman::codec::Decoder;
use tallyman::kafka::KafkaSettings;

use crate::audit::{self, Audit};
use crate::exact::{check_answers, crossing, drawn, limits, policies, wait_for_stores};
use crate::support::{Instance, PATIENCE, Running, Site, kafka, wait_until};

const ORGS: u32 = 100;
const COUNT: u64 = 60_000;

/// Starts a stream of about ten seconds into a log whose limits are set.
fn produce(site: &Site, seed: u64) -> Running {
    let (seed, count, orgs, rate) =
        (seed.to_string(), COUNT.to_string(), ORGS.to_string(), (COUNT / 10).to_string());
    site.start(&["produce", "--seed", &seed, "--count", &count, "--orgs", &orgs, "--rate", &rate])
}

fn folds(instance: &Instance, count: f64) {
    wait_until("an instance to fold its share", PATIENCE, || {
        instance.metrics().sum("tallyman_records_total") >= count
    });
}

/// All that was produced is summed and decided as the auditor does it.
fn check(kafka: &KafkaSettings, site: &Site, seed: u64, instances: &[&Instance]) {
    site.wait_for_the_end(PATIENCE);
    instances.iter().for_each(|instance| instance.wait_until_ready(PATIENCE));
    wait_for_stores(kafka, instances);
    let audit = Audit::of(kafka, Decoder::new(None));
    assert_eq!(audit.records, COUNT);
    check_answers(instances, &audit);
    let crossing = crossing(&audit, &limits(&drawn(&[(seed, COUNT)], ORGS)));
    assert!(crossing.len() > 20, "{} cross", crossing.len());
    audit::check_decisions(&audit::decisions(kafka), &crossing);
    audit::check_alerts(&audit::alerts(kafka), &crossing);
    assert_eq!(audit::letters(kafka, &kafka.topics.dead_letters), []);
}

#[test]
fn a_killed_member_is_replaced_by_the_other() {
    let kafka = kafka().with_topics("killed", 4);
    let (first, second) = (Site::new(&kafka, &[]), Site::new(&kafka, &[]));
    first.apply(&policies(&limits(&drawn(&[(21, COUNT)], ORGS))));
    let (one, two) = (first.run(), second.run());
    one.wait_until_it_owns(2.0);
    two.wait_until_it_owns(2.0);
    let producer = produce(&first, 21);
    folds(&one, 5_000.0);
    folds(&two, 5_000.0);
    two.kill();
    one.wait_until_it_owns(4.0);
    assert_eq!(producer.wait(PATIENCE), 0);
    check(&kafka, &first, 21, &[&one]);
    one.stop();
}

#[test]
fn a_worker_without_a_partition_keeps_no_instance_from_being_ready() {
    const PARTITIONS: usize = 3;
    let kafka = kafka().with_topics("spare", 3);
    // A worker a core, no more than partitions: two instances of two workers on two cores.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(PARTITIONS);
    let sites: Vec<Site> = (0..=PARTITIONS / workers).map(|_| Site::new(&kafka, &[])).collect();
    let instances: Vec<Instance> = sites.iter().map(Site::run).collect();
    instances.iter().for_each(|instance| instance.wait_until_ready(PATIENCE));
    wait_until("every partition to have an owner", PATIENCE, || {
        let owned: f64 =
            instances.iter().map(|instance| instance.metrics().sum("tallyman_assigned_partitions")).sum();
        (owned - 3.0).abs() < 0.5
    });
    sites[0].tell(&["produce", "--seed", "23", "--count", "3000", "--orgs", "30"]);
    sites[0].wait_for_the_end(PATIENCE);
    instances.iter().for_each(|instance| instance.wait_until_ready(PATIENCE));
    for instance in instances {
        instance.stop();
    }
}

#[test]
fn a_stopped_member_hands_over_and_comes_back_without_loss() {
    let kafka = kafka().with_topics("stopped", 4);
    let (first, second) = (Site::new(&kafka, &[]), Site::new(&kafka, &[]));
    first.apply(&policies(&limits(&drawn(&[(22, COUNT)], ORGS))));
    let (one, two) = (first.run(), second.run());
    two.wait_until_it_owns(2.0);
    let producer = produce(&first, 22);
    folds(&one, 3_000.0);
    folds(&two, 3_000.0);
    let took = two.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    one.wait_until_it_owns(4.0);
    // It comes back with a store that is older than what the other has published since.
    let two = second.run();
    two.wait_until_it_owns(2.0);
    one.wait_until_it_owns(2.0);
    folds(&two, 1_000.0);
    assert_eq!(producer.wait(PATIENCE), 0);
    check(&kafka, &first, 22, &[&one, &two]);
    println!("handed over in {took:?}, at the end in {:?} and {:?}", one.stop(), two.stop());
}
