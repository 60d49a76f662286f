//! Who may come in: Host, connections and heads, and the listener that is for probes alone.

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit};
use tallyman::http::check_listen;

use super::server::Server;

/// Connections of the main listener where files are many.
const CONNECTIONS_MAX: usize = 512;

#[test]
fn a_name_that_resolves_to_loopback_reads_nothing() {
    let server = Server::start(1);
    let reply = server.ask("GET", "/v1/orgs", &[("host", "rebound.example:8080")]);
    assert_eq!(reply.status, 403);
    assert!(reply.problem().contains("not loopback"));
    assert_eq!(server.ask("GET", "/v1/orgs", &[("host", "localhost:9999")]).status, 200);
    for path in ["/metrics", "/", "/v1/orgs/acme", "/v1/nothing"] {
        assert_eq!(server.ask("GET", path, &[("host", "tallyman.internal")]).status, 403, "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            server.ask("GET", path, &[("host", "tallyman.internal")]).status,
            200,
            "{path}: a probe's answer"
        );
    }
}

#[test]
fn a_second_host_and_a_target_with_another_host_are_refused() {
    let server = Server::start(1);
    for (head, status) in [
        ("GET /v1/orgs HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", 400),
        ("GET http://evil.example/v1/orgs HTTP/1.1\r\nhost: localhost\r\n", 403),
        ("GET http://localhost@evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n", 403),
        ("GET http://localhost/v1/orgs HTTP/1.1\r\nhost: evil.example\r\n", 403),
        ("GET /v1/orgs HTTP/1.1\r\n", 403),
        ("GET http://localhost/v1/orgs HTTP/1.1\r\nhost: 127.0.0.1\r\n", 200),
        // To a gateway a 4xx is a block.
        ("GET /v1/check HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 500),
        ("GET http://evil.example/v1/check HTTP/1.1\r\nhost: localhost\r\n", 500),
    ] {
        let told = server.raw(&format!("{head}connection: close\r\n\r\n"));
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {told}");
    }
}

#[test]
fn what_hyper_refuses_by_itself_is_no_block_either() {
    let server = Server::start(1);
    let many = |count| (0..count).fold(String::new(), |all, number| all + &format!("x-{number}: y\r\n"));
    let told =
        server.raw(&format!("GET /v1/orgs HTTP/1.1\r\nhost: localhost\r\n{}connection: close\r\n\r\n", many(400)));
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    for head in [
        format!("GET /v1/check HTTP/1.1\r\nhost: localhost\r\n{}\r\n", many(600)),
        "GET /v1/check HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
    ] {
        let told = server.raw(&head);
        assert!(told.starts_with("HTTP/1.1 500 ") && told.contains("application/problem+json"), "{told}");
        assert!(told.ends_with("}\n"), "{told}");
    }
}

#[test]
fn probes_have_a_listener_of_their_own_that_names_no_organisation_unless_told() {
    for names_orgs in [false, true] {
        let server = Server::with_probes(names_orgs);
        let text = server.probe("/metrics", "10.1.2.3:9090");
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("tallyman_http_connections{listener=\"probe\"} 1")
        );
        assert_eq!(text.contains("org=\"acme\""), names_orgs, "{text}");
        assert!(server.probe("/livez", "kubelet").starts_with("HTTP/1.1 200"));
        let ready = server.probe("/readyz?pretty", "kubelet");
        assert!(ready.ends_with("{\n  \"partitions\": {},\n  \"ready\": true\n}\n"), "{ready}");
        for path in ["/", "/v1/orgs", "/v1/orgs/acme", "/v1/check"] {
            assert!(server.probe(path, "localhost").starts_with("HTTP/1.1 404"), "{path}");
        }
        assert!(server.get("/metrics").body.contains("org=\"acme\""), "the main listener is on loopback");
    }
}

#[test]
fn probes_are_answered_while_every_other_connection_is_taken() {
    // Both ends of each connection are files of this process.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let server = Server::with_probes(false);
    let slow: Vec<_> = (0..CONNECTIONS_MAX).map(|_| server.connect()).collect();
    server.probed_until("tallyman_http_connections{listener=\"main\"}", |open| open == CONNECTIONS_MAX);
    let told = server.raw("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1") && told.contains("too many"),
        "{told}"
    );
    assert!(server.probe("/livez", "kubelet").starts_with("HTTP/1.1 200"));
    server.probed_until("tallyman_http_connections_refused_total{listener=\"main\"}", |refused| refused == 1);
    drop(slow);
    server.probed_until("tallyman_http_connections{listener=\"main\"}", |open| open == 0);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn nothing_beyond_loopback_is_listened_on_and_the_end_is_in_order() {
    for beyond in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80"] {
        let error = check_listen(beyond.parse::<SocketAddr>().unwrap()).unwrap_err().to_string();
        assert!(error.contains("beyond loopback"), "{error}");
    }
    let server = Server::start(1);
    assert_eq!(server.get("/livez").status, 200);
    server.stop();
}
