//! The worker's ports on a real Apache Kafka: what librdkafka and the broker do where the laws count on it. Speeds
//! are printed, with `--nocapture`, and only loosely bounded: the machine may be busy.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use support::kafka::Kafka;
use support::ports::{
    TICK, accept, commit, control, number, offsets, output, owner, poll, produce, rebalance, records, sink, source,
};
use tallyman::kafka::{
    KafkaSettings, KafkaSink, KafkaSource, OffsetKeeper, Producer, Sent, TopicOutcome, check_topics, cluster_info,
    create_topics, drain, read_topic,
};
use tallyman::processor::ports::{
    Accepted, Committed, Input, LogRange, OutputTopic, Polled, PortError, Rebalance, RecordBatch as _, Sink as _,
    Source as _, Start, TransactError, mark_of,
};

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// How long one record a call takes for as many.
fn raw_poll(settings: &KafkaSettings, count: u64) -> Duration {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .set("group.id", "raw-poll")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..settings.partitions {
        list.add_partition_offset(&settings.topics.usage, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut seen, started) = (0, Instant::now());
    while seen < count {
        seen += u64::from(matches!(consumer.poll(TICK), Some(Ok(_))));
    }
    started.elapsed()
}

#[test]
fn every_record_comes_once_and_in_order() {
    const COUNT: u64 = 400_000;
    let settings = Kafka::shared().with_topics("order", 4);
    produce(&settings, 4, COUNT);
    let raw = drain(&settings, &settings.topics.usage).unwrap();
    assert_eq!(raw.records, COUNT);
    let mut source = owner(&settings);
    let (mut next, mut seen, started) = ([0_i64; 4], 0, Instant::now());
    while seen < COUNT {
        let batch = records(&mut source);
        for index in 0..batch.len() {
            let record = batch.get(index);
            let partition = usize::try_from(record.partition).unwrap();
            assert_eq!(record.offset, next[partition]);
            assert_eq!(number(record.value), u64::try_from(record.offset).unwrap() * 4 + partition as u64);
            assert_eq!(record.key, Some(&b"org"[..]));
            assert!(batch.headers(index).is_empty());
            next[partition] += 1;
        }
        seen += batch.len() as u64;
    }
    let source_took = started.elapsed();
    let polled = raw_poll(&settings, COUNT);
    let millis = |elapsed: Duration| COUNT / u64::try_from(elapsed.as_millis()).unwrap().max(1);
    println!(
        "source {}k records/s, raw batch drain {}k/s, raw poll {}k/s",
        millis(source_took),
        millis(raw.elapsed),
        millis(polled)
    );
    assert!(records(&mut source).is_empty());
    assert_eq!(source.range(0).unwrap(), LogRange { low: 0, stable: 100_000, high: 100_000 });
}

#[test]
fn partitions_move_only_when_their_owner_lets_go() {
    let settings = Kafka::shared().with_topics("handover", 4);
    let mut first = owner(&settings);
    let mut second = source(&settings, "127.0.0.1:2/n/0");
    let deadline = Instant::now() + Duration::from_secs(30);
    let revoked = loop {
        if let Polled::Rebalance(Rebalance::Revoked(revoked)) = poll(&mut first) {
            break revoked;
        }
        assert!(!matches!(poll(&mut second), Polled::Rebalance(_)), "nothing is free yet");
        assert!(Instant::now() < deadline);
    };
    assert_eq!(revoked.len(), 2);
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(2) {
        assert!(!matches!(poll(&mut second), Polled::Rebalance(_)), "the owner has not let go");
        assert!(records(&mut first).is_empty());
    }
    first.release(&revoked);
    let released = Instant::now();
    let given = loop {
        if let Polled::Rebalance(Rebalance::Assigned(given)) = poll(&mut second) {
            break given;
        }
        assert!(matches!(poll(&mut first), Polled::Records(_)));
        assert!(released.elapsed() < Duration::from_secs(20));
    };
    println!("handed over {:?} after the release", released.elapsed());
    assert_eq!(given, revoked);
    let mut members = first.members().unwrap();
    members.sort();
    assert_eq!(members, ["127.0.0.1:1/n/0", "127.0.0.1:2/n/0"]);
    // Neither an unanswered assignment nor records on their way keep a source from leaving.
    let started = Instant::now();
    drop(second);
    assert!(started.elapsed() < Duration::from_secs(5));
    let Rebalance::Assigned(back) = rebalance(&mut first) else { panic!("they come back") };
    assert_eq!(back, revoked);
    accept(&mut first, &back);
    produce(&settings, 4, 400);
    assert_eq!(offsets(&mut first, 400).len(), 400);
}

#[test]
fn a_rebalance_at_the_end_of_the_log_skips_nothing() {
    let settings = Kafka::shared().with_topics("rebalanced", 2);
    produce(&settings, 2, 20);
    let mut first = owner(&settings);
    let (mut seen, mut ended) = (0, HashSet::new());
    while seen < 20 || ended.len() < 2 {
        let batch = records(&mut first);
        seen += batch.len();
        ended.extend(batch.ends().iter().map(|(partition, _)| *partition));
    }
    // Another member comes, which pauses all that the first one has.
    let mut second = source(&settings, "127.0.0.1:2/n/0");
    let Rebalance::Revoked(revoked) = ({
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Polled::Rebalance(rebalance) = poll(&mut first) {
                break rebalance;
            }
            assert!(matches!(poll(&mut second), Polled::Records(_)));
            assert!(Instant::now() < deadline);
        }
    }) else {
        panic!("not revoked")
    };
    produce(&settings, 2, 20);
    first.release(&revoked);
    let kept = 1 - revoked[0];
    assert_eq!(offsets(&mut first, 10), (10..20).map(|offset| (kept, offset)).collect::<Vec<_>>());
}

