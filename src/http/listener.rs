//! The listener of all that is served: a bounded number of connections, bounded heads, and a deadline for slow and idle
//! ones (Law 6), so that nobody who connects takes the files that stores and logs need. It knows no path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{HttpError, check_listen};

/// Connections at the same time, if half of the files that the process may open allows; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// What a connection may hold of a request: above what nginx and Envoy let their own clients send.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take to send a request's head, or to stay idle: above nginx's keep-alive of 60 s.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// After a failed accept (no file is left to open): others may end meanwhile.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long requests under way may go on after the end was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the address is beyond loopback.
pub(super) async fn serve<S>(
    listener: TcpListener,
    service: S,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    check_listen(listener.local_addr()?)?;
    let connections_max = connections_max();
    let slots = Arc::new(Semaphore::new(connections_max));
    let (stop, stopped) = watch::channel(());
    let accept = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (service, stopped) = (service.clone(), stopped.clone());
                    tokio::spawn(async move {
                        connection(stream, service, stopped).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    drop(stop);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    // Those that do not end in time are cut off with the process.
    drop(tokio::time::timeout(DRAIN_MAX, slots.acquire_many(all)).await);
    Ok(())
}

/// The other half is for stores, Kafka and logs.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| (files / 2).clamp(1, CONNECTIONS_MAX))
}

async fn connection<S>(stream: TcpStream, service: S, mut stopped: watch::Receiver<()>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    // An answer is one small write: it must not wait for more.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client that goes away is no fault of ours.
    tokio::select! {
        _ = serving.as_mut() => {}
        // The sender's end is the signal.
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
