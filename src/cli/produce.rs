//! `tallyman produce`: writes the generator's usage into the usage topic and says exactly what it wrote, so that sums
//! can be compared. Believable events only; it fakes no time but now.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Usage;
use super::generator::{Generator, Load, Totals};
use crate::clock::{Clock as _, SystemClock};
use crate::codec::{RecordType, SchemaRegistry as _, ValueEncoding, encode_usage};
use crate::config::{self, Settings};
use crate::domain::credits::{Credits, parse_decimal};
use crate::kafka::{Producer, Sent};
use crate::registry;

/// Records of a run that names neither count nor duration.
const COUNT: u64 = 10_000;
/// The cluster has so long to take what is in the queue at the end.
const FLUSH_MAX: Duration = Duration::from_mins(2);
/// Records between two looks at the clock.
const STEP: u64 = 256;

/// Arguments of `tallyman produce`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ProduceArgs {
    /// Records a second; 0 = as fast as possible
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// How many records [default: 10000, unless --duration is given]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// For how long, such as 30s or 5m
    #[arg(long, value_parser = config::duration)]
    duration: Option<Duration>,
    /// How many organisations
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    orgs: u32,
    /// Users of each organisation
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// Share of records that repeat an earlier one, 0 to 1
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    duplicates: f64,
    /// Zipf exponent of the organisations' shares, 0 to 5; 0 = all alike
    #[arg(long, default_value_t = 1.0, value_parser = skew)]
    skew: f64,
    /// The most credits of one event
    #[arg(long, default_value = "50", value_parser = credits)]
    credits_max: Credits,
    /// The same seed gives the same events and ids, so use one only once on a log [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// How records are written
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Encoding {
    /// JSON objects
    #[default]
    Json,
    /// Avro single-object encoding
    SingleObject,
    /// Confluent framing; needs registry.url
    Registry,
}

fn share(raw: &str) -> Result<f64, String> {
    raw.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be from 0 to 1".to_owned())
}

fn skew(raw: &str) -> Result<f64, String> {
    raw.parse().ok().filter(|skew| (0.0..=5.0).contains(skew)).ok_or_else(|| "must be from 0 to 5".to_owned())
}

fn credits(raw: &str) -> Result<Credits, String> {
    let micros = parse_decimal(raw, 6).map_err(|error| error.to_string())?;
    let credits = i64::try_from(micros).ok().filter(|micros| *micros > 0).and_then(Credits::from_micros);
    credits.ok_or_else(|| "must be above 0 and at most 1000000000".to_owned())
}

pub(super) fn run(settings: &Settings, args: &ProduceArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(|| SystemClock.now().micros().unsigned_abs());
    let load = Load {
        users_per_org: args.users,
        skew: args.skew,
        duplicates: args.duplicates,
        credits_max: args.credits_max,
        ..Load::new(seed, args.orgs)
    };
    let encoding = encoding(settings, args.encoding)?;
    let producer = Producer::new(&settings.kafka, "tallyman-produce")?;
    let started = Instant::now();
    let totals = send_all(settings, args, encoding, Generator::new(load), &producer)?;
    producer.flush(FLUSH_MAX)?;
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = totals.records as f64 / seconds;
    let Totals { records, duplicates, credits } = totals;
    writeln!(
        out,
        "{records} records in {seconds:.1} s, {rate:.0} a second, seed {seed}: {} events with {credits} credits, \
         and {duplicates} duplicates of them",
        records - duplicates
    )?;
    Ok(())
}

fn encoding(settings: &Settings, wanted: Encoding) -> anyhow::Result<ValueEncoding> {
    Ok(match wanted {
        Encoding::Json => ValueEncoding::Json,
        Encoding::SingleObject => ValueEncoding::SingleObject,
        Encoding::Registry => {
            let client = registry_client(settings)?;
            let record = RecordType::UsageEvent;
            ValueEncoding::Framed(client.register(&record.subject(), record.avsc())?)
        }
    })
}

pub(super) fn registry_client(settings: &Settings) -> anyhow::Result<registry::Client> {
    let registry = &settings.registry;
    let Some(url) = &registry.url else {
        return Err(Usage("--encoding registry needs `registry.url` to be set".to_owned()).into());
    };
    let password = registry.password.as_ref().map_or("", |password| password.0.as_str());
    let credentials = registry.username.as_deref().map(|user| (user, password));
    Ok(registry::Client::new(url, credentials)?)
}

