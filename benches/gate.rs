//! What a check costs: in memory at a million scopes, with one and with several that match, while a writer goes on; and through
//! HTTP on one core. `cargo bench --profile release --bench gate [-- <scopes>]`; one line per measurement.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tallyman::clock::SystemClock;
use tallyman::codec::{Decoder, Encoder, OutputEncoding};
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::terms::records::BudgetPeriod;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::gateway::table::{Came, Request, Rules, Table};
use tallyman::http::{Gate, serve_gate};
use tallyman::telemetry::Telemetry;

const CHECKS: usize = 3_000_000;
/// Checks of one round; the best round is told beside the mean of all.
const ROUND: usize = 300_000;

fn decision(scope: Scope, number: i64, version: i64) -> LimitDecision {
    let blocked = number % 10 == 0;
    let budget = scope.budget.as_ref().map(|budget| (format!("Budget {}", budget.budget_id), BudgetPeriod::Month));
    let spent = if budget.is_some() { DecisionReason::BudgetSpent } else { DecisionReason::AllowanceSpent };
    let within = if budget.is_some() { DecisionReason::WithinBudget } else { DecisionReason::WithinAllowance };
    let end = Timestamp::from_micros(1_796_000_000_000_000);
    LimitDecision {
        scope,
        level: Level {
            action: if blocked { Action::Block } else { Action::Allow },
            reason: if blocked { spent } else { within },
            level: 75,
            allowance: Some(CreditSum::whole(1_000)),
            extra: Some(CreditSum::ZERO),
            budget,
            period_start: Timestamp::from_micros(1_793_000_000_000_000),
            period_end: end,
            valid_until: end,
            forecast_alerted_on: None,
            purchases_requested: 0,
        },
        figures: Figures {
            used: CreditSum::whole(750),
            remaining: Some(CreditSum::whole(number % 1_000)),
            micros_per_second: 1_234,
        },
        version,
        decided_at: Timestamp::from_micros(version),
        cause: Cause {
            record: Some((3, 123_456 + number)),
            event_id: Some("0190a8e2-7c1b-7d3f-9a51-2f6f0c9be001".into()),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            policy_offset: Some(42),
        },
    }
}

fn of_value(org: &str, dimension: Dimension, value: &str) -> Scope {
    let budget =
        BudgetScope { dimension: Some(dimension), value: Some(value.into()), budget_id: "monthly".into() };
    Scope { org_id: org.into(), budget: Some(budget) }
}

fn org_name(number: usize) -> String {
    format!("org-{number:07}")
}

/// The scopes of org `number` where each org has ten: itself, five users, two models, two products.
fn ten(org: &str) -> Vec<Scope> {
    let mut scopes = vec![Scope::org(org)];
    scopes.extend((0..5).map(|user| of_value(org, Dimension::User, &format!("user-{user}"))));
    scopes.extend((0..2).map(|model| of_value(org, Dimension::Model, &format!("sage-{model}"))));
    scopes.extend((0..2).map(|product| of_value(org, Dimension::Product, &format!("product-{product}"))));
    scopes
}

struct Bench {
    table: Arc<Table>,
    encoder: Encoder,
    decoder: Decoder,
}

impl Bench {
    fn new() -> Self {
        let table = Arc::new(Table::new(Rules::default(), Arc::new(SystemClock)));
        table.set_partitions(12);
        Self { table, encoder: Encoder::new(OutputEncoding::Json, None), decoder: Decoder::new(None) }
    }

