//! The one error type of the public API.

use std::borrow::Cow;
use std::fmt;

/// The result of every fallible operation of trunkline.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, in the caller's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A bounded buffer had no room in time.
    Full,
    /// The event's data is larger than `max_event_bytes`.
    TooLarge,
    /// Nobody would receive the event: no group and no subscriber takes its topic.
    Unroutable,
    /// Not attempted, because an earlier event of the same topic and key in the batch failed.
    Aborted,
    /// A time limit passed.
    TimedOut,
    /// The broker, store, bus or subscription is closed.
    Closed,
    /// The broker or store cannot be reached.
    Disconnected,
    /// The backend lacks what an option asks for.
    Unsupported,
    /// An argument, attribute, topic or pattern is not valid.
    Invalid,
    /// The payload could not be turned into bytes.
    Encode,
    /// Bytes could not be turned into an event or a payload.
    Decode,
    /// An expected version did not match, or a name is taken.
    Conflict,
    /// What was named does not exist.
    NotFound,
    /// The caller no longer owns what it tried to settle.
    Fenced,
    /// The configuration is wrong.
    Config,
    /// A handler returned an error.
    HandlerFailed,
    /// A handler panicked.
    HandlerPanicked,
    /// The backend reported a failure of its own.
    Backend,
}

impl ErrorKind {
    /// The stable name of the kind, as it appears in dead letters and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Unroutable => "unroutable",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::Disconnected => "disconnected",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Fenced => "fenced",
            Self::Config => "config",
            Self::HandlerFailed => "handler_failed",
            Self::HandlerPanicked => "handler_panicked",
            Self::Backend => "backend",
        }
    }

    fn default_retry(self) -> RetryClass {
        match self {
            Self::Full | Self::Disconnected | Self::HandlerFailed | Self::HandlerPanicked => {
                RetryClass::Transient
            }
            Self::TimedOut => RetryClass::Ambiguous,
            Self::Closed => RetryClass::Closed,
            Self::Unsupported | Self::Invalid | Self::Config => RetryClass::Misuse,
            Self::Aborted => RetryClass::Transient,
            _ => RetryClass::Permanent,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// The same call may succeed later; nothing happened.
    Transient,
    /// The same call will fail again.
    Permanent,
    /// The outcome is unknown: retry with the same event id.
    Ambiguous,
    /// The object is closed; a new one is needed.
    Closed,
    /// The call itself is wrong and must be changed.
    Misuse,
}

/// An error with its kind, retry class, operation, context and source.
///
/// `Display` prints this level only; walk [`std::error::Error::source`] for the causes.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: RetryClass,
    operation: &'static str,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

impl Error {
    /// Makes an error of `kind`, raised by `operation`, whose message tells the person what to do.
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            operation,
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// The event was not attempted, because one of its topic and key failed before it in the batch.
    #[must_use]
    pub fn aborted() -> Self {
        let message = "an earlier event of the same topic and key in the batch was not accepted";
        Self::new(ErrorKind::Aborted, "publish", message)
    }

    /// The event's data has more bytes than `max_event_bytes`.
    #[must_use]
    pub fn too_large(bytes: usize, limit: usize) -> Self {
        let message = format!(
            "the event's data has {bytes} bytes, and max_event_bytes of the bus or its broker is \
             {limit}: store the data elsewhere and publish a reference"
        );
        Self::new(ErrorKind::TooLarge, "publish", message)
    }

    /// Replaces the retry class that follows from the kind.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryClass) -> Self {
        self.0.retry = retry;
        self
    }

    /// Adds a named fact, such as `topic = orders.placed`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> RetryClass {
        self.0.retry
    }

    /// The operation that failed, such as `publish`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The value of a named fact, if the error carries it.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        let mut facts = self.0.context.iter();
        facts.find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the event was stored before the failure, so that a retry of the same id only routes.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.context("stored") == Some("true")
    }

    /// A copy for a second event that failed for the same reason; the source becomes its text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let source = self.0.source.as_ref().map(|cause| Source::from(cause.to_string()));
        Self(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            operation: self.0.operation,
            message: self.0.message.clone(),
            context: self.0.context.clone(),
            source,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.message)?;
        for (index, (name, value)) in self.0.context.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{name}={value}")?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("operation", &self.0.operation)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_prints_its_own_level_and_context_only() {
        let cause = std::io::Error::other("socket closed");
        let error = Error::new(ErrorKind::Disconnected, "publish", "no connection")
            .with("topic", "orders.placed")
            .with("broker", "memory")
            .because(cause);
        assert_eq!(
            error.to_string(),
            "publish: no connection (topic=orders.placed, broker=memory)"
        );
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("socket closed"));
    }

    #[test]
    fn an_unknown_outcome_is_ambiguous_and_a_full_buffer_transient() {
        let timed_out = Error::new(ErrorKind::TimedOut, "publish", "no reply");
        let full = Error::new(ErrorKind::Full, "publish", "no room");
        assert_eq!(timed_out.retry(), RetryClass::Ambiguous);
        assert_eq!(full.retry(), RetryClass::Transient);
    }
}
