//! What users want of a broker, on top of what implementers write.

use async_trait::async_trait;

use super::{Broker, PublishOptions, SubscribeOptions, SubscriptionExt};
use crate::attributes::AttributeValue;
use crate::domain_event::DomainEvent;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::EventId;
use crate::topic::{Pattern, Topic};

/// The attribute that tells the receiver of a request where the reply is awaited.
const REPLY_TO: &str = "replyto";

/// Conveniences on every broker.
#[async_trait]
pub trait BrokerExt: Broker {
    /// Publishes one event.
    ///
    /// # Errors
    /// As [`Broker::publish`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    async fn publish_one(&self, event: &Event) -> Result<()> {
        let events = std::slice::from_ref(event);
        self.publish(events, &PublishOptions::default()).await.into_result()
    }

    /// Publishes a typed payload and returns the id of its event.
    ///
    /// # Errors
    /// As [`Broker::publish`], and `Invalid` for a key that is no valid attribute.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    async fn publish_typed<T: DomainEvent>(&self, payload: T) -> Result<EventId> {
        let event = Event::of(payload)?;
        self.publish_one(&event).await?;
        Ok(event.id().clone())
    }

    /// Publishes a request and waits for its reply, however long that takes: put a time limit around
    /// it.
    ///
    /// # Errors
    /// As [`Broker::publish`] and [`Broker::subscribe`]; `Closed` when the broker closes first.
    ///
    /// # Cancel safety
    /// A dropped call leaves the request published and nobody waiting for the reply.
    async fn request(&self, request: &Event) -> Result<Event> {
        let replies = Topic::new(format!("replies.{}", EventId::generate()))?;
        let options = SubscribeOptions::broadcast([Pattern::from(replies.clone())]);
        let mut subscription = self.subscribe(options).await?;
        let reply_to = AttributeValue::from(replies.as_str());
        let request = request.amend(|attributes| attributes.set(REPLY_TO, reply_to))?;
        self.publish_one(&request).await?;
        while let Some(delivery) = subscription.next().await? {
            let reply = delivery.event().clone();
            delivery.ack().await.map_err(|unsettled| unsettled.error)?;
            if reply.attributes().causation() == Some(request.id()) {
                return Ok(reply);
            }
        }
        let message = "the broker was closed before the reply came";
        Err(Error::new(ErrorKind::Closed, "request", message))
    }

    /// Answers a request with a typed payload.
    ///
    /// # Errors
    /// `Invalid` when `request` names no reply topic; else as [`Broker::publish`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    async fn reply<T: DomainEvent>(&self, request: &Event, payload: T) -> Result<()> {
        let Some(AttributeValue::Text(topic)) = request.attributes().get(REPLY_TO) else {
            let message = "the event asks for no reply: it has no `replyto` attribute";
            return Err(Error::new(ErrorKind::Invalid, "reply", message));
        };
        let reply = Event::builder(payload).topic(Topic::new(topic)?);
        self.publish_one(&reply.caused_by(request.attributes()).build()?).await
    }
}

impl<B: Broker + ?Sized> BrokerExt for B {}
