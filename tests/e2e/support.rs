//! A site: a directory with a config file and stores, and the binary that runs there. An instance never outlives its test, and every
//! wait has an end that says what was awaited.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tallyman::config::{self, Settings};
use tallyman::kafka::{KafkaSettings, Producer, Sent};

use crate::servers::kafka::Kafka;

/// The binary under test.
pub const TALLYMAN: &str = env!("CARGO_BIN_EXE_tallyman");

/// Runs "$@" with its output in the file $1; tells its pid; kills it when the pipe closes; ends with its exit code.
const HOLDER: &str = r#"
exec 3<&0 2>/dev/null
log=$1
shift
"$@" >>"$log" 2>&1 </dev/null 3<&- &
pid=$!
echo $pid
(read -r _ <&3; kill -9 $pid) >/dev/null &
reader=$!
wait $pid
code=$?
kill $reader
exit $code
"#;

/// The broker of all these tests but those that kill theirs. A member that is killed is missed after three seconds.
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(start_kafka)
}

/// A broker of one's own, to be killed.
pub fn start_kafka() -> Kafka {
    Kafka::start_with(&[("group.min.session.timeout.ms", "1000")])
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        // Another process gives no event to wait for.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until it holds.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}

/// The longest wait for what should take seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A directory with a config file and the stores of one instance.
pub struct Site {
    dir: tempfile::TempDir,
    /// The cluster and its topics.
    pub kafka: KafkaSettings,
    settings: BTreeMap<String, String>,
}

impl Site {
    /// A site with these settings laid over those that every test has: dotted keys, values as TOML writes them; an empty one takes
    /// the key out.
    pub fn new(kafka: &KafkaSettings, more: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("tallyman-e2e-").tempdir().unwrap();
        let text = |value: &str| format!("{value:?}");
        let mut settings = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        set("kafka.bootstrap_servers", text(&kafka.bootstrap_servers));
        set("kafka.group_id", text(&kafka.group_id));
        set("kafka.partitions", kafka.partitions.to_string());
        set("kafka.replication_factor", "1".into());
        set("kafka.topics.usage", text(&kafka.topics.usage));
        set("kafka.topics.policies", text(&kafka.topics.policies));
        set("kafka.topics.decisions", text(&kafka.topics.decisions));
        set("kafka.topics.alerts", text(&kafka.topics.alerts));
        set("kafka.topics.purchases", text(&kafka.topics.purchases));
        set("kafka.topics.dead_letters", text(&kafka.topics.dead_letters));
        set("kafka.client.\"session.timeout.ms\"", text("3000"));
        set("store.dir", text(&dir.path().join("data").display().to_string()));
        set("memory.limit", text("256MiB"));
        set("http.listen", text("127.0.0.1:0"));
        set("gate.listen", text("127.0.0.1:0"));
        set("limits.default", text("allow"));
        set("log.format", text("text"));
        for (key, value) in more {
            set(key, (*value).to_owned());
        }
        settings.retain(|_, value| !value.is_empty());
        let site = Self { dir, kafka: kafka.clone(), settings };
        fs::write(site.path("tallyman.toml"), site.config()).unwrap();
        site
    }

    /// The config file's text.
    pub fn config(&self) -> String {
        self.settings.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{key} = {value}").unwrap();
            text
        })
    }

    /// A file of this site.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The settings as the binary reads them.
    pub fn settings(&self) -> Settings {
        config::resolve(Some(("tallyman.toml", &self.config())), []).unwrap()
    }

    /// The arguments of a command here.
    fn command(&self, args: &[&str]) -> Vec<String> {
        let config = self.path("tallyman.toml").display().to_string();
        let mut command = vec![TALLYMAN.to_owned(), "--config".to_owned(), config];
        command.extend(args.iter().map(|&arg| arg.to_owned()));
        command
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    pub fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let command = self.command(args);
        let done = Command::new(&command[0]).args(&command[1..]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
    }

    /// Runs a command that must work; its standard output.
    pub fn tell(&self, args: &[&str]) -> String {
        let (code, out, err) = self.ask(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }

    /// Starts a command that goes on beside the test.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&self.dir.path().join(format!("{}.log", args[0])), &self.command(args))
    }

    /// Starts an instance and waits until it answers HTTP.
    pub fn run(&self) -> Instance {
        self.run_with(&[])
    }

    /// As [`Site::run`], with further arguments.
    pub fn run_with(&self, args: &[&str]) -> Instance {
        self.serve(&[&["run"], args].concat())
    }

    /// Starts `tallyman gate` and waits until it answers HTTP.
    pub fn gate(&self) -> Instance {
        self.serve(&["gate"])
    }

    fn serve(&self, args: &[&str]) -> Instance {
        self.serve_as(args[0], &self.command(args))
    }

    /// Starts a program of one's own that says where it answers as the binary does, and waits until it answers HTTP.
    pub fn serve_as(&self, name: &str, command: &[String]) -> Instance {
        let log = self.path(&format!("{name}.log"));
        let _ = fs::remove_file(&log);
        let mut running = Running::start(&log, command);
        let url = wait_for("an instance that answers HTTP", PATIENCE, || {
            running.assert_runs();
            let log = fs::read_to_string(&running.log).unwrap_or_default();
            let (_, url) = log.lines().find(|line| line.contains("started: http://"))?.split_once("started: ")?;
            // The line is text or JSON.
            Some(url.split([' ', '"']).next()?.to_owned())
        });
        Instance { running, url }
    }

    /// Writes policies with the command line.
    pub fn apply(&self, documents: &str) {
        fs::write(self.path("terms.yaml"), documents).unwrap();
        self.tell(&["policy", "apply", &self.path("terms.yaml").display().to_string()]);
    }

    /// Sends values to the usage topic, each keyed by its org.
    pub fn send(&self, records: &[(&str, Vec<u8>)]) {
        let producer = Producer::new(&self.kafka, "e2e").unwrap();
        for (org, value) in records {
            let sent = Sent { key: Some(org.as_bytes()), value: Some(value), ..Sent::default() };
            producer.send(&self.kafka.topics.usage, &sent).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// Waits until O* stands at the end of every partition of the usage topic.
    pub fn wait_for_the_end(&self, limit: Duration) {
        let progress = Progress::new(&self.kafka);
        wait_until("the committed offsets to reach the log's end", limit, || progress.has_ended());
    }
}

/// A child process, killed with the test.
pub struct Running {
    holder: Child,
    pid: Pid,
    log: PathBuf,
}

impl Running {
    fn start(log: &Path, command: &[String]) -> Self {
        let mut holder = Command::new("sh")
            .args(["-c", HOLDER, "holder"])
            .arg(log)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Self { holder, pid, log: log.to_owned() }
    }

    fn assert_runs(&mut self) {
        if let Some(ended) = self.holder.try_wait().unwrap() {
            panic!("it ended with {ended}:\n{}", self.said());
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let sent = kill_process(self.pid, signal);
        assert!(sent.is_ok(), "no process takes {signal:?}: {sent:?}\n{}", self.said());
    }

    /// Its exit code, once it ends; 137 after a SIGKILL.
    pub fn wait(mut self, limit: Duration) -> i32 {
        let what = format!("process {:?} to end:\n{}", self.pid, self.said());
        wait_for(&what, limit, || self.holder.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// All that it said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.holder.stdin.take() {
            // The holder may be gone already.
            let _ = stdin.flush();
        }
        let _ = self.holder.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), last_lines(&self.said(), 40));
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.contains("AllBrokersDown")).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A running instance.
pub struct Instance {
    /// Its process.
    pub running: Running,
    /// Where it answers, without a slash at the end.
    pub url: String,
}

impl Instance {
    /// Status and body at a path.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.url))
    }

    /// The JSON at a path that must answer.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").1)
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&self, limit: Duration) {
        wait_until("an instance to be ready", limit, || self.get("/readyz").0 == 200);
    }

    /// Waits until it owns so many partitions.
    pub fn wait_until_it_owns(&self, partitions: f64) {
        let what = format!("an instance to own {partitions} partitions");
        wait_until(&what, PATIENCE, || {
            let metrics = self.metrics();
            (metrics.sum("tallyman_assigned_partitions") - partitions).abs() < 0.5
        });
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        assert_eq!(self.running.wait(Duration::from_secs(10)), 137);
    }

    /// SIGTERM; it drains within ten seconds and ends with 0. How long it took.
    pub fn stop(self) -> Duration {
        let started = Instant::now();
        self.running.signal(Signal::TERM);
        let said = self.running.log.clone();
        let code = self.running.wait(Duration::from_secs(12));
        assert_eq!(code, 0, "{}", fs::read_to_string(said).unwrap_or_default());
        started.elapsed()
    }
}

