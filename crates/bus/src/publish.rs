//! The publish pipeline: middleware, then the store, then the broker, which routes.

use trunkline_core::{
    Attributes, BatchResult, DEFAULT_SOURCE, DomainEvent, Error, Event, EventId, ExpectedVersion,
    PublishOptions, Result,
};

use crate::admission::Turns;
use crate::bus::{BusInner, EventBus};
use crate::context::Context;
use crate::span::{in_span, step};

impl EventBus {
    /// Publishes a typed payload and returns the id of its event.
    ///
    /// Ok only when the broker has accepted responsibility; with a store, the event is stored first.
    /// Events of one topic and key that are published one after the other's Ok are handled in that
    /// order. An error of class ambiguous means that the outcome is unknown: build the event with
    /// [`Event::builder`] and publish that same event again.
    ///
    /// # Errors
    /// `Full`, `TooLarge`, `Unroutable`, `Encode`, `Invalid`, `TimedOut` (ambiguous), `Disconnected`,
    /// `Closed`, and what middleware refuses with. An error after the event was stored says so:
    /// [`Error::is_stored`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn publish<T: DomainEvent>(&self, payload: T) -> Result<EventId> {
        let mut draft = Event::builder(payload).source_if_unset(&self.inner.source);
        if let Some(context) = Context::current() {
            draft = draft.caused_by(context.event().attributes());
        }
        let event = draft.build().inspect_err(|_| self.inner.counters.rejected.increment())?;
        self.publish_event(&event).await?;
        Ok(event.id().clone())
    }

    /// Publishes an event that was built before; publishing it again repeats the same id.
    ///
    /// # Errors
    /// As [`EventBus::publish`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; publish the same event again.
    pub async fn publish_event(&self, event: &Event) -> Result<()> {
        let inner = &*self.inner;
        let attributes = event.attributes();
        let span = step!(
            INFO,
            "trunkline.publish",
            topic = %event.topic(),
            r#type = attributes.event_type(),
            id = %event.id(),
            trace = attributes.trace().map(tracing::field::display),
        );
        let outcome = in_span(span, inner.publish(event)).await;
        match &outcome {
            Ok(()) => inner.counters.published.increment(),
            Err(_) => inner.counters.rejected.increment(),
        }
        outcome
    }

    /// Publishes a batch, with a result for each event.
    ///
    /// Events of one topic and key are accepted in the order of the batch; when one fails, later ones
    /// of its topic and key are not accepted and fail with `Aborted`.
    ///
    /// # Errors
    /// Per event, as [`EventBus::publish`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome of each event unknown.
    pub async fn publish_many(&self, events: &[Event]) -> BatchResult {
        let span = step!(INFO, "trunkline.publish", events = events.len());
        let result = in_span(span, self.inner.publish_batch(events)).await;
        let failed = result.failures().len();
        self.inner.counters.published.add((events.len() - failed) as u64);
        self.inner.counters.rejected.add(failed as u64);
        result
    }

    /// Publishes from a plain function: blocks this thread until the event is accepted.
    ///
    /// # Panics
    /// When called on a thread that runs async tasks: use [`EventBus::publish`] there.
    ///
    /// # Errors
    /// As [`EventBus::publish`].
    pub fn publish_blocking<T: DomainEvent>(&self, payload: T) -> Result<EventId> {
        tokio::runtime::Handle::current().block_on(self.publish(payload))
    }
}

impl BusInner {
    async fn publish(&self, event: &Event) -> Result<()> {
        let context = Context::current();
        let changed;
        let event = if self.middleware.is_empty() && self.is_complete(event, context.as_ref()) {
            self.check_size(event)?;
            event
        } else {
            changed = self.prepare(event, context.as_ref())?;
            &changed
        };
        let _turn = match self.admission.is_open() {
            true => Turns::new(),
            false => self.admission.enter(std::slice::from_ref(event)).await?,
        };
        self.store(event).await?;
        let options = self.options(context.as_ref());
        let options = options.as_ref().unwrap_or(&self.options);
        let span = step!(DEBUG, "trunkline.send", events = 1);
        // A broker may do all of its work before there is a future to wait for.
        let sending = span.in_scope(|| self.broker.publish(std::slice::from_ref(event), options));
        let result = in_span(span, sending).await;
        result.into_result().map_err(|error| self.mark_stored(error))
    }

