//! Making events.

use smol_str::SmolStr;

use crate::attributes::{AttributeValue, Attributes, Priority};
use crate::codec::Data;
use crate::domain_event::DomainEvent;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::EventId;
use crate::topic::Topic;
use crate::trace::TraceParent;

/// The source of an event that nobody gave one: the bus replaces it by its own.
pub const DEFAULT_SOURCE: &str = "/trunkline";

/// An event in the making; the first thing that is wrong comes out of [`EventBuilder::build`].
#[derive(Debug)]
pub struct EventBuilder<P> {
    attributes: Attributes,
    payload: P,
    broken: Option<Error>,
}

impl<T: DomainEvent> EventBuilder<T> {
    pub(crate) fn of(payload: T) -> Self {
        let source = SmolStr::new_static(T::SOURCE.unwrap_or(DEFAULT_SOURCE));
        let event_type = SmolStr::new_static(T::TYPE);
        let mut draft = Self::start(source, event_type, T::TOPIC, payload);
        draft.attributes.set_version(Some(T::VERSION));
        draft.attributes.set_priority(T::PRIORITY);
        draft.attributes.set_kind(Some(T::KIND));
        let key = draft.payload.key();
        draft.change(|attributes| attributes.set_key(key))
    }

    /// Makes the event.
    ///
    /// # Errors
    /// `Invalid` when an attribute is not valid; the message names it.
    pub fn build(self) -> Result<Event> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok(Event::of_typed(self.attributes, self.payload)),
        }
    }
}

impl EventBuilder<Data> {
    pub(crate) fn of_data(event_type: SmolStr, topic: Topic, data: Data) -> Self {
        let source = SmolStr::new_static(DEFAULT_SOURCE);
        let draft = Self::start(source, SmolStr::new_static("unset"), topic, data);
        draft.change(|attributes| attributes.set("type", AttributeValue::Text(event_type)))
    }

    /// Makes the event.
    ///
    /// # Errors
    /// `Invalid` when an attribute is not valid; the message names it.
    pub fn build(self) -> Result<Event> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok(Event::from_parts(self.attributes, self.payload)),
        }
    }
}

impl<P> EventBuilder<P> {
    fn start(source: SmolStr, event_type: SmolStr, topic: Topic, payload: P) -> Self {
        let id = EventId::generate();
        let trace = TraceParent::start(&id);
        let mut attributes = Attributes::unchecked(id, source, event_type, topic);
        attributes.set_time(Some(jiff::Timestamp::now()));
        attributes.set_trace(trace);
        Self { attributes, payload, broken: None }
    }

    fn change(mut self, change: impl FnOnce(&mut Attributes) -> Result<()>) -> Self {
        if let Err(error) = change(&mut self.attributes) {
            self.broken.get_or_insert(error);
        }
        self
    }

    /// Makes this an event caused by `cause`: correlation, causation and trace follow.
    #[must_use]
    pub fn caused_by(mut self, cause: &Attributes) -> Self {
        self.attributes.caused_by(cause);
        self
    }

    /// Sets the id, which starts no trace.
    #[must_use]
    pub fn id(self, id: impl Into<EventId>) -> Self {
        let text = SmolStr::from(id.into());
        self.change(|attributes| {
            attributes.set_trace(None);
            attributes.set("id", AttributeValue::Text(text))
        })
    }

    /// Sets the source.
    #[must_use]
    pub fn source(self, source: impl Into<SmolStr>) -> Self {
        let source = source.into();
        self.change(|attributes| attributes.set_source(source))
    }

    /// Sets the source where neither the type nor the caller has.
    #[must_use]
    pub fn source_if_unset(self, source: &SmolStr) -> Self {
        if self.attributes.source() == DEFAULT_SOURCE { self.source(source.clone()) } else { self }
    }

    /// Publishes on another topic than the type's own.
    #[must_use]
    pub fn topic(mut self, topic: Topic) -> Self {
        self.attributes.set_topic(topic);
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn key(self, key: impl Into<SmolStr>) -> Self {
        let key = key.into();
        self.change(|attributes| attributes.set_key(Some(key)))
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.attributes.set_priority(priority);
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlation(self, id: impl Into<EventId>) -> Self {
        let text = SmolStr::from(id.into());
        self.change(|attributes| attributes.set("correlationid", AttributeValue::Text(text)))
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<SmolStr>) -> Self {
        let tenant = tenant.into();
        self.change(|attributes| attributes.set_tenant(Some(tenant)))
    }

    /// Sets any attribute by its CloudEvents name.
    #[must_use]
    pub fn attribute(self, name: &str, value: impl Into<AttributeValue>) -> Self {
        let value = value.into();
        self.change(|attributes| match name {
            "datacontenttype" => {
                let message = "`datacontenttype` follows from the data: choose the codec of the \
                               payload's type, or the media type of the data";
                Err(Error::new(ErrorKind::Invalid, "event", message))
            }
            name => attributes.set(name, value),
        })
    }
}
