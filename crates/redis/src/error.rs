//! What can go wrong on the way to a Redis server, and the words for it.

use std::error::Error as Cause;
use std::io;
use std::sync::Arc;

use redis::RedisError;
use trunkline_core::{Error, ErrorKind, RetryClass};

/// What is to be done about a failure of the driver or an answer of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The connection is gone: make another.
    Reconnect,
    /// No answer in time: another of these, and the connection is given up.
    TimedOut,
    /// The server cannot answer yet or no longer: try again later, on a new connection.
    Later,
    /// The consumer group or its stream is gone: make it again.
    NoGroup,
    /// Nothing helps.
    Fail,
}

/// Sorts a failure of the driver.
pub(crate) fn remedy(error: &RedisError) -> Remedy {
    if error.is_timeout() {
        return Remedy::TimedOut;
    }
    match error.code() {
        Some(code) => remedy_of_code(code),
        None if error.is_io_error() || error.is_unrecoverable_error() => Remedy::Reconnect,
        None => Remedy::Fail,
    }
}

/// Sorts an error that the server answered.
pub(crate) fn remedy_of_code(code: &str) -> Remedy {
    match code {
        "LOADING" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY"
        | "NOSCRIPT" | "UNBLOCKED" | "MOVED" | "ASK" => Remedy::Later,
        "NOGROUP" => Remedy::NoGroup,
        _ => Remedy::Fail,
    }
}

/// The driver's error as one of ours; `sent` says whether the server may have done it all the same.
pub(crate) fn from_driver(operation: &'static str, error: RedisError, sent: bool) -> Error {
    let (kind, message) = match remedy(&error) {
        Remedy::TimedOut => (
            ErrorKind::TimedOut,
            "the Redis server did not answer in time: whether it did it is not known",
        ),
        Remedy::Reconnect => {
            (ErrorKind::Disconnected, "the connection to the Redis server was lost")
        }
        Remedy::Later => (ErrorKind::Disconnected, "the Redis server cannot serve this now"),
        Remedy::NoGroup | Remedy::Fail => return refused(operation, &error.to_string()),
    };
    let made = Error::new(kind, operation, message).because(error);
    if sent && kind == ErrorKind::Disconnected {
        made.with_retry(RetryClass::Ambiguous)
    } else {
        made
    }
}

/// Why no further attempt to connect can help, if so.
pub(crate) fn refusal(error: &RedisError) -> Option<&'static str> {
    let is_login = error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
    if is_login {
        return Some("the Redis server refused the user name or the password of the URL");
    }
    // The driver shares what it wraps; what it wraps is the failed connection, and in it what TLS says.
    let shared = error.source()?.downcast_ref::<Arc<dyn Cause + Send + Sync>>()?;
    let inner = shared.downcast_ref::<io::Error>()?.get_ref()?;
    let tls = inner.downcast_ref::<rustls::Error>()?;
    matches!(tls, rustls::Error::InvalidCertificate(_)).then_some(
        "the certificate of the Redis server is not trusted: give the certificate of its authority as \
         `ca_file`, and the name that stands in it in the URL",
    )
}

/// The server said no.
pub(crate) fn refused(operation: &'static str, text: &str) -> Error {
    // In the words of the server: the letters may also stand in a name that it repeats.
    if text.contains("command not allowed when used memory") {
        let message = "the Redis server has reached its maxmemory, and gives nothing out either until \
                       there is room: raise it, or remove what nobody needs";
        return Error::new(ErrorKind::Full, operation, message).with("answer", text);
    }
    let message = format!("the Redis server refused: {text}");
    Error::new(ErrorKind::Backend, operation, message)
}

/// An answer that is not what the command answers.
pub(crate) fn unexpected(operation: &'static str, what: &'static str) -> Error {
    let message = format!("the Redis server's answer holds no {what}");
    Error::new(ErrorKind::Backend, operation, message)
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the Redis broker is closed")
}

pub(crate) fn fenced(operation: &'static str) -> Error {
    let message = "the partition's lease was lost and another member may own the event by now: it \
                   will be handled again";
    Error::new(ErrorKind::Fenced, operation, message)
}

pub(crate) fn disconnected(operation: &'static str, address: &str) -> Error {
    let message = format!("no Redis server answers at {address}: check the URL and that it runs");
    Error::new(ErrorKind::Disconnected, operation, message).with("address", address)
}
