//! What the memory store refuses, and the words for it.

use smol_str::SmolStr;
use tokio::sync::watch::error::RecvError;
use trunkline_core::{Error, ErrorKind, ExpectedVersion, Identity, StreamVersion};

pub(super) enum StoreError {
    /// The stream is not where the writer believes it to be.
    Version { stream: SmolStr, expected: ExpectedVersion, actual: StreamVersion },
    /// Some events of the batch are there already, and some are not.
    PartlyKnown { stream: SmolStr, known: usize, batch: usize },
    /// The batch holds one event twice.
    Repeated { stream: SmolStr, identity: Identity },
    /// The store went while somebody waited on it.
    Gone(RecvError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let conflict = |message, stream| {
            Error::new(ErrorKind::Conflict, "append", message).with("stream", stream)
        };
        match error {
            StoreError::Version { stream, expected, actual } => {
                let message = "the stream has another version: read it again and decide anew";
                conflict(message, stream)
                    .with("expected", version_of(expected))
                    .with("actual", actual)
            }
            StoreError::PartlyKnown { stream, known, batch } => {
                let message = "some of these events are stored already: append the new ones alone";
                conflict(message, stream).with("known", known).with("batch", batch)
            }
            StoreError::Repeated { stream, identity } => {
                let message = "the batch holds one event twice: append each event once";
                conflict(message, stream).with("event", identity)
            }
            StoreError::Gone(cause) => {
                Error::new(ErrorKind::Closed, "wait", "the store is gone").because(cause)
            }
        }
    }
}

fn version_of(expected: ExpectedVersion) -> String {
    match expected {
        ExpectedVersion::Any => "any".to_owned(),
        ExpectedVersion::NoStream => "0".to_owned(),
        ExpectedVersion::Exact(version) => version.to_string(),
    }
}
