//! Why an append is refused, in the same words on every store.

use std::collections::HashSet;

use super::{ExpectedVersion, StreamVersion};
use crate::error::{Error, ErrorKind};
use crate::id::Identity;

/// Why an append is refused although nothing is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendConflict {
    /// The stream is not where the writer believes it to be; 0 is a stream that does not exist.
    Version {
        /// What the writer believes.
        expected: ExpectedVersion,
        /// The version of the stream's last event.
        actual: StreamVersion,
    },
    /// Some events of the batch are stored already, and some are not.
    PartlyKnown {
        /// How many are stored.
        known: usize,
        /// How many there are.
        batch: usize,
    },
    /// The batch holds one event twice.
    Repeated(Identity),
}

impl AppendConflict {
    /// Holds the events of a batch against each other.
    ///
    /// # Errors
    /// [`AppendConflict::Repeated`] when one stands in it twice.
    pub fn check_distinct<'a>(batch: impl IntoIterator<Item = &'a Identity>) -> Result<(), Self> {
        let mut seen = HashSet::new();
        match batch.into_iter().find(|identity| !seen.insert(*identity)) {
            None => Ok(()),
            Some(twice) => Err(Self::Repeated(twice.clone())),
        }
    }

    /// The error of an append to `stream`.
    #[must_use]
    pub fn into_error(self, stream: &str) -> Error {
        let conflict =
            |message| Error::new(ErrorKind::Conflict, "append", message).with("stream", stream);
        match self {
            Self::Version { expected, actual } => {
                conflict("the stream has another version: read it again and decide anew")
                    .with("expected", expected)
                    .with("actual", actual)
            }
            Self::PartlyKnown { known, batch } => {
                conflict("some of these events are stored already: append the new ones alone")
                    .with("known", known)
                    .with("batch", batch)
            }
            Self::Repeated(identity) => {
                conflict("the batch holds one event twice: append each event once")
                    .with("event", identity)
            }
        }
    }
}
