//! What stores are asked and what they answer.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::AppendConflict;
use crate::attributes::Attributes;
use crate::event::Event;
use crate::id::EventId;

/// The place of an event in its stream, from 1.
pub type StreamVersion = u64;

/// A place in the global order of one store: opaque, comparable, resumable.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position(u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// Made by a store from its own number.
    #[must_use]
    pub const fn from_raw(number: u64) -> Self {
        Self(number)
    }

    /// The store's own number.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What the writer believes of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedVersion {
    /// Nothing.
    #[default]
    Any,
    /// The stream does not exist.
    NoStream,
    /// The last event has this version.
    Exact(StreamVersion),
}

impl ExpectedVersion {
    /// Holds the belief against the version of the stream's last event, 0 where there is none.
    ///
    /// # Errors
    /// [`AppendConflict::Version`] when the two differ.
    pub fn check(self, actual: StreamVersion) -> Result<(), AppendConflict> {
        let fits = match self {
            Self::Any => true,
            Self::NoStream => actual == 0,
            Self::Exact(version) => actual == version,
        };
        if fits { Ok(()) } else { Err(AppendConflict::Version { expected: self, actual }) }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::NoStream => f.write_str("0"),
            Self::Exact(version) => fmt::Display::fmt(version, f),
        }
    }
}

/// Where an appended event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the global order.
    pub position: Position,
    /// Its place in its stream.
    pub version: StreamVersion,
    /// Whether the store had it already.
    pub known: bool,
}

/// An event that a store has, and where.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its place in the global order.
    pub position: Position,
    /// Its stream.
    pub stream: SmolStr,
    /// Its place in its stream.
    pub version: StreamVersion,
    /// When it was appended.
    pub recorded_at: Timestamp,
    /// The event.
    pub event: Event,
}

/// The direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// Which part of a stream to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadStream {
    /// The version to start at, inclusive; absent is the end that the direction starts from.
    pub from: Option<StreamVersion>,
    /// The direction.
    pub direction: Direction,
    /// At most so many events.
    pub limit: usize,
}

impl Default for ReadStream {
    fn default() -> Self {
        Self { from: None, direction: Direction::Forward, limit: usize::MAX }
    }
}

impl ReadStream {
    /// Oldest first, from `version` on.
    #[must_use]
    pub fn forward_from(version: StreamVersion) -> Self {
        Self { from: Some(version), ..Self::default() }
    }

    /// Newest first.
    #[must_use]
    pub fn backward() -> Self {
        Self { direction: Direction::Backward, ..Self::default() }
    }

    /// At most `limit` events.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Which part of the global order to read; every filter that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAll {
    /// Read what comes after this place.
    pub after: Position,
    /// At most so many events.
    pub limit: usize,
    /// Only these types; empty is all.
    pub types: Vec<SmolStr>,
    /// Only events of this correlation.
    pub correlation: Option<EventId>,
    /// Only events of this tenant.
    pub tenant: Option<SmolStr>,
    /// Only events of this project.
    pub project: Option<SmolStr>,
    /// Only streams whose name begins so.
    pub stream_prefix: Option<SmolStr>,
    /// Only events whose `time` is not earlier.
    pub since: Option<Timestamp>,
    /// Only events whose `time` is earlier.
    pub until: Option<Timestamp>,
}

impl ReadAll {
    /// The number of events of a page where the reader does not care: large enough that the cost of
    /// a round trip disappears, small enough to hold in memory.
    pub const DEFAULT_LIMIT: usize = 1000;

    /// Everything after `position`.
    #[must_use]
    pub fn after(position: Position) -> Self {
        Self {
            after: position,
            limit: Self::DEFAULT_LIMIT,
            types: Vec::new(),
            correlation: None,
            tenant: None,
            project: None,
            stream_prefix: None,
            since: None,
            until: None,
        }
    }

    /// At most `limit` events a page.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Only these types.
    #[must_use]
    pub fn with_types(mut self, types: impl IntoIterator<Item = impl Into<SmolStr>>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Only events of this correlation.
    #[must_use]
    pub fn with_correlation(mut self, id: impl Into<EventId>) -> Self {
        self.correlation = Some(id.into());
        self
    }

    /// Only events of this tenant.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Into<SmolStr>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only events of this project.
    #[must_use]
    pub fn with_project(mut self, project: impl Into<SmolStr>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Only streams whose name begins so.
    #[must_use]
    pub fn with_stream_prefix(mut self, prefix: impl Into<SmolStr>) -> Self {
        self.stream_prefix = Some(prefix.into());
        self
    }

    /// Only events whose `time` lies in the half-open range.
    #[must_use]
    pub fn with_time(mut self, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        self.since = since;
        self.until = until;
        self
    }

    /// Whether the filters take an event of these attributes in `stream`.
    #[must_use]
    pub fn takes(&self, stream: &str, attributes: &Attributes) -> bool {
        let time = attributes.time();
        (self.types.is_empty() || self.types.iter().any(|t| t == attributes.event_type()))
            && self.correlation.as_ref().is_none_or(|id| attributes.correlation() == Some(id))
            && self.tenant.as_deref().is_none_or(|tenant| attributes.tenant() == Some(tenant))
            && self.project.as_deref().is_none_or(|project| attributes.project() == Some(project))
            && self.stream_prefix.as_deref().is_none_or(|prefix| stream.starts_with(prefix))
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
    }
}

/// One page of the global order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, in global order.
    pub events: Vec<Recorded>,
    /// Where to read on: past everything that this page has looked at.
    pub next: Position,
    /// Whether the page ended at the head and not at its limit.
    pub caught_up: bool,
}
