//! The embedded broker of `tallyman dev`: what a worker needs of it.

mod support;

use support::ports::{accept, commit, control, offsets, output, produce, rebalance};
use tallyman::kafka::{Embedded, KafkaSettings, KafkaSink, KafkaSource, OffsetKeeper};
use tallyman::processor::ports::{Committed, Input, LogRange, OutputTopic, Rebalance, Sink as _, Source as _};

#[test]
fn the_embedded_broker_serves_a_worker_that_keeps_its_offsets_in_process() {
    let mut settings = KafkaSettings { partitions: 2, replication_factor: 1, ..KafkaSettings::default() };
    let broker = Embedded::start(&settings).unwrap();
    settings.bootstrap_servers = broker.bootstrap_servers();
    let keeper = OffsetKeeper::in_process();
    let mut source = KafkaSource::new(&settings, "127.0.0.1:1/n/0", 1_000, keeper.clone()).unwrap();
    let mut sink = KafkaSink::new(&settings, "127.0.0.1:1/n/0", "dev", keeper).unwrap();
    assert_eq!(rebalance(&mut source), Rebalance::Assigned(vec![0, 1]));
    accept(&mut source, &[0, 1]);
    produce(&settings, 2, 50);
    assert_eq!(offsets(&mut source, 50).len(), 50);
    let member = source.membership().unwrap();
    sink.transact(&[output(OutputTopic::Decisions, "a", Some(b"1"))], &[commit(25, "m")], &member).unwrap();
    assert_eq!(
        source.stable_committed(&[0, 1]).unwrap(),
        [Some(Committed { offset: 25, metadata: "m".into() }), None]
    );
    assert_eq!(control(&mut source), [("a".into(), Some(b"1".to_vec()))]);
    assert_eq!(source.range(0).unwrap(), LogRange { low: 0, stable: 25, high: 25 });
    assert!(source.record_mark(Input::Usage, 0, 3).unwrap().is_some());
    assert_eq!(source.record_mark(Input::Usage, 0, 25).unwrap(), None);
    assert!(source.cluster_id().is_ok());
    assert_eq!(source.members().unwrap(), ["127.0.0.1:1/n/0"]);
    sink.fence("gone").unwrap();
    sink.renew().unwrap();
}
