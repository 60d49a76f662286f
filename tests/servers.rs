//! The test servers themselves: they start, can be killed, and start again on the data they had.

mod support;

use std::time::Duration;

use support::kafka::Kafka;
use support::registry::Registry;
use tallyman::kafka::{Producer, Sent, check_topics, drain};

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
fn a_killed_registry_refuses_until_it_starts_again() {
    let mut registry = Registry::start();
    let address = registry.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    registry.kill();
    assert!(std::net::TcpStream::connect(&address).is_err());
    registry.restart();
    assert!(std::net::TcpStream::connect(&address).is_ok());
}
