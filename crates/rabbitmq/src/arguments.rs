//! The arguments that a configuration adds to the queues of groups, and those it may not.

use std::collections::BTreeMap;
use std::fmt;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use trunkline_core::{Error, ErrorKind, Result};

use crate::topology::text;

/// The value of an argument of a queue, which reaches the server with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueArgument {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

impl From<&str> for QueueArgument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for QueueArgument {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for QueueArgument {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for QueueArgument {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl fmt::Display for QueueArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
        }
    }
}

impl QueueArgument {
    fn to_amqp(&self) -> AMQPValue {
        match self {
            Self::Text(value) => text(value.as_str()),
            Self::Integer(number) => AMQPValue::LongLongInt(*number),
            Self::Boolean(boolean) => AMQPValue::Boolean(*boolean),
        }
    }
}

/// Arguments by name.
pub(crate) type QueueArguments = BTreeMap<String, QueueArgument>;

const OVERFLOW: &str = "x-overflow";
/// The only way of a full queue that loses nothing and tells the publisher.
const REJECT: &str = "reject-publish";
/// Arguments that are not the configuration's, and why.
const RESERVED: [(&str, &str); 8] = [
    ("x-queue-type", "it is set by `queue_type`"),
    ("x-single-active-consumer", "it is set where events of a key have to stay in order"),
    ("x-delivery-limit", "RabbitMQ would drop an event that is still to be retried"),
    ("x-message-ttl", "RabbitMQ would drop what nobody has handled yet: use `expirytime`"),
    ("x-expires", "RabbitMQ would delete the queue with what is in it"),
    ("x-dead-letter-exchange", "what is given up goes to dead letters of its own"),
    ("x-dead-letter-routing-key", "what is given up goes to dead letters of its own"),
    ("x-dead-letter-strategy", "what is given up goes to dead letters of its own"),
];

/// Fails for arguments that would break what the broker promises.
pub(crate) fn check(arguments: &QueueArguments) -> Result<()> {
    let wrong = |name: &str, why: &str| {
        let message = format!("`{name}` is no argument to configure: {why}");
        Err(Error::new(ErrorKind::Config, "rabbitmq", message).with("argument", name))
    };
    for (name, why) in RESERVED {
        if arguments.contains_key(name) {
            return wrong(name, why);
        }
    }
    if let Some(name) = arguments.keys().find(|name| name.len() > usize::from(u8::MAX)) {
        return wrong(name, "a name is at most 255 bytes long");
    }
    match arguments.get(OVERFLOW) {
        Some(overflow) if *overflow != QueueArgument::from(REJECT) => {
            let why = format!("`{overflow}` loses events that were accepted; use `{REJECT}`");
            wrong(OVERFLOW, &why)
        }
        _ => Ok(()),
    }
}

/// Adds the configured arguments to those of a queue.
///
/// A queue with a limit of its length refuses what is too much: by default the server would drop the
/// oldest, which was accepted.
pub(crate) fn extend(table: &mut FieldTable, arguments: &QueueArguments) {
    for (name, value) in arguments {
        table.insert(ShortString::from(name.as_str()), value.to_amqp());
    }
    if arguments.contains_key("x-max-length") || arguments.contains_key("x-max-length-bytes") {
        table.insert(OVERFLOW.into(), text(REJECT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments<const N: usize>(entries: [(&str, QueueArgument); N]) -> QueueArguments {
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    #[test]
    fn what_would_drop_events_is_refused_with_the_reason() {
        for (name, _) in RESERVED {
            let error = check(&arguments([(name, QueueArgument::Integer(3))])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
        for overflow in ["drop-head", "reject-publish-dlx"] {
            let error = check(&arguments([(OVERFLOW, overflow.into())])).unwrap_err();
            assert!(error.to_string().contains("use `reject-publish`"), "{error}");
        }
        assert!(check(&arguments([(OVERFLOW, REJECT.into())])).is_ok());
    }

    #[test]
    fn values_keep_their_types_and_a_full_queue_refuses() {
        let mut table = FieldTable::default();
        let configured = [
            ("x-max-length", QueueArgument::from(10)),
            ("x-queue-mode", "7".into()),
            ("x-own", true.into()),
        ];
        extend(&mut table, &arguments(configured));
        let value = |name: &str| table.inner().get(name).cloned();
        assert_eq!(value("x-max-length"), Some(AMQPValue::LongLongInt(10)));
        assert_eq!(value("x-queue-mode"), Some(text("7")));
        assert_eq!(value("x-own"), Some(AMQPValue::Boolean(true)));
        assert_eq!(value(OVERFLOW), Some(text(REJECT)));
    }
}
