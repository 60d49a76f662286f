//! What every request passes: the Host check, the deadline, and the request's metric; and the Origin check of those that
//! carry a body.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::json::prettied;
use super::problem::Problem;
use super::{ApiState, REQUEST_MAX, is_check};

/// Runs a request within its bounds.
pub async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    // The pattern, never the path: a label must have few values.
    let route =
        request.extensions().get::<MatchedPath>().map_or("other".to_owned(), |path| path.as_str().to_owned());
    let query = request.uri().query().filter(|_| !is_check(request.uri().path())).map(str::to_owned);
    let response = match check_host(&request) {
        Err(problem) => problem.into_response(),
        Ok(()) => tokio::time::timeout(REQUEST_MAX, next.run(request)).await.unwrap_or_else(|_| {
            let detail = format!(
                "no answer within {} s: ask for less (a coarser bucket, a shorter range) or when fewer others ask",
                REQUEST_MAX.as_secs()
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5).into_response()
        }),
    };
    let mut response = prettied(response, query.as_deref()).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    state.telemetry.http(method_label(&method), &route, response.status().as_u16(), began.elapsed());
    response
}

/// A method as a label: anyone can make up others, and a label must have few values.
fn method_label(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
    known.iter().zip(names).find(|(known, _)| *known == method).map_or("other", |(_, name)| name)
}

/// A page of another site can have its own name resolve to loopback, but the browser then sends that name as Host. A
/// target in absolute form names its host too, and both must be ours. Probes answer nothing that is worth a visit.
fn check_host(request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    if matches!(path, "/livez" | "/readyz") {
        return Ok(());
    }
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    let host = hosts.first().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = request.uri().authority().map(Authority::as_str);
    let other = [Some(host), target].into_iter().flatten().find(|name| !is_loopback(name));
    let (status, detail) = match other {
        _ if hosts.len() > 1 => (StatusCode::BAD_REQUEST, "Host stands there twice: send it once".to_owned()),
        None => return Ok(()),
        Some(other) => {
            let what = format!("Host `{other}` is not loopback");
            let next = "ask for http://127.0.0.1 or http://localhost with the port";
            (StatusCode::FORBIDDEN, format!("{what}; {next}"))
        }
    };
    // To nginx and Envoy a 4xx is a block, and nobody is blocked for a gateway's settings.
    let status = if is_check(path) { StatusCode::INTERNAL_SERVER_ERROR } else { status };
    Err(Problem::new(status, detail))
}

/// Refuses a request that a page of another site sent, for handlers that take a body. That the body is JSON, which no
/// form can send, its extractor checks.
pub fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    if origin.strip_prefix("http://").is_some_and(is_loopback) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, format!("Origin `{origin}` is another site")))
}

/// Whether a Host header names loopback, whatever its port.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let ip_is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    port_is_one && (name.eq_ignore_ascii_case("localhost") || ip_is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        for good in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.0.0.1"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in
            ["", "evil.example", "127.0.0.1.evil.example:80", "localhost:x", "10.0.0.1", "[::2]", "127.0.0.1:80:"]
        {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
