//! A server over a filled store on real listeners, and requests to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tallyman::http::{ApiState, HttpError, Listeners, serve};
use tallyman::telemetry::{Health, OrgUse, Telemetry};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::support::{Fixture, ORG, events};

/// A server over a filled store; it ends with the test.
pub struct Server {
    pub url: String,
    probes: Option<SocketAddr>,
    pub health: Health,
    pub fixture: Fixture,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), HttpError>>,
}

/// What a request gave.
pub struct Reply {
    pub status: u16,
    headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The detail of a problem, with its form checked.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub fn start(partitions: i32) -> Self {
        let mut fixture = Fixture::new();
        fixture.commit(ORG, &events(300, 5));
        for org in ["beta", "gamma"] {
            fixture.commit(org, &events(3, 6));
        }
        Self::over(fixture, partitions)
    }

    pub fn over(fixture: Fixture, partitions: i32) -> Self {
        Self::serving(fixture, partitions, None)
    }

    /// One with a listener for probes that may name orgs in its metrics.
    pub fn with_probes(names_orgs: bool) -> Self {
        let mut fixture = Fixture::new();
        fixture.commit(ORG, &events(3, 5));
        Self::serving(fixture, 1, Some(names_orgs))
    }

    fn serving(fixture: Fixture, partitions: i32, probes: Option<bool>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let health = Health::new(0);
        let telemetry = Telemetry::new(1);
        if probes.is_some() {
            let used = tallyman::domain::credits::CreditSum::whole(5);
            telemetry.set_top_orgs(0, vec![OrgUse { org: ORG.into(), used, allowance: None }]);
        }
        let state = ApiState::new(fixture.query(partitions), telemetry, health.clone());
        let state = state.with_probe_orgs(probes == Some(true));
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let listeners = Listeners { main: bind(), probes: probes.map(|_| bind()) };
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let url = format!("http://{}", address(&listeners.main));
        let probes = listeners.probes.as_ref().map(address);
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = runtime.spawn(serve(listeners, state, async {
            let _ = stopped.await;
        }));
        Self { url, probes, health, fixture, runtime, stop, ended }
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap()
    }

    /// Sends a head as it stands and reads to the connection's end.
    pub fn raw(&self, head: &str) -> String {
        exchange(self.connect(), head)
    }

    /// The whole answer of the probes' listener.
    pub fn probe(&self, path: &str, host: &str) -> String {
        let stream = TcpStream::connect(self.probes.unwrap()).unwrap();
        exchange(stream, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }

    /// Asks the probes' listener until a series is as it must be.
    pub fn probed_until(&self, series: &str, is_right: impl Fn(usize) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.probe("/metrics", "x");
            let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
            if value.is_some_and(&is_right) {
                return;
            }
            assert!(Instant::now() < deadline, "{series} is {value:?}");
            std::thread::yield_now();
        }
    }

    /// Ends it in order.
    pub fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.ended).unwrap().unwrap();
    }

    pub fn simulate(&self, params: &str, body: &str) -> Reply {
        let path = format!("/v1/orgs/acme/simulate?{params}");
        self.send("POST", &path, &[("content-type", "application/json")], body)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(method, path, headers, "")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        Reply { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }
}

/// Sends a head and reads to the connection's end.
fn exchange(mut stream: TcpStream, head: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server may have answered and closed before it has read all of it.
    let sent = stream.write_all(head.as_bytes());
    let mut told = Vec::new();
    let read = stream.read_to_end(&mut told);
    assert!(!told.is_empty(), "{sent:?} {read:?}");
    String::from_utf8(told).unwrap()
}