#[test]
fn a_member_that_is_thrown_out_is_told_that_its_partitions_are_lost() {
    let mut settings = Kafka::shared().with_topics("lost", 2);
    settings.client = BTreeMap::from([
        ("session.timeout.ms".into(), "6000".into()),
        ("max.poll.interval.ms".into(), "6000".into()),
    ]);
    let mut source = owner(&settings);
    // A worker that hangs: this is what it takes, there is nothing to await.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(rebalance(&mut source), Rebalance::Lost(vec![0, 1]));
    assert!(matches!(source.membership(), Err(PortError::Retriable(_))));
    source.release(&[0, 1]);
    assert_eq!(rebalance(&mut source), Rebalance::Assigned(vec![0, 1]));
    accept(&mut source, &[0, 1]);
    produce(&settings, 2, 10);
    assert_eq!(offsets(&mut source, 10).len(), 10);
}

#[test]
fn a_commit_carries_outputs_offsets_and_metadata() {
    let settings = Kafka::shared().with_topics("commit", 1);
    let (mut source, mut sink) = (owner(&settings), sink(&settings, "commit-id"));
    assert_eq!(source.last_committed(&[0]).unwrap(), [None]);
    assert_eq!(source.stable_committed(&[0]).unwrap(), [None]);
    let mut times = Vec::new();
    for n in 1..=300_i64 {
        let outputs =
            [output(OutputTopic::Decisions, "org", Some(b"BLOCK")), output(OutputTopic::DeadLetters, "k", None)];
        let member = source.membership().unwrap();
        let started = Instant::now();
        sink.transact(&outputs, &[commit(n, &format!("{n}|7|commit-id"))], &member).unwrap();
        times.push(started.elapsed());
    }
    let (p50, p99) = percentiles(times.split_off(20));
    println!("transaction of two outputs and an offset: p50 {p50:?}, p99 {p99:?}");
    assert!(p50 < Duration::from_millis(60), "the commit has a floor again: {p50:?}");
    let committed = [Some(Committed { offset: 300, metadata: "300|7|commit-id".into() })];
    // The stable one first: it waits for the last commit's markers, the other does not.
    assert_eq!(source.stable_committed(&[0]).unwrap(), committed);
    assert_eq!(source.last_committed(&[0]).unwrap(), committed);
    let mut letters = 0;
    read_topic(&settings, &settings.topics.dead_letters, |record, headers| {
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), None));
        assert_eq!(headers, [("tallyman-reason".to_owned(), b"bad_field".to_vec())]);
        letters += 1;
    })
    .unwrap();
    assert_eq!(letters, 300);
}