fn send_all(
    settings: &Settings,
    args: &ProduceArgs,
    encoding: ValueEncoding,
    mut generator: Generator,
    producer: &Producer,
) -> anyhow::Result<Totals> {
    let count = args.count.or(args.duration.is_none().then_some(COUNT)).unwrap_or(u64::MAX);
    let topic = &settings.kafka.topics.usage;
    let bar = progress(count, args.duration);
    let started = Instant::now();
    let mut value = Vec::with_capacity(1_024);
    let mut sent = 0;
    while sent < count {
        let elapsed = started.elapsed();
        if args.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        let due = due(args.rate, elapsed).min(count);
        if due <= sent {
            // A pace is time itself: there is no event to wait for.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let step = (due - sent).min(STEP);
        for _ in 0..step {
            let event = generator.next(SystemClock.now());
            value.clear();
            encode_usage(&event, encoding, &mut value);
            let key = Some(event.org_id.as_bytes());
            producer.send(topic, &Sent { key, value: Some(&value), ..Sent::default() })?;
        }
        sent += step;
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        bar.set_position(if args.duration.is_some() { millis } else { sent });
    }
    bar.finish_and_clear();
    Ok(generator.totals())
}

/// How many records should have been sent by now.
fn due(rate: u32, elapsed: Duration) -> u64 {
    if rate == 0 {
        return u64::MAX;
    }
    let due = u128::from(rate) * elapsed.as_micros() / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// On standard error, and only where that is a terminal.
fn progress(count: u64, duration: Option<Duration>) -> ProgressBar {
    let (length, shown) = match duration {
        Some(duration) => (u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "{elapsed_precise}"),
        None => (count, "{human_pos} of {human_len} records, {per_sec}, {eta} left"),
    };
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {shown}"));
    ProgressBar::new(length).with_style(style.expect("the template is a legal constant"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::Parser as _;

    use super::*;
    use crate::codec::Decoder;
    use crate::domain::credits::CreditSum;
    use crate::domain::usage::event::Event;
    use crate::kafka::{Embedded, read_topic};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn args(line: &str) -> Result<ProduceArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.args)
    }

    #[test]
    fn what_it_says_it_wrote_is_what_the_log_holds() {
        let mut settings = config::resolve(None, []).expect("defaults are legal");
        settings.kafka.partitions = 3;
        let broker = Embedded::start(&settings.kafka).expect("an embedded broker");
        settings.kafka.bootstrap_servers = broker.bootstrap_servers();
        let mut told = Vec::new();
        for encoding in ["json", "single_object"] {
            let line = format!("produce --count 2000 --orgs 20 --duplicates 0.1 --encoding {encoding}");
            run(&settings, &args(&line).expect("legal"), &mut told).expect("produced");
        }
        let (mut ids, mut sum, mut records) = (HashSet::new(), CreditSum::ZERO, 0);
        read_topic(&settings.kafka, &settings.kafka.topics.usage, |record, _| {
            let event = Decoder::new(None).usage(record.value.expect("a value")).expect("decodes");
            let Event::Usage(event) = event else { panic!("usage only") };
            assert_eq!(record.key, Some(event.org_id.as_bytes()));
            records += 1;
            if ids.insert(event.event_id.to_string()) {
                sum += event.credits.into();
            }
        })
        .expect("read");
        let told = String::from_utf8(told).expect("text");
        let said = told.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let credits = words[words.iter().position(|word| *word == "credits,").expect("credits") - 1];
            parse_decimal(credits, 6).expect("a decimal")
        });
        assert_eq!(records, 4_000);
        assert!(ids.len() < 3_800, "a tenth repeats: {}", ids.len());
        assert_eq!(CreditSum(said.sum()), sum, "{told}");
    }

    #[test]
    fn arguments_out_of_bounds_are_refused() {
        assert!(args("produce --rate 100 --duration 30s --skew 0").is_ok());
        for wrong in ["--duplicates 1.5", "--skew -1", "--credits-max 0", "--count 0", "--orgs 0", "--duration 5"]
        {
            assert!(args(&format!("produce {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_says_how_many_are_due() {
        assert_eq!(due(0, Duration::ZERO), u64::MAX);
        assert_eq!(due(5_000, Duration::from_millis(200)), 1_000);
    }
}
