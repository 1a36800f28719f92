//! The event that is being handled, as what its handler does can see it.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;

use trunkline_core::{DomainEvent, Error, ErrorKind, Event, EventId, Group, Result};

use crate::bus::{BusInner, EventBus};
use crate::runtime::ConsumerInfo;

tokio::task_local! {
    static CURRENT: Place;
}

/// Where a task stands: in a worker it is set anew for each event.
struct Place {
    consumer: Arc<ConsumerInfo>,
    handling: RefCell<Option<Handling>>,
}

#[derive(Clone)]
struct Handling {
    event: Event,
    attempt: u32,
}

/// The event that is being handled, and by whom.
///
/// What a handler publishes takes the event's correlation id, and its id as causation id, without
/// the handler doing anything. A task that the handler spawns has to be told: wrap it in
/// [`Context::scope`].
#[derive(Debug, Clone)]
pub struct Context {
    event: Event,
    consumer: Arc<ConsumerInfo>,
    attempt: u32,
}

impl Context {
    /// The context of the handler that is running, if one is.
    #[must_use]
    pub fn current() -> Option<Self> {
        let seen = CURRENT.try_with(|place| {
            let Handling { event, attempt } = place.handling.borrow().clone()?;
            Some(Self { event, consumer: Arc::clone(&place.consumer), attempt })
        });
        seen.ok().flatten()
    }

    /// Runs a worker of `consumer`, which says with [`Context::handling`] what it handles.
    pub(crate) async fn scope_worker<F: Future>(
        consumer: Arc<ConsumerInfo>,
        worker: F,
    ) -> F::Output {
        let place = Place { consumer, handling: RefCell::new(None) };
        CURRENT.scope(place, worker).await
    }

    /// Makes an attempt at an event the context of the worker's task.
    pub(crate) fn handling(event: &Event, attempt: u32) {
        let handling = Handling { event: event.clone(), attempt };
        CURRENT.with(|place| place.handling.replace(Some(handling)));
    }

    /// Ends what [`Context::handling`] began.
    pub(crate) fn handled() {
        CURRENT.with(|place| place.handling.replace(None));
    }

    /// The event that is being handled.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The group that handles it; none for a broadcast subscriber.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.consumer.group.as_ref()
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Runs `future` as part of handling this event: for tasks that a handler spawns.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self.into_place(), future).await
    }

    /// Runs `function` as part of handling this event, on this thread.
    pub fn run<R>(self, function: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.into_place(), function)
    }

    fn into_place(self) -> Place {
        let handling = Handling { event: self.event, attempt: self.attempt };
        Place { consumer: self.consumer, handling: RefCell::new(Some(handling)) }
    }

    /// Publishes an event that this one caused.
    ///
    /// # Errors
    /// As [`EventBus::publish`]; `Closed` when the bus is gone.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn publish<T: DomainEvent>(&self, payload: T) -> Result<EventId> {
        let bus = self.bus()?;
        self.clone().scope(bus.publish(payload)).await
    }

    /// Whether the handler is one of `bus`.
    pub(crate) fn is_of(&self, bus: &BusInner) -> bool {
        std::ptr::eq(self.consumer.bus.as_ptr(), bus)
    }

    /// The bus whose handler this is.
    ///
    /// # Errors
    /// `Closed` when the bus is gone.
    pub fn bus(&self) -> Result<EventBus> {
        let gone = || Error::new(ErrorKind::Closed, "publish", "the bus is gone");
        self.consumer.bus.upgrade().map(EventBus::of).ok_or_else(gone)
    }
}