    fn put(&mut self, scope: Scope, number: usize, version: i64) {
        let key = scope.key();
        let value = self.encoder.decision(&decision(scope, number as i64, version)).unwrap();
        self.table.apply(&mut self.decoder, (key.as_bytes(), Some(&value)), Came::Now).unwrap();
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Nanoseconds a check, over requests in random order.
fn checks(what: &str, table: &Table, orgs: usize, request: impl for<'a> Fn(&'a str, usize) -> Request<'a>) {
    let mut random = SmallRng::seed_from_u64(7);
    // In one piece and in order, as a gateway has its request at hand.
    let names: Vec<[u8; 11]> = (0..CHECKS)
        .map(|_| org_name(random.random_range(0..orgs)).into_bytes().try_into().expect("11 bytes"))
        .collect();
    let (mut best, mut total) = (Duration::MAX, Duration::ZERO);
    let mut blocked = 0_u64;
    let thread = this_thread();
    for (part, names) in names.chunks(ROUND).enumerate() {
        // Processor time, so that what else runs on the machine is not counted as ours.
        let before = cpu(thread);
        for (number, name) in names.iter().enumerate() {
            let org = std::str::from_utf8(name).unwrap();
            blocked += u64::from(black_box(table.check(&request(org, part + number))).is_blocked());
        }
        let took = cpu(thread).saturating_sub(before);
        (best, total) = (best.min(took), total + took);
    }
    let (best, mean) = (best.as_nanos() / ROUND as u128, total.as_nanos() / CHECKS as u128);
    let blocked = blocked * 100 / CHECKS as u64;
    println!("{what:<66} {best:>5} ns a check, {mean} on average ({blocked}% blocked)");
}

const USERS: [&str; 5] = ["user-0", "user-1", "user-2", "user-3", "user-4"];
const MODELS: [&str; 2] = ["sage-0", "sage-1"];
const PRODUCTS: [&str; 2] = ["product-0", "product-1"];

fn four(org: &str, n: usize) -> Request<'_> {
    Request::of(org)
        .with(Dimension::User, USERS[n % 5])
        .with(Dimension::Model, MODELS[n / 5 % 2])
        .with(Dimension::Product, PRODUCTS[n / 10 % 2])
}

/// What one read of memory costs here and now that waits for the one before it: a check is some of them.
fn reference() {
    let mut next: Vec<u32> = (0..64 << 20).collect();
    let mut random = SmallRng::seed_from_u64(3);
    for place in (1..next.len()).rev() {
        next.swap(place, random.random_range(0..place));
    }
    let (thread, mut at) = (this_thread(), 0);
    let before = cpu(thread);
    for _ in 0..CHECKS {
        at = next[at as usize];
    }
    let took = cpu(thread).saturating_sub(before);
    println!(
        "{:<66} {:>5} ns ({})",
        "for comparison: one dependent read in 256 MiB",
        took.as_nanos() / CHECKS as u128,
        at & 1
    );
}

fn in_memory(scopes: usize) -> Bench {
    let before = resident();
    let began = Instant::now();
    let mut one = Bench::new();
    for number in 0..scopes {
        one.put(Scope::org(&org_name(number)), number, 1);
    }
    one.table.set_ready();
    let took = began.elapsed();
    println!("{:<66} {:>5} bytes", "memory a scope, one an org", (resident() - before) / scopes as u64);
    println!(
        "{:<66} {:>5} ns a decision",
        "reading JSON decisions into the table",
        took.as_nanos() / scopes as u128
    );
    checks(&format!("{scopes} orgs of one scope: org"), &one.table, scopes, |org, _| Request::of(org));
    checks("the same, the thousand busiest orgs alone", &one.table, scopes.min(1_000), |org, _| Request::of(org));
    checks(&format!("{scopes} orgs of one scope: org, user, model, product"), &one.table, scopes, |org, n| {
        Request::of(org)
            .with(Dimension::User, USERS[n % 5])
            .with(Dimension::Model, MODELS[n % 2])
            .with(Dimension::Product, PRODUCTS[n % 2])
    });
    drop(one);

    let before = resident();
    let mut ten_each = Bench::new();
    let orgs = scopes / 10;
    for number in 0..orgs {
        for scope in ten(&org_name(number)) {
            ten_each.put(scope, number, 1);
        }
    }
    let table = &ten_each.table;
    table.set_ready();
    println!(
        "{:<66} {:>5} bytes",
        "memory of a second table, ten an org (freed pages are used)",
        resident().saturating_sub(before) / scopes as u64
    );
    checks(&format!("{orgs} orgs of ten scopes: two match"), table, orgs, |org, n| {
        Request::of(org).with(Dimension::User, USERS[n % 5])
    });
    checks(&format!("{orgs} orgs of ten scopes: four match"), table, orgs, four);
    checks("the same, the thousand busiest orgs alone", table, orgs.min(1_000), four);
    ten_each
}