/// Status and body at a URL.
pub fn get(url: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(20))).build().into();
    let mut response = agent.get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Samples by name and labels, as Prometheus reads them.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// One sample, named with its labels; 0 where there is none.
    pub fn get(&self, sample: &str) -> f64 {
        self.known(sample).unwrap_or_default()
    }

    /// One sample, named with its labels, where there is one.
    pub fn known(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The sum over all samples of that name whose labels hold this value.
    pub fn sum_of(&self, name: &str, value: &str) -> f64 {
        let of =
            |sample: &&String| sample.split('{').next() == Some(name) && sample.contains(&format!("\"{value}\""));
        self.0.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value).sum()
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        let of = |sample: &&String| sample.split('{').next() == Some(name);
        self.0.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value).sum()
    }
}

/// Where the group stands.
pub struct Progress {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Progress {
    /// Of this group.
    pub fn new(kafka: &KafkaSettings) -> Self {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.bootstrap_servers)
            .set("group.id", &kafka.group_id)
            .create()
            .unwrap();
        Self { consumer, topic: kafka.topics.usage.clone(), partitions: kafka.partitions }
    }

    /// (O*, end of the log) of each partition; `None` while the broker does not say.
    pub fn offsets(&self) -> Option<Vec<(i64, i64)>> {
        let wait = Duration::from_secs(5);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = self.consumer.committed_offsets(list, wait).ok()?;
        let of = |partition| {
            let committed = committed.find_partition(&self.topic, partition)?.offset().to_raw();
            let (_, end) = self.consumer.fetch_watermarks(&self.topic, partition, wait).ok()?;
            Some((committed.filter(|offset| *offset >= 0).unwrap_or(0), end))
        };
        (0..self.partitions).map(of).collect()
    }

    /// Whether all that the log holds is published-through.
    pub fn has_ended(&self) -> bool {
        self.offsets().is_some_and(|offsets| offsets.iter().all(|(committed, end)| committed == end))
    }

    /// How many offsets are published-through, over all partitions.
    pub fn committed(&self) -> i64 {
        self.offsets().unwrap_or_default().iter().map(|(committed, _)| committed).sum()
    }
}
