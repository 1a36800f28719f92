//! URLs that may hold a password.

use std::fmt;

use trunkline_core::{Error, ErrorKind, Result};

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "***";

/// The address of a server or file, which may hold a password.
///
/// `Debug` and `Display` hide the password, so that it cannot reach a log by accident;
/// [`Url::expose`] is the one way to it. One URL may name several hosts, as Kafka's does.
///
/// ```
/// use trunkline::config::Url;
///
/// let url = Url::new("amqp://guest:hare@127.0.0.1:5672/%2f").unwrap();
/// assert_eq!(url.to_string(), "amqp://guest:***@127.0.0.1:5672/%2f");
/// assert_eq!(url.scheme(), "amqp");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Checks that `text` is a scheme, a colon and an address without blanks.
    ///
    /// # Errors
    /// `Invalid`; the message does not repeat the text, which may be a secret.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let blank = |c: char| c.is_whitespace() || c.is_control();
        let valid = text.split_once(':').is_some_and(|(scheme, address)| {
            is_scheme(scheme) && !address.trim_start_matches('/').is_empty()
        });
        if valid && !text.contains(blank) {
            return Ok(Self(text));
        }
        let rule = "a URL is a scheme, `://` and an address without blanks";
        Err(Error::new(ErrorKind::Invalid, "url", rule))
    }

    /// Stands for a URL that is missing or wrong: a problem is noted then, and the whole configuration
    /// refused.
    pub(super) const fn missing() -> Self {
        Self(String::new())
    }

    /// What stands before the first colon, such as `sqlite`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The whole text, password included: for the driver that connects, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_scheme(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(rest)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redacted(&self.0), f)
    }
}

/// The text with what looks like a password replaced; other text comes back unchanged.
///
/// It hides too much rather than too little: a password may hold an unescaped `/`, `?` or `@`, so
/// everything from the first colon of the address to its last `@` goes.
pub(super) fn redacted(text: &str) -> String {
    let (head, rest) = match text.find("://") {
        Some(at) => text.split_at(at + "://".len()),
        None => ("", text),
    };
    let Some(at) = rest.rfind('@').filter(|_| !head.is_empty()) else {
        return format!("{head}{}", redacted_query(rest));
    };
    let (user, host) = rest.split_at(at);
    match user.split_once(':') {
        Some((name, _)) => format!("{head}{name}:{HIDDEN}{}", redacted_query(host)),
        None => format!("{head}{user}{}", redacted_query(host)),
    }
}

/// Hides the values of query parameters whose names speak of a secret.
fn redacted_query(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let parameters: Vec<_> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{path}?{}", parameters.join("&"))
}

/// Whether the value of a setting of this name is not for everybody's eyes.
pub(super) fn is_secret(name: &str) -> bool {
    const SECRET: &[&str] = &["pass", "pwd", "secret", "token", "key", "credential"];
    let name = name.to_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_wherever_a_url_carries_it() {
        let cases = [
            ("amqp://guest:hare@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
            ("redis://:hare@h:6379/1", "redis://:***@h:6379/1"),
            ("amqp://guest:ha/r?e@x@h", "amqp://guest:***@h"),
            ("kafka://u:hare@h1:9092,u:hare@h2:9092", "kafka://u:***@h2:9092"),
            ("postgres://h/db?sslmode=on&password=hare", "postgres://h/db?sslmode=on&password=***"),
            ("sqlite:trunkline.db?Key=hare", "sqlite:trunkline.db?Key=***"),
            ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
            ("kafka://h1:9092,h2:9092", "kafka://h1:9092,h2:9092"),
            ("no url at all: x@y", "no url at all: x@y"),
        ];
        for (text, shown) in cases {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn debug_and_display_hide_the_password_and_expose_does_not() {
        let url = Url::new("redis://user:hare@h").unwrap();
        assert_eq!(format!("{url} {url:?}"), "redis://user:***@h \"redis://user:***@h\"");
        assert_eq!(url.expose(), "redis://user:hare@h");
    }

    #[test]
    fn a_url_needs_a_scheme_and_an_address() {
        for good in ["sqlite::memory:", "sqlite://trunkline.db", "rediss://h", "kafka://a,b"] {
            assert!(Url::new(good).is_ok(), "{good}");
        }
        for bad in ["", "host", "redis://", "redis:", "1x://h", "redis://a b", "://h", "Redis://h"]
        {
            assert!(Url::new(bad).is_err(), "{bad}");
        }
    }
}
