//! What a member in another process is told to do, and what it answers.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The environment variable that makes a test binary a member of a group.
pub(crate) const VARIABLE: &str = "TRUNKLINE_MEMBER";

/// What a member in another process is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Which factory makes its broker.
    pub(crate) label: String,
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) role: Role,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    /// How long each handler runs.
    pub(crate) handle_ms: u64,
    /// Events of these numbers are handled until the member is told to let go, which may be never.
    pub(crate) holds: Range<u64>,
    /// Whether every first attempt fails, to be made again after [`Orders::retry_ms`].
    pub(crate) fails_first: bool,
    pub(crate) retry_ms: u64,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    /// How long it may take to leave when it is told to.
    pub(crate) close_ms: u64,
}

/// How a member takes its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A handler of an event bus.
    Bus,
    /// A bare subscription.
    Subscription,
}

/// One line that a member printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A bare subscription has its broker and asks to join.
    Joining,
    /// It has joined.
    Ready,
    /// A handler began or ended.
    Run { starts: bool, topic: String, key: String, number: u64, attempt: u32, micros: u64 },
    /// A bare subscription settled a delivery: `acked`, or `refused` with the kind of the error.
    Settled { number: u64, outcome: String },
    /// It has left cleanly.
    Left,
    /// It gave up, and why.
    Failed(String),
}

impl Line {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = match words.next()? {
            "joining" => Self::Joining,
            "ready" => Self::Ready,
            "left" => Self::Left,
            "failed" => Self::Failed(words.collect::<Vec<_>>().join(" ")),
            "settled" => Self::Settled {
                number: words.next()?.parse().ok()?,
                outcome: words.next()?.to_owned(),
            },
            word @ ("start" | "end") => Self::Run {
                starts: word == "start",
                topic: words.next()?.to_owned(),
                key: words.next()?.to_owned(),
                number: words.next()?.parse().ok()?,
                attempt: words.next()?.parse().ok()?,
                micros: words.next()?.parse().ok()?,
            },
            _ => return None,
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_printed_and_others_are_left_alone() {
        let start = Line::parse("start t-1.a key-3 43 1 1700000000000000").unwrap();
        let Line::Run { starts, key, number, .. } = start else { panic!("{start:?}") };
        assert_eq!((starts, key.as_str(), number), (true, "key-3", 43));
        assert_eq!(Line::parse("failed no server"), Some(Line::Failed("no server".into())));
        assert_eq!(Line::parse("a warning of some driver"), None);
    }
}
