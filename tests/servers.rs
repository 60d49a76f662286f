//! The test servers themselves: they start, can be killed, and start again on the data they had.

mod support;

use std::time::{Duration, Instant};

use support::kafka::Kafka;
use support::ports::{TICK, accept, commit, control, output, owner, produce, sink};
use support::registry::Registry;
use tallyman::kafka::{Producer, Sent, check_topics, drain};
use tallyman::processor::ports::{
    Committed, OutputTopic, Polled, PortError, Rebalance, RecordBatch as _, Sink as _, Source as _, TransactError,
};

#[test]
fn a_killed_broker_starts_again_on_its_data() {
    let mut kafka = Kafka::start();
    let settings = kafka.with_topics("again", 2);
    let producer = Producer::new(&settings, "servers").unwrap();
    for _ in 0..100 {
        producer.send(&settings.topics.usage, &Sent { key: Some(b"org"), ..Sent::default() }).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    kafka.kill();
    kafka.restart();
    assert_eq!(drain(&settings, &settings.topics.usage).unwrap().records, 100);
    assert_eq!(check_topics(&settings).unwrap(), []);
}

#[test]
fn a_worker_outlives_its_broker_and_knows_what_was_committed() {
    let mut kafka = Kafka::start();
    let settings = kafka.with_topics("outage", 1);
    let (mut source, mut sink) = (owner(&settings), sink(&settings, "outage-id"));
    let member = source.membership().unwrap();
    let block = [output(OutputTopic::Decisions, "org", Some(b"BLOCK"))];
    sink.transact(&block, &[commit(1, "1")], &member).unwrap();
    kafka.kill();
    let error = sink.transact(&block, &[commit(2, "2")], &member).unwrap_err();
    println!("without a broker: {error}");
    assert!(matches!(error, TransactError::Unknown(_)), "{error}");
    kafka.restart();
    sink.renew().unwrap();
    let kept = Committed { offset: 1, metadata: "1".into() };
    assert_eq!(patiently(|| source.stable_committed(&[0])), [Some(kept)]);
    produce(&settings, 1, 10);
    // The group may have thrown the member out meanwhile.
    let mut seen = 0;
    while seen < 10 {
        match patiently(|| source.poll(TICK)) {
            Polled::Records(batch) => seen += batch.len(),
            Polled::Rebalance(Rebalance::Assigned(partitions)) => accept(&mut source, &partitions),
            Polled::Rebalance(Rebalance::Revoked(gone) | Rebalance::Lost(gone)) => source.release(&gone),
        }
    }
    let member = patiently(|| source.membership());
    sink.transact(&block, &[commit(10, "3")], &member).unwrap();
    assert_eq!(control(&mut source).len(), 2);
}

/// Asks again while the port says that it may work later.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, PortError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(PortError::Retriable(_)) if Instant::now() < deadline => std::thread::sleep(TICK),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_killed_registry_refuses_until_it_starts_again() {
    let mut registry = Registry::start();
    let address = registry.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    registry.kill();
    assert!(std::net::TcpStream::connect(&address).is_err());
    registry.restart();
    assert!(std::net::TcpStream::connect(&address).is_ok());
}