/// Checks while another thread replaces decisions as fast as it can.
fn beside_a_writer(mut bench: Bench, orgs: usize) -> Bench {
    let table = Arc::clone(&bench.table);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
    let writer = std::thread::spawn(move || {
        let mut version = 2;
        while !stopped.load(Ordering::Relaxed) {
            let number = usize::try_from(version).unwrap() * 7_919 % orgs;
            bench.put(of_value(&org_name(number), Dimension::User, "user-1"), number, version);
            count.fetch_add(1, Ordering::Relaxed);
            version += 1;
        }
        bench
    });
    let began = Instant::now();
    checks("two match, while another core replaces decisions without a pause", &table, orgs, |org, n| {
        Request::of(org).with(Dimension::User, USERS[n % 5])
    });
    stop.store(true, Ordering::Relaxed);
    let bench = writer.join().unwrap();
    let rate = written.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("{:<66} {rate:>7.0} a second", "decisions replaced meanwhile");
    bench
}

/// Processor time of a thread of this process.
fn cpu(thread: u64) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn this_thread() -> u64 {
    let path = std::fs::read_link("/proc/thread-self").unwrap();
    path.file_name().unwrap().to_string_lossy().parse().unwrap()
}

/// Checks over loopback: the server has one thread, the client another.
fn over_http(bench: &Bench, orgs: usize, connections: usize, seconds: u64) {
    let gate = Gate::new(Arc::clone(&bench.table), Telemetry::default(), Arc::new(SystemClock), 403);
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send((listener.local_addr().unwrap(), this_thread())).unwrap();
            let until = async move { drop(stopped.await) };
            serve_gate(listener, gate, until).await.unwrap();
        });
    });
    let (address, thread) = told.recv().unwrap();
    let mut random = SmallRng::seed_from_u64(11);
    let mut streams: Vec<TcpStream> = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &streams {
        stream.set_nodelay(true).unwrap();
    }
    let mut buffer = vec![0; 16 << 10];
    let (mut done, mut blocked) = (0_u64, 0_u64);
    let (began, before) = (Instant::now(), cpu(thread));
    // One request under way on each connection: all are asked, then all are read.
    while began.elapsed() < Duration::from_secs(seconds) {
        for stream in &mut streams {
            let org = org_name(random.random_range(0..orgs));
            let user = USERS[random.random_range(0..5)];
            let request = format!(
                "GET /v1/check/v1/chat HTTP/1.1\r\nhost: gate\r\naccept: */*\r\nuser-agent: bench\r\n\
                 x-tallyman-org: {org}\r\nx-tallyman-user: {user}\r\nx-tallyman-model: sage-1\r\n\
                 x-tallyman-product: product-0\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
        }
        for stream in &mut streams {
            let mut length = 0;
            loop {
                length += stream.read(&mut buffer[length..]).unwrap();
                if is_whole(&buffer[..length]) {
                    break;
                }
            }
            blocked += u64::from(buffer.starts_with(b"HTTP/1.1 403"));
            done += 1;
        }
    }
    let (took, busy) = (began.elapsed(), cpu(thread).saturating_sub(before));
    drop(streams);
    stop.send(()).unwrap();
    server.join().unwrap();
    println!(
        "{:<66} {:>7.0} checks/s, {:.1} us of its core each ({:.0}% busy, {}% blocked)",
        format!("HTTP, {connections} keep-alive connections, one server thread"),
        done as f64 / took.as_secs_f64(),
        busy.as_secs_f64() * 1e6 / done as f64,
        busy.as_secs_f64() / took.as_secs_f64() * 100.0,
        blocked * 100 / done,
    );
}

/// Whether an answer has come to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).unwrap();
    let (_, length) = text.split_once("content-length: ").expect("answers tell their length");
    answer.len() >= head + 4 + length.split("\r\n").next().unwrap().parse::<usize>().unwrap()
}

fn main() {
    let scopes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let bench = in_memory(scopes);
    let bench = beside_a_writer(bench, scopes / 10);
    reference();
    for connections in [1, 16, 64] {
        over_http(&bench, scopes / 10, connections, 5);
    }
}
