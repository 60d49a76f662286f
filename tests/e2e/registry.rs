//! Framed records with a real registry, also while it is out of reach: records wait, none is at fault.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tallyman::cli::generator::{Generator, Load};
use tallyman::clock::{Clock as _, SystemClock};
use tallyman::codec::{Decoder, RecordType, ValueEncoding, encode_usage};
use tallyman::domain::credits::format_decimal;
use tallyman::domain::limits::decision::Action;
use tallyman::kafka::read_topic;
use tallyman::registry::{Client, SchemaRegistry};

use crate::audit::{self, Audit};
use crate::exact::{check_answers, wait_for_stores};
use crate::servers::registry::Registry;
use crate::support::{PATIENCE, Site, kafka, wait_for, wait_until};

/// How long the registry is down.
const OUTAGE: Duration = Duration::from_secs(20);

/// Stands before a server and can be cut: then it answers nobody, as a dead one.
struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Before the server at `target`, `host:port`.
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_cut, all) = (Arc::clone(&cut), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&target).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    all.lock().unwrap().push(from.try_clone().unwrap());
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        // Either side may go at any time: that ends the other too.
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, cut, open }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Framed events of the one org, under the schema of this id.
fn framed(generator: &mut Generator, id: u32, count: u64) -> Vec<(&'static str, Vec<u8>)> {
    let event = |_| {
        let mut value = Vec::new();
        encode_usage(&generator.next(SystemClock.now()), ValueEncoding::Framed(id), &mut value);
        ("org-0000", value)
    };
    (0..count).map(event).collect()
}

/// The id of a `UsageEvent`'s schema, once the registry gives it: a call takes two seconds at most, its first one longer.
fn registered(client: &Client, schema: &str) -> u32 {
    let subject = RecordType::UsageEvent.subject();
    wait_for("the registry to take a schema", PATIENCE, || client.register(&subject, schema).ok())
}

#[test]
fn records_wait_while_the_registry_is_down_and_outputs_are_framed_too() {
    let registry = Registry::shared();
    let url = registry.url();
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let proxy = Proxy::start(address.clone());
    let proxied = format!("\"{}\"", url.replace(&address, &format!("127.0.0.1:{}", proxy.port)));
    let kafka = kafka().with_topics("registry", 1);
    let site = Site::new(&kafka, &[("registry.url", &proxied), ("kafka.output_encoding", "\"registry\"")]);
    site.apply("type: OrgPolicy\norg_id: org-0000\nplan: team\nbase_allocation: 1\n");

    let client = Arc::new(Client::new(&url, None).unwrap());
    let schema = RecordType::UsageEvent.avsc();
    let first = registered(&client, schema);
    let newer = schema.replacen('{', "{\"doc\": \"A later version of the same fields.\",", 1);
    let mut generator = Generator::new(Load::new(31, 1));
    let instance = site.run();
    site.send(&framed(&mut generator, first, 500));
    site.wait_for_the_end(PATIENCE);

    proxy.cut(true);
    let down = Instant::now();
    let second = registered(&client, &newer);
    assert_ne!(first, second, "a new version has an id that nobody knows yet");
    let lag = || instance.metrics().sum("tallyman_lag_records");
    for (count, total) in [(300, 300.0), (200, 500.0)] {
        site.send(&framed(&mut generator, second, count));
        wait_until(&format!("the lag to grow to {total}"), PATIENCE, || lag() >= total);
    }
    wait_until("the registry's errors to be counted", PATIENCE, || {
        instance.metrics().sum("tallyman_registry_errors_total") >= 3.0
    });
    // The outage itself: nothing must happen, so there is nothing to await.
    thread::sleep(OUTAGE.saturating_sub(down.elapsed()));
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
    assert!(lag() >= 500.0, "{}", lag());
    let (status, reasons) = instance.get("/readyz");
    assert_eq!(status, 503, "{reasons}");
    let errors = instance.metrics().sum("tallyman_registry_errors_total");

    proxy.cut(false);
    let up = Instant::now();
    site.wait_for_the_end(PATIENCE);
    println!("down for {:?} with {errors} errors, at the end {:?} later", up - down, up.elapsed());
    instance.wait_until_ready(PATIENCE);
    wait_for_stores(&kafka, &[&instance]);
    let audit = Audit::of(&kafka, Decoder::new(Some(client.clone())));
    assert_eq!(audit.records, 1_000);
    println!("{} credits", format_decimal(audit.by_org["org-0000"].0, 6));
    check_answers(&[&instance], &audit);
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);

    let mut framed = 0;
    read_topic(&kafka, &kafka.topics.decisions, |record, _| {
        assert_eq!(record.value.unwrap()[0], 0, "Confluent framing");
        framed += 1;
    })
    .unwrap();
    let decisions = audit::decoded_decisions(&kafka, Decoder::new(Some(client)));
    assert_eq!(decisions.last().unwrap().level.action, Action::Block);
    assert!(framed > decisions.len(), "heartbeats are framed too");
    instance.stop();
}

