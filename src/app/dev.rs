//! What `tallyman dev` does: an embedded broker, sample organisations and live traffic, nothing to install. It proves
//! nothing: guarantees need a real Kafka, so everything here goes when it ends.
//!
//! The way of it: `sample` (orgs, a month of history) -> an instance as `run` wires it -> `welcome` (what to try) ->
//! `traffic` (live events) and `watch` (decisions as they come), until a signal.

mod sample;
mod scratch;
mod traffic;
mod watch;
mod welcome;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use self::sample::Sample;
use self::scratch::Scratch;
use self::traffic::Traffic;
use self::watch::{Seen, Watch};
use super::{App, AppError, Wiring};
use crate::cli::dev::DevArgs;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Settings;
use crate::domain::terms::DefaultTerms;
use crate::kafka::{self, Embedded, OffsetKeeper, Producer};
use crate::telemetry::TaskState;

/// Partitions of each topic.
const PARTITIONS: i32 = 4;
/// Time between two live events.
const PACE: Duration = Duration::from_millis(65);
/// How long the history may take to be written, and to be folded.
const HISTORY_MAX: Duration = Duration::from_mins(1);

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When the embedded broker or the instance cannot start, or a worker cannot go on.
pub fn dev(settings: &Settings, _args: &DevArgs) -> Result<(), AppError> {
    let stop = Arc::new(AtomicBool::new(false));
    let scratch = Scratch::new(&stop)?;
    let (settings, taken) = dev_settings(settings, &scratch);
    let mut kafka = settings.kafka.clone();
    let broker = Embedded::start(&kafka)?;
    kafka.bootstrap_servers = broker.bootstrap_servers();
    let settings = Settings { kafka, ..settings };

    let producer = Producer::new(&settings.kafka, "tallyman-dev")?;
    let sample = Sample::new(SystemClock.now());
    write_history(&settings, &sample, &producer, &stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let wiring = Wiring {
        clock: Arc::new(SystemClock),
        offsets: OffsetKeeper::in_process(),
        check_topics: false,
        adopt_from: None,
    };
    let app = App::start(&settings, wiring)?;
    let shown = std::thread::scope(|scope| {
        let (sender, decisions) = mpsc::channel();
        let following = scope.spawn(|| {
            let mut watch = Watch::new(sender);
            kafka::follow(&settings.kafka, &settings.kafka.topics.decisions, &stop, |record| watch.take(record))
        });
        let stage = Stage { settings: &settings, app: &app, sample: &sample, stop: &stop, taken };
        let shown = stage.show(&producer, &decisions);
        stop.store(true, Ordering::Relaxed);
        say("\nStopping.\n");
        let followed = following.join().unwrap_or(Ok(()));
        shown.and(followed)
    });
    app.stop().and(shown.map_err(AppError::from))
}

/// These settings as the embedded broker and a directory of no duration need them, and the address in use, if the wanted
/// one is.
fn dev_settings(settings: &Settings, scratch: &Scratch) -> (Settings, Option<SocketAddr>) {
    let mut settings = settings.clone();
    settings.kafka.partitions = PARTITIONS;
    // TLS, users and passwords are a real cluster's.
    settings.kafka.client = BTreeMap::new();
    scratch.path().clone_into(&mut settings.store.dir);
    settings.limits_default.get_or_insert(DefaultTerms::Allow);
    let wanted = settings.http.listen;
    let taken = TcpListener::bind(wanted).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
    if taken {
        settings.http.listen.set_port(0);
    }
    (settings, taken.then_some(wanted))
}

fn write_history(
    settings: &Settings,
    sample: &Sample,
    producer: &Producer,
    stop: &AtomicBool,
) -> Result<(), kafka::Error> {
    let bar = bar("writing a month of history", sample.events());
    sample.write(&settings.kafka.topics, producer, |written| {
        bar.set_position(written);
        !stop.load(Ordering::Relaxed)
    })?;
    producer.flush(HISTORY_MAX)?;
    bar.finish_and_clear();
    Ok(())
}

/// On standard error, and only where that is a terminal.
fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:28} {bar:40} {human_pos} of {human_len}");
    ProgressBar::new(length).with_style(style.expect("the template is a legal constant")).with_message(what)
}

/// To standard output; whoever closed it does not want to hear more.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is shown: an instance with its history.
struct Stage<'a> {
    settings: &'a Settings,
    app: &'a App,
    sample: &'a Sample,
    stop: &'a AtomicBool,
    taken: Option<SocketAddr>,
}

impl Stage<'_> {
    /// Waits for the history to be folded, welcomes, and lets live traffic run until it is told to stop.
    fn show(&self, producer: &Producer, decisions: &Receiver<Seen>) -> Result<(), kafka::Error> {
        let mut levels = self.fold_history(decisions);
        if self.ends() {
            return Ok(());
        }
        let address = self.app.address();
        say(&welcome::text(&self.settings.kafka, address, self.taken, self.sample, &levels));
        let mut traffic = Traffic::new(producer, &self.settings.kafka.topics.usage);
        let mut next = Instant::now();
        while !self.ends() {
            match decisions.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(seen) => self.tell(&seen, &mut levels, &traffic),
                Err(RecvTimeoutError::Timeout) => {
                    traffic.send_one(&levels)?;
                    next = Instant::now() + PACE;
                }
                // The follower ended: its error is told by whoever joins it.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn tell(&self, seen: &Seen, levels: &mut Levels, traffic: &Traffic<'_>) {
        let org = &seen.decision.scope.org_id;
        if let Some(line) = watch::line(seen, levels.get(org), traffic.sent_at(seen)) {
            say(&line);
            if watch::blocks(&seen.decision) && *org == self.sample.nearly_spent().id {
                say(&welcome::after_block(org));
            }
        }
        levels.insert(org.clone(), seen.decision.clone());
    }

    /// Takes decisions until every partition has caught up and every sample org has one.
    fn fold_history(&self, decisions: &Receiver<Seen>) -> Levels {
        let bar = bar("folding it", self.sample.events());
        let deadline = Instant::now() + HISTORY_MAX;
        let mut levels = Levels::new();
        while !self.ends() && Instant::now() < deadline {
            let decided = self.sample.orgs().iter().all(|org| levels.contains_key(&org.id));
            if decided && self.app.health().ready().is_ok() && decisions.try_recv().is_err() {
                break;
            }
            if let Ok(seen) = decisions.recv_timeout(Duration::from_millis(20)) {
                levels.insert(seen.decision.scope.org_id.clone(), seen.decision);
            }
            let open = self.app.health().tasks().into_iter().map(|(_, task)| match task {
                TaskState::Behind { lag } => lag,
                TaskState::Replaying { position, until } => until - position,
                _ => 0,
            });
            bar.set_position(self.sample.events().saturating_sub(open.sum::<i64>().unsigned_abs()));
        }
        bar.finish_and_clear();
        levels
    }

    /// A signal, or a worker that cannot go on.
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.app.stop_flag().load(Ordering::Relaxed)
    }
}

/// The latest decision of each org.
type Levels = BTreeMap<String, crate::domain::decision::LimitDecision>;