#[test]
fn an_aborted_transaction_is_never_seen_and_the_next_one_works() {
    let settings = Kafka::shared().with_topics("abort", 1);
    let (mut source, mut sink) = (owner(&settings), sink(&settings, "abort-id"));
    let member = source.membership().unwrap();
    sink.transact(&[output(OutputTopic::Decisions, "a", Some(b"1"))], &[commit(1, "1")], &member).unwrap();
    let large = vec![0; 5_000_000];
    let outputs =
        [output(OutputTopic::Decisions, "b", Some(b"2")), output(OutputTopic::Decisions, "c", Some(&large))];
    let error = sink.transact(&outputs, &[commit(2, "2")], &member).unwrap_err();
    assert!(matches!(error, TransactError::Aborted(_)), "{error}");
    assert_eq!(source.stable_committed(&[0]).unwrap()[0].as_ref().unwrap().offset, 1);
    sink.transact(&[output(OutputTopic::Decisions, "d", None)], &[commit(3, "3")], &member).unwrap();
    sink.renew().unwrap();
    sink.transact(&[output(OutputTopic::Decisions, "e", Some(b"5"))], &[commit(4, "4")], &member).unwrap();
    let started = Instant::now();
    let found = control(&mut source);
    println!("control partition read in {:?}", started.elapsed());
    assert_eq!(found, [("a".into(), Some(b"1".to_vec())), ("d".into(), None), ("e".into(), Some(b"5".to_vec())),]);
}

/// A producer of `id` that has a decision and an input offset in an open transaction.
fn hanging(settings: &KafkaSettings, source: &KafkaSource, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000")
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<str, str>::to(&settings.topics.decisions).partition(0).key("open").payload("x");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&settings.topics.usage, 0, Offset::Offset(9)).unwrap();
    let member = source.membership().unwrap();
    producer.send_offsets_to_transaction(&list, &member, Duration::from_secs(10)).unwrap();
    producer
}

