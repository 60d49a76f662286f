//! The listeners of all that is served: a bounded number of connections, bounded heads, and a deadline for slow and idle
//! ones (Law 6), so that nobody who connects takes the files that stores and logs need. Probes and metrics may have one of
//! their own, whose few connections nobody else can take. It knows no path.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::door::{self, Door, Turn};
use super::probes::Probes;
use super::problem::Problem;
use super::{HttpError, check_listen};
use crate::telemetry::Telemetry;

/// Connections at the same time, if half of the files that the process may open allows.
const CONNECTIONS_MAX: usize = 512;
/// Connections of the probes' listener: each is one request.
const PROBE_CONNECTIONS_MAX: usize = 32;
/// How long a connection that is one too many waits for another's end before it is refused.
const PATIENCE: Duration = Duration::from_millis(250);
/// What a connection may hold of a request: above what nginx and Envoy let their own clients send.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Headers of a request: far above what gateways let pass.
const HEADERS_MAX: usize = 500;
/// How long a connection may take to send a request's head, or to stay idle: above nginx's keep-alive of 60 s.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// How long a client may take to read what was sent before more can be.
const WRITE_MAX: Duration = Duration::from_secs(75);
/// How long a probe may take to send its head: idle connections would keep others out.
const PROBE_HEAD_MAX: Duration = Duration::from_secs(1);
/// How long a probe may take from its connection to the end of its answer.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (no file is left to open): others may end meanwhile.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long requests under way may go on after the end was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Where a process is met.
pub struct Listeners {
    /// Everything; on loopback.
    pub main: TcpListener,
    /// Probes and metrics alone, on any address.
    pub probes: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        Self { main, probes: None }
    }
}

/// What the clients of one listener may have.
#[derive(Clone, Copy)]
struct Bounds {
    /// The listener's name in metrics.
    name: &'static str,
    connections_max: usize,
    /// How long it may take to send a head, or stay idle.
    head_max: Duration,
    /// How long a connection may live, for one request alone; `None` for any number of requests.
    life_max: Option<Duration>,
}

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the main listener's address is beyond loopback.
pub(super) async fn serve<S>(
    listeners: Listeners,
    service: S,
    probes: Probes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    check_listen(listeners.main.local_addr()?)?;
    let telemetry = probes.telemetry.clone();
    let probe = service_fn(move |request: Request<Incoming>| {
        let probes = probes.clone();
        async move { Ok::<_, Infallible>(probes.respond(request.method(), request.uri()).await) }
    });
    let (stop, stopped) = watch::channel(());
    let bounds = Bounds { name: "main", connections_max: connections_max(), head_max: HEAD_MAX, life_max: None };
    let main = listen(listeners.main, service, bounds, telemetry.clone(), stopped.clone());
    let bounds = Bounds {
        name: "probe",
        connections_max: PROBE_CONNECTIONS_MAX,
        head_max: PROBE_HEAD_MAX,
        life_max: Some(PROBE_MAX),
    };
    let beside = async {
        if let Some(listener) = listeners.probes {
            listen(listener, probe, bounds, telemetry, stopped).await;
        }
    };
    let end = async {
        shutdown.await;
        drop(stop);
    };
    tokio::join!(main, beside, end);
    Ok(())
}

/// Accepts until the sender of `stopped` goes.
async fn listen<S>(
    listener: TcpListener,
    service: S,
    bounds: Bounds,
    telemetry: Telemetry,
    mut stopped: watch::Receiver<()>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    telemetry.http_listening(bounds.name);
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let until = stopped.clone();
    let accept = async {
        let mut patience = PATIENCE;
        loop {
            // The semaphore is never closed.
            let slot = timeout(patience, Arc::clone(&slots).acquire_owned()).await.ok().and_then(Result::ok);
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let slot = slot.or_else(|| Arc::clone(&slots).try_acquire_owned().ok());
            // One that waited in vain has waited for those behind it too.
            patience = if slot.is_some() { PATIENCE } else { Duration::ZERO };
            let Some(slot) = slot else {
                telemetry.http_refused(bounds.name);
                refuse(stream);
                continue;
            };
            let open = Open::new(telemetry.clone(), bounds.name, slot);
            let (service, until) = (service.clone(), until.clone());
            tokio::spawn(async move {
                let connection = connection(stream, service, bounds, until);
                match bounds.life_max {
                    // Whoever takes longer is cut off.
                    Some(life_max) => drop(timeout(life_max, connection).await),
                    None => connection.await,
                }
                drop(open);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        // The sender's end is the signal.
        _ = stopped.changed() => {}
    }
    let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
    // Those that do not end in time are cut off with the process.
    drop(timeout(DRAIN_MAX, slots.acquire_many(all)).await);
}

/// An open connection, as long as it counts.
struct Open {
    telemetry: Telemetry,
    listener: &'static str,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(telemetry: Telemetry, listener: &'static str, slot: OwnedSemaphorePermit) -> Self {
        telemetry.http_connections(listener, 1);
        Self { telemetry, listener, _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.telemetry.http_connections(self.listener, -1);
    }
}

/// Answers a connection that is one too many, without waiting for anything.
fn refuse(stream: TcpStream) {
    let detail = "too many connections are open; ask again, and keep a connection for several requests";
    let told = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1).raw();
    let Ok(mut stream) = stream.into_std() else { return };
    // What is unread when a connection is closed makes its other end forget the answer. The socket does not block, and so
    // small an answer always fits it; a client that is gone is no fault of ours.
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(&told);
}

/// The other half is for stores, Kafka and logs.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| (files / 2).clamp(1, CONNECTIONS_MAX))
}

async fn connection<S>(stream: TcpStream, service: S, bounds: Bounds, mut stopped: watch::Receiver<()>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    // An answer is one small write: it must not wait for more.
    let _ = stream.set_nodelay(true);
    let turn = door::turn();
    let door = Door::new(TokioIo::new(stream), Arc::clone(&turn), WRITE_MAX);
    let service = service_fn(move |request| {
        turn.store(Turn::Asked as u8, Ordering::Relaxed);
        let answering = service.call(request);
        let turn = Arc::clone(&turn);
        async move {
            let response = answering.await;
            turn.store(Turn::Answered as u8, Ordering::Relaxed);
            response
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head_max).max_buf_size(BUFFER_BYTES_MAX);
    builder.max_headers(HEADERS_MAX).keep_alive(bounds.life_max.is_none());
    let mut serving = std::pin::pin!(builder.serve_connection(door, service));
    // A client that goes away is no fault of ours.
    tokio::select! {
        _ = serving.as_mut() => {}
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
