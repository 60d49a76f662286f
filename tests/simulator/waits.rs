//! Records that wait for what is not their fault: no other partition waits with them, people read why, and a replay waits
//! like anything else. And what is told of records with fields that nobody reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::in_memory::{POLICIES, USAGE};
use tallyman::codec::{Decoder, RecordType, RegistryError, SchemaRegistry, ValueEncoding, encode_event};
use tallyman::processor::ports::OutputTopic;
use tallyman::telemetry::TaskState;

use crate::scenario::{hard, policy, soft, usage, with};
use crate::support::{Member, Options, START, World, scratch};

/// A registry that knows one schema while it is up, and keeps what it was asked for.
#[derive(Default)]
struct Registry {
    up: AtomicBool,
    asked: Mutex<Vec<u32>>,
}

impl SchemaRegistry for Registry {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        self.asked.lock().unwrap().push(id);
        if self.up.load(Ordering::SeqCst) {
            Ok((id == 1).then(|| RecordType::UsageEvent.avsc().into()))
        } else {
            Err(RegistryError("http://registry answers with status 404".into()))
        }
    }

    fn register(&self, _: &str, _: &str) -> Result<u32, RegistryError> {
        unreachable!("outputs are JSON here")
    }
}

fn framed(id: u32, event_id: &str, credits: &str) -> Vec<u8> {
    let json = usage(event_id, &hard(), credits, START).to_string();
    let mut value = Vec::new();
    let event = Decoder::new(None).usage(json.as_bytes()).map(|event| {
        encode_event(&event, ValueEncoding::Framed(id), &mut value);
    });
    event.unwrap();
    value
}

/// What partition 0 waits for, once it is told.
fn cause(member: &mut Member) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        member.turn().unwrap();
        match member.health.tasks().into_iter().find(|(partition, _)| *partition == 0) {
            Some((_, TaskState::Waiting { cause })) => return cause,
            told => assert!(Instant::now() < deadline, "it does not wait: {told:?}"),
        }
    }
}

fn committed(world: &World, partition: i32) -> i64 {
    world.log.committed(partition).map_or(0, |committed| committed.offset)
}

#[test]
fn a_framed_record_without_a_registry_waits_with_the_settings_name_and_the_other_partition_goes_on() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    world.put_raw(USAGE, 0, Some(&hard()), Some(&framed(1, "e", "2")));
    world.spend("elsewhere", &soft(), "1");
    let cause = cause(&mut member);
    assert!(cause.contains("`registry.url` is not set") && cause.contains("schema id 1"), "{cause}");
    let reasons = member.health.ready().unwrap_err();
    assert!(reasons.iter().any(|reason| reason.contains("partition 0 waits:")), "{reasons:?}");
    member.settle().unwrap();
    assert_eq!(committed(&world, 0), 0, "the record is not passed");
    assert_eq!(committed(&world, 1), world.log.end(OutputTopic::Usage, 1), "the other partition goes on");
    assert!(world.log.records(OutputTopic::DeadLetters, 0).is_empty());
}

#[test]
fn a_muted_replay_waits_for_the_registry_and_loses_nothing() {
    let registry = Arc::new(Registry::default());
    let world = World::new(Options { registry: Some(registry.clone()), ..Options::default() });
    registry.up.store(true, Ordering::SeqCst);
    let dirs = [scratch(), scratch()];
    let mut first = world.member("a", dirs[0].path());
    world.put(POLICIES, &policy(&hard(), "7"));
    world.spend("before", &hard(), "1");
    world.put_raw(USAGE, 0, Some(&hard()), Some(&framed(1, "framed", "2")));
    world.spend("after", &hard(), "4");
    first.settle().unwrap();
    first.release(&[0, 1]).unwrap();
    drop(first);
    assert_eq!(committed(&world, 0), world.log.end(OutputTopic::Usage, 0));

    registry.up.store(false, Ordering::SeqCst);
    let mut second = world.member("b", dirs[1].path());
    let cause = cause(&mut second);
    assert!(cause.contains("http://registry answers with status 404"), "{cause}");
    registry.up.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    while second.health.ready().is_err() {
        assert!(Instant::now() < deadline, "{:?}", second.health.ready());
        second.turn().unwrap();
    }
    second.release(&[0, 1]).unwrap();
    drop(second);
    assert_eq!(world.dump(dirs[0].path(), 0), world.dump(dirs[1].path(), 0));
    assert!(world.log.records(OutputTopic::DeadLetters, 0).is_empty());
}

#[test]
fn schemas_of_records_behind_one_that_waits_are_asked_for_too() {
    let registry = Arc::new(Registry::default());
    let (dir, world) =
        (scratch(), World::new(Options { registry: Some(registry.clone()), batch: 100, ..Options::default() }));
    let mut member = world.member("a", dir.path());
    for id in [5, 6, 5, 7] {
        world.put_raw(USAGE, 0, Some(&hard()), Some(&framed(id, "e", "2")));
    }
    cause(&mut member);
    let mut asked = registry.asked.lock().unwrap().clone();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [5, 6, 7], "what the registry denies of them is denied for as long");
}

#[test]
fn unknown_fields_are_counted_once_a_record_also_inside_cloud_events() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    world.put(POLICIES, &with(policy(&hard(), "2"), &serde_json::json!({"colour": "red"})));
    let misspelt = |id: &str| with(usage(id, &hard(), "1", world.now()), &serde_json::json!({"user": "ann"}));
    // The second one causes a decision, for which it is decoded once more.
    world.put(USAGE, &misspelt("one"));
    world.put(USAGE, &misspelt("two"));
    let mut data = misspelt("three");
    let data = data.as_object_mut().unwrap();
    for name in ["type", "event_id", "source"] {
        data.remove(name);
    }
    let envelope = serde_json::json!({
        "specversion": "1.0", "type": "tallyman.v1.UsageEvent", "id": "three", "source": "meter", "subject": "x",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "data": data,
    });
    world.put_raw(USAGE, 0, Some(&hard()), Some(envelope.to_string().as_bytes()));
    // Refused for the very field that is misspelt.
    let refused =
        with(usage("four", &hard(), "1", world.now()), &serde_json::json!({"product": null, "Product": "p"}));
    world.put(USAGE, &refused);
    member.settle().unwrap();
    let metrics = world.telemetry.render();
    assert!(metrics.contains("\ntallyman_unknown_fields_total 5\n"), "{metrics}");
}
