//! Spans that cost next to nothing where nobody listens.

use std::future::Future;

use tracing::{Instrument as _, Span};

/// Makes a span if there is a subscriber for its level, and else none at all.
///
/// `tracing`'s own macros come close, until some crate of the program turns on its feature `log`:
/// then each disabled span is offered to the logger, which costs more than a hop of an event.
macro_rules! step {
    ($level:ident, $($span:tt)+) => {
        if tracing::level_filters::LevelFilter::current() >= tracing::Level::$level {
            tracing::span!(tracing::Level::$level, $($span)+)
        } else {
            tracing::Span::none()
        }
    };
}

pub(crate) use step;

/// Runs `future` inside `span`.
pub(crate) async fn in_span<F: Future>(span: Span, future: F) -> F::Output {
    if span.is_disabled() { future.await } else { future.instrument(span).await }
}
