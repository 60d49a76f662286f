//! The registry client against a small HTTP server: what it keeps, what it asks again, and how it behaves while the
//! registry is down.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tallyman::registry::{Client, SchemaRegistry};

/// One request as the server saw it: first line, headers by lower-case name, body.
type Request = (String, HashMap<String, String>, String);

/// Serves `answers` one connection each, and tells what was asked.
fn serve(listener: TcpListener, answers: Vec<(u16, &'static str)>) -> Receiver<Request> {
    let (seen, requests) = channel();
    thread::spawn(move || {
        for (status, body) in answers {
            let Ok((stream, _)) = listener.accept() else { return };
            answer(stream, status, body, &seen);
        }
    });
    requests
}

fn answer(mut stream: TcpStream, status: u16, body: &str, seen: &Sender<Request>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut asked = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut asked).unwrap();
    let _ = seen.send((first.trim().to_owned(), headers, String::from_utf8(asked).unwrap()));
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
}

fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What the registry itself says of an id that it does not have.
const DENIED: (u16, &str) = (404, r#"{"error_code": 40403, "message": "Schema 6 not found"}"#);

#[test]
fn a_schema_is_asked_for_once_and_a_denied_id_is_not_asked_at_once_again() {
    let (listener, address) = bound();
    let requests = serve(listener, vec![(200, r#"{"schema": "\"string\""}"#), DENIED]);
    let client = Client::new(&format!("http://me:s%20cret@{address}/apis/"), None).unwrap();
    for _ in 0..3 {
        assert_eq!(client.schema(5).unwrap().as_deref(), Some("\"string\""));
        assert!(client.schema(6).is_err());
    }
    let (line, headers, _) = requests.recv().unwrap();
    assert_eq!(line, "GET /apis/schemas/ids/5 HTTP/1.1");
    assert_eq!(headers["authorization"], "Basic bWU6cyBjcmV0");
    assert_eq!(requests.recv().unwrap().0, "GET /apis/schemas/ids/6 HTTP/1.1");
    assert!(requests.recv().is_err(), "nothing else was asked");
    assert_eq!(client.errors(), 0, "a denial is an answer");
}

#[test]
fn an_answer_that_is_not_the_registrys_own_denial_is_unavailable_and_told() {
    for (status, body, told) in [
        (404, "<html><body>\n  <h1>404 page not found</h1></body></html>", "404 page not found"),
        (404, r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#, "HTTP 404 Not Found"),
        (404, r#"{"error_code": 40401, "message": "Subject not found"}"#, "Subject not found"),
        (404, r#"{"message": "no Route matched with those values"}"#, "no Route matched"),
        (404, "", "404"),
        (400, "<html>Bad Request</html>", "Bad Request"),
        (400, r#"{"error_code": 400}"#, "400"),
        (410, "gone", "gone"),
        (422, "{}", "422"),
        (302, r#"{"error_code": 40403}"#, "302"),
        (502, r#"{"error_code": 40403}"#, "502"),
        (200, "<html>Sign in</html>", "no registry's answer"),
        (200, r#"{"error_code": 40403}"#, "no registry's answer"),
    ] {
        let (listener, address) = bound();
        let _requests = serve(listener, vec![(status, body)]);
        let client = Client::new(&format!("http://{address}/wrong/path"), None).unwrap();
        let error = client.schema(9).expect_err(body).to_string();
        assert!(error.contains(&format!("http://{address}/wrong/path")), "{error}");
        assert!(error.contains(told) && error.contains("`registry.url`"), "{status} {body}: {error}");
    }
}

#[test]
fn an_id_that_a_follower_learns_of_seconds_later_is_never_denied() {
    let (listener, address) = bound();
    let requests = serve(listener, vec![DENIED, (200, r#"{"schema": "x"}"#)]);
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    let error = client.schema(6).unwrap_err().to_string();
    for told in ["schema id 6", "40403", "Schema 6 not found", "30 s"] {
        assert!(error.contains(told), "{error}");
    }
    let schema = loop {
        match client.schema(6) {
            Ok(schema) => break schema,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!(schema.as_deref(), Some("x"));
    assert_eq!(requests.iter().count(), 2);
}

#[test]
fn our_schema_is_registered_under_its_subject() {
    let (listener, address) = bound();
    let requests = serve(listener, vec![(200, r#"{"id": 42}"#), (409, "{}")]);
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    assert_eq!(client.register("tallyman.v1.Alert", "{\"a\": 1}"), Ok(42));
    let (line, headers, body) = requests.recv().unwrap();
    assert_eq!(line, "POST /subjects/tallyman.v1.Alert/versions HTTP/1.1");
    assert_eq!(headers["content-type"], "application/vnd.schemaregistry.v1+json");
    assert_eq!(body, r#"{"schema":"{\"a\": 1}"}"#);
    assert!(client.register("tallyman.v1.Alert", "{}").unwrap_err().to_string().contains("409"));
}

#[test]
fn a_registry_that_is_left_alone_is_told_with_what_it_answered_last() {
    let (listener, address) = bound();
    let requests = serve(listener, vec![(404, "<html>nginx</html>")]);
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    for _ in 0..2 {
        let error = client.schema(1).unwrap_err().to_string();
        assert!(error.contains("404") && error.contains("nginx"), "{error}");
    }
    assert_eq!(requests.iter().count(), 1, "it is not asked at once again");
}

#[test]
fn a_registry_that_is_down_fails_promptly_and_works_again_when_it_is_up() {
    let (listener, address) = bound();
    drop(listener);
    let client = Client::new(&format!("http://me:secret@{address}"), None).unwrap();
    let start = Instant::now();
    for _ in 0..50 {
        let error = client.schema(1).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(error.contains(&address.to_string()), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let errors = client.errors();
    assert!((1..10).contains(&errors), "it was left alone between {errors} calls");
    let requests = serve(TcpListener::bind(address).unwrap(), vec![(503, ""), (200, r#"{"schema": "x"}"#)]);
    while client.schema(1).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.schema(1).unwrap().as_deref(), Some("x"));
    assert_eq!(requests.iter().count(), 2);
}

#[test]
fn a_registry_that_never_answers_costs_two_seconds_at_most() {
    let (listener, address) = bound();
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    let start = Instant::now();
    assert!(client.schema(1).is_err());
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    drop(listener);
}

#[test]
fn refused_credentials_are_no_denial() {
    let (listener, address) = bound();
    let _requests = serve(listener, vec![(401, "")]);
    let client = Client::new(&format!("http://{address}"), Some(("u", "pa55word"))).unwrap();
    let error = client.schema(1).unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains("pa55word"), "{error}");
}
