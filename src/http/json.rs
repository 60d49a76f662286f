//! JSON as answers carry it: compact with a newline at its end, or with `?pretty` indented for people.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;

/// A body as `application/json`.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match bytes(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// A value as a line of JSON.
///
/// # Errors
/// Never for the bodies of this room: their keys are texts.
pub fn bytes(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What `?pretty` asks for; the error is the value that is neither yes nor no.
pub fn wants_pretty(params: &[(String, String)]) -> Result<bool, &str> {
    let asked = params.iter().find(|(name, _)| name == "pretty").map(|(_, value)| value.as_str());
    match asked {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(other),
    }
}

/// The response, its JSON indented where the query asks for it. Anything else stays as it is.
pub async fn prettied(response: Response, query: Option<&str>) -> Response {
    let asks = |query: &str| query.split('&').any(|one| matches!(one, "pretty" | "pretty=" | "pretty=true"));
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_json = matches!(content_type, Some(b"application/json" | b"application/problem+json"));
    if !is_json || !query.is_some_and(asks) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body of this room is whole in memory already.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer ended early; ask again")
            .into_response();
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(indented(&bytes)))
}

/// Legal JSON with two spaces a level; what stands in a text is not touched.
fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    let mut before = b' ';
    for &byte in json {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            before = b'"';
            continue;
        }
        match byte {
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(before, b'{' | b'[') {
                    line(&mut out, depth);
                }
                out.push(byte);
            }
            b'\n' => out.push(byte),
            _ => {
                if matches!(before, b'{' | b'[') {
                    line(&mut out, depth);
                }
                out.push(byte);
                match byte {
                    b'{' | b'[' => depth += 1,
                    b',' => line(&mut out, depth),
                    b':' => out.push(b' '),
                    _ => in_text = byte == b'"',
                }
            }
        }
        before = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_json_is_the_same_json_as_the_library_indents_it() {
        for text in [
            r#"{"a":[1,-2.5e3,{"b":"x,{[\"\\"}],"c":{},"d":[],"e":[[],{}],"f":null,"":"\u00e4:\\\\"}"#,
            "[]",
            "{}",
            "\"text: {\"",
            "[{\"a\":[true,false]},[[1]]]",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let compact = bytes(&value).unwrap();
            let expected = serde_json::to_string_pretty(&value).unwrap() + "\n";
            assert_eq!(String::from_utf8(indented(&compact)).unwrap(), expected);
        }
    }
}