#[test]
fn fencing_ends_what_a_gone_owner_left_open() {
    let settings = Kafka::shared().with_topics("fence", 1);
    let (mut source, mut sink) = (owner(&settings), sink(&settings, "fence-mine"));
    let member = source.membership().unwrap();
    sink.transact(&[output(OutputTopic::Decisions, "a", None)], &[commit(5, "five")], &member).unwrap();
    let gone = hanging(&settings, &source, "fence-gone");
    assert_eq!(source.last_committed(&[0]).unwrap()[0].as_ref().unwrap().offset, 5);
    assert!(
        matches!(source.stable_committed(&[0]), Err(PortError::Retriable(_))),
        "an open transaction may still change it"
    );
    let started = Instant::now();
    sink.fence("fence-gone").unwrap();
    let fenced = started.elapsed();
    let committed = source.stable_committed(&[0]).unwrap();
    println!("fenced in {fenced:?}, stable offset after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(committed, [Some(Committed { offset: 5, metadata: "five".into() })]);
    assert_eq!(control(&mut source).len(), 1);
    assert!(gone.commit_transaction(Duration::from_secs(10)).is_err());
    // The same from the other side: whoever is taken over is told so.
    let _successor = KafkaSink::new(&settings, "x", "fence-mine", OffsetKeeper::Broker).unwrap();
    let error =
        sink.transact(&[output(OutputTopic::Decisions, "b", None)], &[commit(6, "six")], &member).unwrap_err();
    assert!(matches!(error, TransactError::Fenced(_)), "{error}");
}

#[test]
fn seeking_drops_what_was_fetched_and_pausing_loses_nothing() {
    let settings = Kafka::shared().with_topics("seek", 1);
    produce(&settings, 1, 60_000);
    let mut source = owner(&settings);
    for target in [0_i64, 31_000, 7] {
        let first = offsets(&mut source, 1);
        assert!(!first.is_empty());
        source.seek(0, Start { usage: target, policies: 0 }).unwrap();
        let again = offsets(&mut source, 20_000);
        assert!(
            again.iter().zip(target..).all(|(&(_, offset), expected)| offset == expected),
            "{:?}",
            &again[..3]
        );
    }
    // Back-pressure and a reload at once: what was sought is what comes after the pause.
    source.pause(0, true).unwrap();
    source.seek(0, Start { usage: 5, policies: 0 }).unwrap();
    source.pause(0, false).unwrap();
    assert_eq!(offsets(&mut source, 1).first(), Some(&(0, 5)));
    source.seek(0, Start { usage: 3, policies: 0 }).unwrap();
    source.pause(0, true).unwrap();
    source.pause(0, false).unwrap();
    assert_eq!(offsets(&mut source, 1).first(), Some(&(0, 3)));
    source.seek(0, Start { usage: 0, policies: 0 }).unwrap();
    let before = offsets(&mut source, 1).len();
    source.pause(0, true).unwrap();
    let paused = Instant::now();
    let mut seen = before;
    while paused.elapsed() < Duration::from_secs(1) {
        seen += records(&mut source).len();
    }
    assert!(seen < 60_000, "pausing stopped nothing");
    source.pause(0, false).unwrap();
    let rest = offsets(&mut source, 60_000 - seen);
    assert_eq!(rest.first(), Some(&(0, i64::try_from(seen).unwrap())));
    assert_eq!((rest.len(), rest.last()), (60_000 - seen, Some(&(0, 59_999))));
}

#[test]
fn a_log_that_does_not_hold_the_position_is_an_error_and_the_others_go_on() {
    let settings = Kafka::shared().with_topics("shrunk", 3);
    produce(&settings, 3, 300);
    let mut source = source(&settings, "127.0.0.1:1/n/0");
    assert!(matches!(rebalance(&mut source), Rebalance::Assigned(_)));
    let at = |partition, usage| Accepted { partition, start: Some(Start { usage, policies: 0 }) };
    source.accept(&[at(0, 5_000), at(1, 0), Accepted { partition: 2, start: None }]);
    let (mut error, mut seen, deadline) = (None, 0, Instant::now() + Duration::from_secs(20));
    while (error.is_none() || seen < 100) && Instant::now() < deadline {
        match source.poll(TICK) {
            Ok(Polled::Records(batch)) => {
                assert!((0..batch.len()).all(|index| batch.get(index).partition == 1));
                seen += batch.len();
            }
            Ok(Polled::Rebalance(rebalance)) => panic!("{rebalance:?}"),
            Err(told) => error = Some(told),
        }
    }
    assert_eq!(seen, 100);
    let Some(PortError::Partition { partition: 0, message: error }) = error else { panic!("{error:?}") };
    assert!(error.contains(&format!("{}/0", settings.topics.usage)), "{error}");
    // A halted partition is owned and starts later, at a seek.
    source.seek(2, Start { usage: 90, policies: 0 }).unwrap();
    assert_eq!(offsets(&mut source, 10), (90..100).map(|offset| (2, offset)).collect::<Vec<_>>());
    source.release(&[0, 1, 2]);
}

#[test]
fn partitions_whose_log_shrank_keep_no_other_from_moving_or_being_read() {
    let kafka = Kafka::shared();
    let settings = kafka.with_topics("shrunk", 3);
    produce(&settings, 3, 30);
    let mut first = owner(&settings);
    assert_eq!(offsets(&mut first, 30).len(), 30);
    // Two of three: the second member takes one at most, so that one that is not read stays with the first.
    let shrunk = [0, 1];
    shrunk.iter().for_each(|&partition| first.pause(partition, true).unwrap());
    produce(&settings, 3, 300);
    for partition in shrunk {
        kafka.delete_records(&settings.topics.usage, partition, 60);
        first.pause(partition, false).unwrap();
    }
    let (mut refused, mut seen, deadline) = (HashSet::new(), 0, Instant::now() + Duration::from_secs(20));
    while refused.len() < 2 || seen < 100 {
        assert!(Instant::now() < deadline, "refused: {refused:?}, {seen} records");
        match first.poll(TICK) {
            Ok(Polled::Records(batch)) => {
                seen += (0..batch.len()).filter(|&index| batch.get(index).partition == 2).count();
            }
            Err(PortError::Partition { partition, .. }) => assert!(refused.insert(partition), "reported once"),
            other => panic!("{:?}", other.err()),
        }
    }
    // A second member comes and goes: each of its rebalances is answered.
    let mut second = source(&settings, "127.0.0.1:2/n/0");
    let mut moved = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while moved.is_empty() {
        assert!(Instant::now() < deadline, "the second member gets nothing");
        if let Polled::Rebalance(Rebalance::Revoked(revoked)) = poll(&mut first) {
            first.release(&revoked);
        }
        if let Polled::Rebalance(Rebalance::Assigned(given)) = poll(&mut second) {
            accept(&mut second, &given);
            moved = given;
        }
    }
    drop(second);
    let Rebalance::Assigned(back) = rebalance(&mut first) else { panic!("they come back") };
    assert_eq!(back, moved);
    let start = Start { usage: 110, policies: 0 };
    let accepted: Vec<_> = back.iter().map(|&partition| Accepted { partition, start: Some(start) }).collect();
    first.accept(&accepted);
    shrunk.iter().for_each(|&partition| first.seek(partition, start).unwrap());
    produce(&settings, 3, 30);
    let mut all = offsets(&mut first, 30);
    all.sort_unstable();
    assert_eq!(all, (0..3).flat_map(|p| (110..120).map(move |offset| (p, offset))).collect::<Vec<_>>());
}

#[test]
fn single_records_and_ends_are_found() {
    let settings = Kafka::shared().with_topics("marks", 1);
    produce(&settings, 1, 100);
    let mut source = owner(&settings);
    let mut mark = None;
    while mark.is_none() {
        let batch = records(&mut source);
        mark = (0..batch.len()).map(|index| mark_of(&batch.get(index))).find(|mark| mark.offset == 42);
    }
    assert_eq!(source.record_mark(Input::Usage, 0, 42).unwrap(), mark);
    assert_eq!(source.record_mark(Input::Usage, 0, 100).unwrap(), None);
    assert_eq!(source.record_mark(Input::Usage, 0, 5_000).unwrap(), None);
    assert_eq!(source.policies_range(0).unwrap(), (0, 0));
    assert!(control(&mut source).is_empty());
    let info = cluster_info(&settings).unwrap();
    assert_eq!((info.partitions, info.cluster_id), (source.partitions(), source.cluster_id().unwrap()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while source.cached_range(0).is_none() && Instant::now() < deadline {
        assert!(records(&mut source).is_empty());
    }
    assert_eq!(source.cached_range(0), Some(LogRange { low: 0, stable: 100, high: 100 }));
}

#[test]
fn records_and_terms_reach_a_waiting_worker_at_once() {
    let settings = Kafka::shared().with_topics("latency", 1);
    let mut source = owner(&settings);
    let producer = Producer::new(&settings, "latency").unwrap();
    let sent = Sent { key: Some(b"org"), value: Some(b"x"), partition: Some(0), ..Sent::default() };
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        producer.send(&settings.topics.usage, &sent).unwrap();
        while source
            .poll(Duration::from_secs(1))
            .is_ok_and(|polled| matches!(polled, Polled::Records(batch) if batch.is_empty()))
        {}
        times.push(started.elapsed());
    }
    let (p50, p99) = percentiles(times);
    println!("produce to poll, 5 ms linger included: p50 {p50:?}, p99 {p99:?}");
    assert!(p50 < Duration::from_millis(100));
    producer.send(&settings.topics.policies, &sent).unwrap();
    let started = Instant::now();
    let mut terms = source.poll_policies();
    while terms.is_empty() && started.elapsed() < Duration::from_secs(5) {
        assert!(records(&mut source).is_empty());
        terms = source.poll_policies();
    }
    assert_eq!((terms.len(), terms.get(0).value), (1, Some(&b"x"[..])));
}

#[test]
fn topics_are_made_as_they_must_be_and_differences_are_named() {
    let kafka = Kafka::shared();
    let settings = kafka.settings("topics", 3);
    let problems = check_topics(&settings).unwrap();
    assert_eq!(problems.len(), 6);
    assert!(problems[0].to_string().contains("tallyman topics create"), "{}", problems[0]);
    // The decisions topic of these settings is the usage topic of others: deleted by age, and with another
    // partition count.
    let other = kafka.with_topics("topics-other", 2);
    let mut mixed = settings.clone();
    mixed.topics.decisions.clone_from(&other.topics.usage);
    let reports = create_topics(&mixed).unwrap();
    let created = reports.iter().filter(|report| report.outcome == TopicOutcome::Created).count();
    assert_eq!(created, 5);
    let told: Vec<_> = check_topics(&mixed).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(check_topics(&mixed).unwrap().iter().filter(|problem| problem.is_acceptable()).count(), 1);
    assert!(told.iter().any(|problem| problem.contains("has 2 partitions, the usage topic has 3")), "{told:?}");
    assert!(
        told.iter().any(|problem| problem.contains("cleanup.policy = delete, it must be compact")),
        "{told:?}"
    );
    assert_eq!(create_topics(&settings).unwrap()[2].outcome, TopicOutcome::Created);
    assert!(create_topics(&settings).unwrap().iter().all(|report| report.outcome == TopicOutcome::Exists(vec![])));
}
