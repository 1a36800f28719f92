//! What can go wrong in the memory broker, and the words for it.

use trunkline_core::{Error, ErrorKind, Group, Topic};

pub(crate) enum MemoryError<'a> {
    Closed(&'static str),
    Full { group: Option<&'a Group>, capacity: usize },
    FullOfOwn { group: &'a Group },
    Unroutable(&'a Topic),
    LettersFull(usize),
    GroupInUse(&'a Group),
    LetterGone,
    SubscriberGone,
}

impl From<MemoryError<'_>> for Error {
    fn from(error: MemoryError<'_>) -> Self {
        let of = |kind, operation, message: &'static str| Error::new(kind, operation, message);
        match error {
            MemoryError::Closed(operation) => {
                of(ErrorKind::Closed, operation, "the memory broker is closed")
            }
            MemoryError::Full { group, capacity } => full(group, capacity),
            MemoryError::FullOfOwn { group } => full_of_own(group),
            MemoryError::Unroutable(topic) => unroutable(topic),
            MemoryError::LettersFull(limit) => of(
                ErrorKind::Full,
                "dead-letter",
                "the dead letters are full: read and settle some; the event stays unacknowledged",
            )
            .with("max_dead_letters", limit),
            MemoryError::GroupInUse(group) => of(
                ErrorKind::Conflict,
                "delete group",
                "the group has live members: close them first",
            )
            .with("group", group),
            MemoryError::LetterGone => of(
                ErrorKind::NotFound,
                "settle dead letter",
                "there is no such dead letter: it was redriven or discarded before",
            ),
            MemoryError::SubscriberGone => of(
                ErrorKind::NotFound,
                "settle dead letter",
                "the group or subscriber that gave the event up is gone: discard the dead letter, \
                 or make the group again",
            ),
        }
    }
}

fn publish_error(kind: ErrorKind, message: String) -> Error {
    Error::new(kind, "publish", message)
}

fn full(group: Option<&Group>, capacity: usize) -> Error {
    let message = match group {
        Some(group) => {
            format!("the buffer of group `{group}` is full: add members, or raise its buffer_size")
        }
        None => "the buffer of a broadcast subscriber is full: it is too slow, or its buffer_size \
                 too small"
            .to_owned(),
    };
    publish_error(ErrorKind::Full, message).with("buffer_size", capacity)
}

fn full_of_own(group: &Group) -> Error {
    let message = format!(
        "the buffer of group `{group}` is full, and a handler of that group cannot wait for \
         itself: publish less per event, or raise its buffer_size"
    );
    publish_error(ErrorKind::Full, message)
}

fn unroutable(topic: &Topic) -> Error {
    let message = format!(
        "nobody takes topic `{topic}`: subscribe first, or name its groups in channels.*.consumers"
    );
    publish_error(ErrorKind::Unroutable, message).with("topic", topic)
}