    async fn publish_batch(&self, events: &[Event]) -> BatchResult {
        let context = Context::current();
        let _turns = match self.admission.enter(events).await {
            Ok(turns) => turns,
            Err(full) => return BatchResult::failed(events.len(), &full),
        };
        let mut result = BatchResult::accepted();
        let mut ready = Vec::with_capacity(events.len());
        let mut places = Vec::with_capacity(events.len());
        for (place, event) in events.iter().enumerate() {
            if result.aborts(event, events) {
                result.fail(place, Error::aborted());
                continue;
            }
            let prepared = match self.prepare(event, context.as_ref()) {
                Ok(prepared) => self.store(&prepared).await.map(|()| prepared),
                Err(error) => Err(error),
            };
            match prepared {
                Ok(prepared) => {
                    ready.push(prepared);
                    places.push(place);
                }
                Err(error) => result.fail(place, error),
            }
        }
        let options = self.options(context.as_ref());
        let options = options.as_ref().unwrap_or(&self.options);
        let span = step!(DEBUG, "trunkline.send", events = ready.len());
        let sending = span.in_scope(|| self.broker.publish(&ready, options));
        let sent = in_span(span, sending).await;
        for (index, error) in sent.into_failures() {
            result.fail(places[index], self.mark_stored(error));
        }
        result
    }

    /// What a handler publishes is caused by what it handles, and never waits for its own group.
    fn options(&self, context: Option<&Context>) -> Option<PublishOptions> {
        // A group of the same name in another bus drains another buffer.
        let group = context.filter(|context| context.is_of(self))?.group()?;
        Some(self.options.clone().with_from_group(group.clone()))
    }

    fn prepare(&self, event: &Event, context: Option<&Context>) -> Result<Event> {
        let mut event = match self.is_complete(event, context) {
            true => event.clone(),
            false => event.amend(|attributes| self.complete(attributes, context))?,
        };
        for middleware in &self.middleware {
            event = middleware.on_publish(event)?;
        }
        self.check_size(&event)?;
        Ok(event)
    }

    /// Whether the event has its source and its cause.
    fn is_complete(&self, event: &Event, context: Option<&Context>) -> bool {
        let attributes = event.attributes();
        let has_source = self.source == DEFAULT_SOURCE || attributes.source() != DEFAULT_SOURCE;
        let cause = context.map(|context| context.event().attributes());
        has_source && cause.is_none_or(|cause| attributes.is_caused_by(cause))
    }

    fn complete(&self, attributes: &mut Attributes, context: Option<&Context>) -> Result<()> {
        if attributes.source() == DEFAULT_SOURCE {
            attributes.set_source(self.source.clone())?;
        }
        if let Some(context) = context {
            attributes.caused_by(context.event().attributes());
        }
        Ok(())
    }

    fn check_size(&self, event: &Event) -> Result<()> {
        // A store needs the bytes, so they are made before anything is accepted.
        let bytes = match self.store {
            Some(_) => event.data()?.as_slice().len(),
            None => event.encoded_len().unwrap_or(0),
        };
        if bytes <= self.max_event_bytes {
            return Ok(());
        }
        Err(Error::too_large(bytes, self.max_event_bytes))
    }

    async fn store(&self, event: &Event) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let stream = event.stream();
        let span = step!(DEBUG, "trunkline.store", stream = stream.as_str());
        let appending = store.append(&stream, ExpectedVersion::Any, std::slice::from_ref(event));
        in_span(span, appending).await?;
        self.counters.stored.increment();
        Ok(())
    }

    fn mark_stored(&self, error: Error) -> Error {
        if self.store.is_some() { error.with("stored", "true") } else { error }
    }
}
