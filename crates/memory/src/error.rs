//! What can go wrong in the memory broker, and the words for it.

use trunkline_core::{Error, ErrorKind, Group, Topic};

pub(crate) enum MemoryError<'a> {
    Closed(&'static str),
    Full { group: Option<&'a Group>, capacity: usize },
    FullOfOwn { group: &'a Group },
    TooLarge { bytes: usize, limit: usize },
    Unroutable(&'a Topic),
    Aborted,
    LettersFull(usize),
    GroupInUse(&'a Group),
    LetterGone,
    SubscriberGone,
}

impl From<MemoryError<'_>> for Error {
    fn from(error: MemoryError<'_>) -> Self {
        let publish = |kind, message: String| Error::new(kind, "publish", message);
        match error {
            MemoryError::Closed(operation) => {
                Error::new(ErrorKind::Closed, operation, "the memory broker is closed")
            }
            MemoryError::Full { group: Some(group), capacity } => publish(
                ErrorKind::Full,
                format!(
                    "the buffer of group `{group}` is full: add members, or raise its buffer_size"
                ),
            )
            .with("buffer_size", capacity),
            MemoryError::Full { group: None, capacity } => publish(
                ErrorKind::Full,
                "the buffer of a broadcast subscriber is full: it is too slow, or its \
                 buffer_size too small"
                    .to_owned(),
            )
            .with("buffer_size", capacity),
            MemoryError::FullOfOwn { group } => publish(
                ErrorKind::Full,
                format!(
                    "the buffer of group `{group}` is full, and a handler of that group cannot \
                     wait for itself: publish less per event, or raise its buffer_size"
                ),
            ),
            MemoryError::TooLarge { bytes, limit } => publish(
                ErrorKind::TooLarge,
                format!(
                    "the event's data has {bytes} bytes and max_event_bytes is {limit}: store the \
                     data elsewhere and publish a reference"
                ),
            ),
            MemoryError::Unroutable(topic) => publish(
                ErrorKind::Unroutable,
                format!(
                    "nobody takes topic `{topic}`: subscribe first, or name its groups in \
                     channels.*.consumers"
                ),
            )
            .with("topic", topic),
            MemoryError::Aborted => publish(
                ErrorKind::Aborted,
                "an earlier event of the same topic and key in the batch was not accepted"
                    .to_owned(),
            ),
            MemoryError::LettersFull(limit) => Error::new(
                ErrorKind::Full,
                "dead-letter",
                "the dead letters are full: read and settle some; the event stays unacknowledged",
            )
            .with("max_dead_letters", limit),
            MemoryError::GroupInUse(group) => Error::new(
                ErrorKind::Conflict,
                "delete group",
                format!("group `{group}` has live members: close them first"),
            ),
            MemoryError::LetterGone => Error::new(
                ErrorKind::NotFound,
                "settle dead letter",
                "there is no such dead letter: it was redriven or discarded before",
            ),
            MemoryError::SubscriberGone => Error::new(
                ErrorKind::NotFound,
                "settle dead letter",
                "the group or subscriber that gave the event up is gone: discard the dead letter, \
                 or make the group again",
            ),
        }
    }
}
