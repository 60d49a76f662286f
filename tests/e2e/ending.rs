//! When one part of an instance ends by itself, the whole instance ends: the other parts drain, and the exit code is 1.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tallyman::app::{App, Wiring};
use tallyman::clock::{Clock, SystemClock};
use tallyman::domain::time::Timestamp;
use tallyman::kafka::OffsetKeeper;

use crate::support::{PATIENCE, Progress, Site, get, kafka, wait_until};

/// A clock that breaks in the hands of the last worker when it is asked to.
#[derive(Default)]
struct Fragile(Arc<AtomicBool>);

/// The worker that nobody lacks: on one core the first is the last.
fn last_worker() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("worker-{}", cores.min(4) - 1)
}

impl Clock for Fragile {
    fn read(&self) -> (Timestamp, Duration) {
        let here = std::thread::current();
        assert!(!self.0.load(Ordering::SeqCst) || here.name() != Some(&last_worker()), "the clock broke");
        SystemClock.read()
    }
}

#[test]
fn a_worker_that_panics_ends_the_instance_after_the_others_have_drained() {
    let kafka = kafka().with_topics("panics", 4);
    let site = Site::new(&kafka, &[]);
    let broken = Arc::new(AtomicBool::new(false));
    let start = |clock: Arc<dyn Clock>| {
        let wiring = Wiring { clock, offsets: OffsetKeeper::Broker, check_topics: true, adopt_from: None };
        App::start(&site.settings(), wiring).unwrap()
    };
    let app = start(Arc::new(Fragile(Arc::clone(&broken))));
    let (address, health) = (app.address(), app.health().clone());
    wait_until("an instance to be ready", PATIENCE, || health.ready().is_ok());
    site.tell(&["produce", "--seed", "81", "--count", "20000", "--orgs", "50"]);
    site.wait_for_the_end(PATIENCE);
    assert_eq!(get(&format!("http://{address}/livez")).0, 200);

    broken.store(true, Ordering::SeqCst);
    let broke = Instant::now();
    let error = app.wait().unwrap_err().to_string();
    let number = last_worker().replace("worker-", "worker ");
    assert!(error.contains(&format!("{number} panicked: the clock broke")), "{error}");
    assert!(broke.elapsed() < Duration::from_secs(9), "the others did not drain: {:?}", broke.elapsed());
    assert!(TcpStream::connect(address).is_err(), "it answers no more");
    assert!(Progress::new(&kafka).has_ended());

    let app = start(Arc::new(SystemClock));
    let health = app.health().clone();
    wait_until("the next one to be ready", PATIENCE, || health.ready().is_ok());
    app.stop().unwrap();
}
