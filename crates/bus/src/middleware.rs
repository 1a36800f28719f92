//! Middleware of the publish pipeline.

use trunkline_core::{Event, Result};

/// Looks at every event before it is stored and routed: passes it on, changes its attributes by
/// [`Event::amend`], or refuses it.
///
/// Runs in the order of registration, on the publisher's own task; it must not block. Closures
/// implement it.
pub trait PublishMiddleware: Send + Sync + 'static {
    /// Passes the event on, or refuses it.
    ///
    /// # Errors
    /// What publish is to return for the event.
    fn on_publish(&self, event: Event) -> Result<Event>;
}

impl<F> PublishMiddleware for F
where
    F: Fn(Event) -> Result<Event> + Send + Sync + 'static,
{
    fn on_publish(&self, event: Event) -> Result<Event> {
        self(event)
    }
}
