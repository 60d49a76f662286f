//! `tallyman dev` as a person meets it: the binary, its words, its two addresses, and nothing left behind.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tallyman::kafka::{KafkaSettings, Producer, Sent};

/// How long a person waits for the first BLOCK at most.
const FIRST_BLOCK_MAX: Duration = Duration::from_secs(60);
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The demo, killed with the test if it has not ended before.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Demo {
    fn start(temp: &Path, listen: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tallyman"))
            .arg("dev")
            .env("TMPDIR", temp)
            .env("TALLYMAN__HTTP__LISTEN", listen)
            .env_remove("TALLYMAN_CONFIG")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, said: String::new() }
    }

    /// The next line that holds `part`.
    fn line(&mut self, part: &str, wait: Duration) -> String {
        let deadline = Instant::now() + wait;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("no `{part}` in time; it said:\n{}", self.said));
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The word behind `name` in a line that holds it.
    fn word_after(&mut self, name: &str) -> String {
        let line = self.line(name, PATIENCE);
        line.split_whitespace().nth(1).expect("a word").to_owned()
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "{signal:?} does not end it; it said:\n{}", self.said);
            // There is no event for the end of a process but a wait without a bound.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(url: &str) -> Option<serde_json::Value> {
    let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}

/// Over HTTP there is no event for what the stores hold: they are asked again until it is so.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("a directory").count()
}

#[test]
fn the_demo_welcomes_blocks_within_a_minute_folds_what_others_produce_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = (taken.local_addr().expect("bound"), taken);
    let mut demo = Demo::start(temp.path(), &taken.0.to_string());
    let api = demo.word_after("  API ");
    assert!(demo.said.contains(&format!("{} is in use", taken.0)), "{}", demo.said);
    let broker = demo.word_after("  Broker ");
    demo.line("Live traffic runs.", PATIENCE);
    assert!(ureq::get(format!("{api}/readyz")).call().is_ok(), "it is ready when it welcomes");
    assert_eq!(entries(temp.path()), 1, "its store is in the temporary directory");

    let line = demo.line("  BLOCK  ", FIRST_BLOCK_MAX);
    assert!(line.contains("halden-studios: used ") && line.contains("the allowance is spent"), "{line}");
    assert!(line.contains(" ms after the event"), "{line}");
    until("the API tells the block", || {
        get(&format!("{api}/v1/orgs/halden-studios/decisions"))
            .is_some_and(|told| told["decisions"][0]["action"] == "BLOCK")
    });

    let settings = KafkaSettings { bootstrap_servers: broker, ..KafkaSettings::default() };
    let producer = Producer::new(&settings, "test").expect("a producer");
    let now = tallyman::clock::Clock::now(&tallyman::clock::SystemClock);
    let value = format!(
        r#"{{"type":"UsageEvent","event_id":"mine","source":"test","occurred_at":"{now}","org_id":"walkers","product":"chat","operation":"ask","credits":"2.5"}}"#
    );
    let sent = Sent { key: Some(b"walkers"), value: Some(value.as_bytes()), ..Sent::default() };
    producer.send(&settings.topics.usage, &sent).expect("sent");
    producer.flush(PATIENCE).expect("acknowledged");
    until("the event is in the sum", || {
        get(&format!("{api}/v1/orgs/walkers")).is_some_and(|org| org["used"] == "2.500000")
    });

    assert_eq!(demo.signal(Signal::INT).code(), Some(0));
    assert_eq!(entries(temp.path()), 0, "nothing is left behind");
}

#[test]
fn a_demo_that_is_ended_while_it_starts_leaves_nothing_behind() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut demo = Demo::start(temp.path(), "127.0.0.1:0");
    let deadline = Instant::now() + PATIENCE;
    while entries(temp.path()) == 0 {
        assert!(Instant::now() < deadline, "it does not start");
        // The demo says nothing so early: only its directory shows that it has begun.
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(demo.signal(Signal::TERM).code(), Some(0));
    assert_eq!(entries(temp.path()), 0);
}
