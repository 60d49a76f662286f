//! Where the registry is and how to log in there. What is shown of it never holds a secret.

use std::fmt;

/// A registry's address, its credentials apart.
pub(super) struct Address {
    /// URL without credentials and without a slash at its end.
    pub base: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

impl Address {
    /// Takes a URL apart.
    pub fn new(url: &str, credentials: Option<(&str, &str)>) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) if !rest.is_empty() => (scheme, rest),
            // The text may hold a password: it is not repeated.
            _ => return Err("`registry.url` must start with http:// or https://".to_owned()),
        };
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let (user_info, host) = match rest[..authority_end].rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, &rest[..authority_end]),
        };
        let in_url = user_info.map(|info| {
            let (user, password) = info.split_once(':').unwrap_or((info, ""));
            [percent_decoded(user), b":".to_vec(), percent_decoded(password)].concat()
        });
        let given = credentials.map(|(user, password)| format!("{user}:{password}").into_bytes());
        Ok(Self {
            base: format!("{scheme}://{host}{}", rest[authority_end..].trim_end_matches('/')),
            authorization: given.or(in_url).map(|login| format!("Basic {}", base64(&login))),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        if byte == b'%'
            && let Some(decoded) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            out.push(decoded);
            rest = &tail[2..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().zip([16, 8, 0]).fold(0_u32, |word, (byte, shift)| word | u32::from(*byte) << shift);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS[(word >> shift & 63) as usize];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_the_url_become_a_header_and_are_never_shown() {
        let address = Address::new("http://us%65r:p%40ss@registry:8081/apis/ccompat/v7/", None).ok().unwrap();
        assert_eq!(address.to_string(), "http://registry:8081/apis/ccompat/v7");
        assert_eq!(address.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        let address = Address::new("https://a:b@h", Some(("x", "yz"))).ok().unwrap();
        assert_eq!(
            (address.base.as_str(), address.authorization.as_deref()),
            ("https://h", Some("Basic eDp5eg=="))
        );
        let error = Address::new("registry:secret@host", None).err().unwrap();
        assert!(!error.contains("secret"), "{error}");
    }
}