#[test]
fn a_denied_schema_is_a_dead_letter_after_half_a_minute_and_one_that_is_given_meanwhile_costs_nothing() {
    let registry = Registry::start();
    let kafka = kafka().with_topics("denied", 1);
    let site = Site::new(&kafka, &[("registry.url", &format!("\"{}\"", registry.url()))]);
    let schema = RecordType::UsageEvent.avsc();
    let client = Client::new(&registry.url(), None).unwrap();
    let known = registered(&client, schema);
    let mut generator = Generator::new(Load::new(31, 1));
    let instance = site.run();

    let sent = Instant::now();
    site.send(&framed(&mut generator, 424_242, 1));
    site.send(&framed(&mut generator, known, 10));
    wait_until("the registry's denial to be told", PATIENCE, || {
        let (_, reasons) = instance.get("/readyz");
        ["waits", &registry.url(), "denies schema id 424242", "40403"].iter().all(|told| reasons.contains(told))
    });
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
    site.wait_for_the_end(PATIENCE);
    assert!(sent.elapsed() >= Duration::from_secs(30), "believed after {:?}", sent.elapsed());
    let letters = audit::letters(&kafka, &kafka.topics.dead_letters);
    assert_eq!(letters.len(), 1, "{letters:?}");

    // Ids are given out in order, so the next one is known before it is.
    let newer = |version: u32| schema.replacen('{', &format!("{{\"doc\": \"denied, version {version}\","), 1);
    let last = registered(&client, &newer(1));
    let told = Instant::now();
    site.send(&framed(&mut generator, last + 1, 5));
    wait_until("the next id to be denied", PATIENCE, || {
        instance.get("/readyz").1.contains(&format!("denies schema id {}", last + 1))
    });
    assert_eq!(registered(&client, &newer(2)), last + 1);
    site.wait_for_the_end(PATIENCE);
    println!("folded {:?} after it was sent", told.elapsed());
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters).len(), 1, "nothing more is lost");
    instance.wait_until_ready(PATIENCE);
    instance.stop();
}

#[test]
fn a_wrong_path_to_the_registry_loses_no_record_and_is_told_with_the_answer() {
    let registry = Registry::shared();
    let kafka = kafka().with_topics("wrong-path", 1);
    let wrong = registry.url().replace("/apis/ccompat/v7", "/apis/ccompat");
    let site = Site::new(&kafka, &[("registry.url", &format!("\"{wrong}\""))]);
    let client = Client::new(&registry.url(), None).unwrap();
    let id = registered(&client, RecordType::UsageEvent.avsc());
    let instance = site.run();
    site.send(&framed(&mut Generator::new(Load::new(31, 1)), id, 10));
    wait_until("the wrong path to be told", PATIENCE, || {
        let (status, reasons) = instance.get("/readyz");
        let told =
            ["partition 0 waits", wrong.as_str(), "status 404", "Could not find resource", "`registry.url`"];
        status == 503 && told.iter().all(|told| reasons.contains(told))
    });
    assert!(instance.running.said().contains("status 404"), "the log tells it too: {}", instance.running.said());
    instance.stop();
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);

    let right = Site::new(&kafka, &[("registry.url", &format!("\"{}\"", registry.url()))]);
    let instance = right.run();
    right.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    instance.stop();
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
}
