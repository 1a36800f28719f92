//! The answer to a publish: ready at once, or one boxed future for the whole batch.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, Result};
use crate::event::Event;

/// The results of a batch, one per event.
#[derive(Debug, Default)]
pub struct BatchResult {
    /// Only failures are kept, in the order of the batch: a batch that went well allocates nothing.
    failures: Vec<(usize, Error)>,
}

impl BatchResult {
    /// Every event was accepted.
    #[must_use]
    pub const fn accepted() -> Self {
        Self { failures: Vec::new() }
    }

    /// Every event of a batch of `len` failed for the same reason.
    #[must_use]
    pub fn failed(len: usize, error: &Error) -> Self {
        let failures = (0..len).map(|index| (index, error.duplicate())).collect();
        Self { failures }
    }

    /// Notes that the event at `index` failed.
    pub fn fail(&mut self, index: usize, error: Error) {
        let at = self.failures.partition_point(|(known, _)| *known <= index);
        self.failures.insert(at, (index, error));
    }

    /// Why the event at `index` was not accepted, if it was not.
    #[must_use]
    pub fn error(&self, index: usize) -> Option<&Error> {
        let at = self.failures.binary_search_by_key(&index, |(known, _)| *known).ok()?;
        Some(&self.failures[at].1)
    }

    /// Whether an event of the same topic and key has failed, so that `event` must not be attempted;
    /// `batch` is the batch that the result is of.
    #[must_use]
    pub fn aborts(&self, event: &Event, batch: &[Event]) -> bool {
        let lane = event.attributes().lane();
        lane.is_some() && self.failures().any(|(at, _)| batch[at].attributes().lane() == lane)
    }

    /// Whether every event was accepted.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }

    /// The events that failed, by their place in the batch.
    #[must_use]
    pub fn failures(&self) -> impl ExactSizeIterator<Item = (usize, &Error)> {
        self.failures.iter().map(|(index, error)| (*index, error))
    }

    /// The failures as they are.
    #[must_use]
    pub fn into_failures(self) -> Vec<(usize, Error)> {
        self.failures
    }

    /// Ok when every event was accepted, else the first failure.
    ///
    /// # Errors
    /// The error of the first event that failed.
    pub fn into_result(self) -> Result<()> {
        match self.failures.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}

/// A publish under way: a future of the batch's results that is often ready at once.
pub enum Publishing<'a> {
    /// The results are known.
    Ready(BatchResult),
    /// Something has to be waited for.
    Waiting(Pin<Box<dyn Future<Output = BatchResult> + Send + 'a>>),
}

impl<'a> Publishing<'a> {
    /// Boxes the future of a batch that must wait.
    #[must_use]
    pub fn waiting(future: impl Future<Output = BatchResult> + Send + 'a) -> Self {
        Self::Waiting(Box::pin(future))
    }
}

impl Future for Publishing<'_> {
    type Output = BatchResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BatchResult> {
        match &mut *self {
            Self::Ready(result) => Poll::Ready(std::mem::take(result)),
            Self::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Publishing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Waiting(_) => f.write_str("Waiting"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn failures_are_found_by_their_place_whatever_order_they_came_in() {
        let mut result = BatchResult::accepted();
        for index in [4, 1, 2] {
            result.fail(index, Error::new(ErrorKind::Full, "publish", index.to_string()));
        }
        let places: Vec<usize> = result.failures().map(|(index, _)| index).collect();
        assert_eq!(places, [1, 2, 4]);
        assert!(result.error(2).is_some() && result.error(3).is_none());
        assert!(result.into_result().unwrap_err().to_string().contains('1'));
    }
}
