//! Spans around futures.

use std::future::Future;

use tracing::{Instrument as _, Span};

/// Runs `future` inside `span`; where nobody listens, the span costs nothing on the way.
pub(crate) async fn in_span<F: Future>(span: Span, future: F) -> F::Output {
    if span.is_disabled() { future.await } else { future.instrument(span).await }
}
