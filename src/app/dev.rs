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
use crate::domain::limits::decision::LimitDecision;
use crate::domain::limits::scope::Scope;
use crate::domain::terms::records::DefaultTerms;
use crate::kafka::{self, Embedded, OffsetKeeper, Producer};

/// Partitions of each topic.
const PARTITIONS: i32 = 4;
/// Time between two live events.
const PACE: Duration = Duration::from_millis(65);
/// How long the history may take to be written, and to be folded.
const HISTORY_MAX: Duration = Duration::from_mins(1);
/// Time between two looks at how far the fold is.
const TICK: Duration = Duration::from_millis(50);

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
    // TLS, users and passwords are a real cluster's. The embedded broker lets a fetch that finds nothing wait to its end,
    // whatever arrives meanwhile.
    settings.kafka.client = BTreeMap::from([("fetch.wait.max.ms".to_owned(), "5".to_owned())]);
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
        let used = |org: &sample::Org| {
            self.app.query().summary(&org.id).map(|answer| answer.summary.used).unwrap_or_default()
        };
        let own = |org: &sample::Org| levels.get(&Scope::org(&org.id));
        let standings = self.sample.orgs().iter().map(|org| (org, used(org), own(org)));
        say(&welcome::text(&self.settings.kafka, address, self.taken, standings));
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
        let scope = &seen.decision.scope;
        if let Some(line) = watch::line(seen, levels.get(scope), traffic.sent_at(seen)) {
            say(&line);
            if watch::blocks(&seen.decision) && *scope == Scope::org(sample::NEARLY_SPENT) {
                say(&welcome::after_block(&self.settings.kafka));
            }
        }
        levels.insert(scope.clone(), seen.decision.clone());
    }

    /// Takes decisions until the whole history is in the stores and every sample org has a decision.
    fn fold_history(&self, decisions: &Receiver<Seen>) -> Levels {
        let bar = bar("folding it", self.sample.events());
        let deadline = Instant::now() + HISTORY_MAX;
        let mut levels = Levels::new();
        while !self.ends() && Instant::now() < deadline {
            let folded = self.folded();
            bar.set_position(folded);
            let decided = self.sample.orgs().iter().all(|org| levels.contains_key(&Scope::org(&org.id)));
            if decided && folded >= self.sample.events() {
                break;
            }
            let wait = Instant::now() + TICK;
            while let Ok(seen) = decisions.recv_timeout(wait.saturating_duration_since(Instant::now())) {
                levels.insert(seen.decision.scope.clone(), seen.decision);
            }
        }
        bar.finish_and_clear();
        levels
    }

    /// Events of the history that the stores hold: the embedded broker's offsets count from 0 without a gap.
    fn folded(&self) -> u64 {
        let standing = |org: &sample::Org| self.app.query().decisions(&org.id).ok().map(|answer| answer.standing);
        let positions: BTreeMap<i32, i64> =
            self.sample.orgs().iter().filter_map(standing).map(|of| (of.partition, of.usage)).collect();
        positions.values().sum::<i64>().unsigned_abs()
    }

    /// A signal, or a worker that cannot go on.
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.app.is_ending()
    }
}

/// The latest decision of each scope.
type Levels = BTreeMap<Scope, LimitDecision>;
