//! What becomes of deliveries.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use trunkline_core::{DeadLetter, Error, Event, Result, Revocation, Settle, Settling, Verdict};

use crate::codec::{Message, encode};
use crate::config::SLOTS;
use crate::consume::{Role, STALE_LOOK, Seat};
use crate::error::fenced;
use crate::inbox::{Entry, Out};
use crate::lock;
use crate::mutant::Mutant;
use crate::names::{ATTEMPTS, COPY, TOPIC, digest};
use crate::publish::{delayed, failure};
use crate::registry::{AttemptLine, event_key, line};
use crate::tap::Tap;

/// What settling needs to know of a delivery that is out.
struct Held {
    tap: Arc<Tap>,
    tag: u64,
    copy: SmolStr,
    defect: Option<Error>,
}

impl Settle for Seat {
    fn settle(&self, token: u64, event: &Event, verdict: Verdict) -> Settling {
        let held = lock(&self.inbox).out(token).map(|out| Held {
            tap: Arc::clone(&out.tap),
            tag: out.tag,
            copy: out.copy.clone(),
            defect: out.defect.as_ref().map(Error::duplicate),
        });
        let Some(held) = held.filter(|held| !held.tap.is_dead()) else {
            return Settling::Ready(Err(fenced()));
        };
        let Some(seat) = self.me.upgrade() else { return Settling::Ready(Err(fenced())) };
        let is_fresh = self.shared.consume_link.is_fresh();
        match verdict {
            Verdict::Ack if is_fresh => Settling::Ready(self.ack(token, &held)),
            Verdict::Ack => Settling::Waiting(Box::pin(async move {
                seat.refresh().await;
                seat.ack(token, &held)
            })),
            Verdict::Retry { after, attempts } if after.is_zero() => {
                let event = event.clone();
                Settling::Waiting(Box::pin(async move {
                    seat.retry_now(token, event, attempts, held).await
                }))
            }
            Verdict::Retry { after, attempts } => {
                let event = event.clone();
                Settling::Waiting(Box::pin(async move {
                    seat.retry_later(token, &event, after, attempts, held).await
                }))
            }
            Verdict::Reject(letter) => {
                let event = event.clone();
                Settling::Waiting(Box::pin(async move {
                    seat.reject(token, &event, &letter, held).await
                }))
            }
        }
    }

    fn is_revoked(&self, token: u64) -> bool {
        lock(&self.inbox).out(token).is_none_or(|out| out.tap.is_dead())
    }

    fn revoked(&self, token: u64) -> Option<Revocation> {
        let tap = lock(&self.inbox).out(token).map(|out| Arc::clone(&out.tap));
        Some(match tap {
            Some(tap) => Box::pin(async move { tap.died().await }),
            None => Box::pin(std::future::ready(())),
        })
    }

    fn release(&self, token: u64, event: Event, attempts: u32, redeliveries: u32) {
        let redeliveries = redeliveries.saturating_add(1);
        self.give_back(token, event, attempts, redeliveries);
    }
}

impl Seat {
    /// Waits until it is known whether the server still knows this process, which stood still.
    async fn refresh(&self) {
        while !self.shared.consume_link.is_fresh() {
            tokio::time::sleep(STALE_LOOK).await;
        }
    }

    fn ack(&self, token: u64, held: &Held) -> Result<()> {
        let is_early = Mutant::AckEarly.is_on(&self.shared.config);
        if !is_early && !held.tap.ack(held.tag) {
            return Err(fenced());
        }
        self.with_inbox(|inbox| inbox.finish(token, |_| None));
        Ok(())
    }

    /// Acknowledges what has a copy elsewhere: when this returns, a death of the process does not bring
    /// back the original.
    async fn ack_now(&self, token: u64, held: &Held) -> Result<()> {
        let is_early = Mutant::AckEarly.is_on(&self.shared.config);
        if !is_early && !held.tap.ack_now(held.tag).await {
            return Err(fenced());
        }
        self.with_inbox(|inbox| inbox.finish(token, |_| None));
        Ok(())
    }

    fn give_back(&self, token: u64, event: Event, attempts: u32, redeliveries: u32) {
        let entry = |out: &Out| {
            Some(Entry {
                event,
                defect: out.defect.as_ref().map(Error::duplicate),
                attempts,
                redeliveries,
                copy: out.copy.clone(),
                tap: Arc::clone(&out.tap),
                tag: out.tag,
            })
        };
        self.with_inbox(|inbox| inbox.finish(token, entry));
    }

    /// Writes the attempts where the next member finds them, and puts the event back.
    async fn retry_now(&self, token: u64, event: Event, attempts: u32, held: Held) -> Result<()> {
        let key = event_key(&event, &held.copy);
        match self.attempts_log() {
            Some(log) => {
                let record = AttemptLine { event: key, attempts };
                log.append(line(&record)?).await?;
            }
            None => lock(&self.attempts).note(key, attempts),
        }
        if held.tap.is_dead() {
            return Err(fenced());
        }
        self.give_back(token, event, attempts, 1);
        Ok(())
    }

    /// Publishes a copy to the ladder, for this group or subscriber alone, and then acknowledges.
    async fn retry_later(
        &self,
        token: u64,
        event: &Event,
        after: Duration,
        attempts: u32,
        held: Held,
    ) -> Result<()> {
        let capabilities = self.shared.capabilities();
        capabilities.require(capabilities.delay, "delay", "the delayed retry")?;
        let message = self.copy(event, &held)?.header(ATTEMPTS, attempts.to_string());
        self.delay(&held.tap, after, message).await?;
        self.ack_now(token, &held).await
    }

    /// Sends a copy through the ladder to this group or subscriber alone, or back to the queue where
    /// others decide what goes there.
    pub(crate) async fn delay(&self, tap: &Tap, after: Duration, message: Message) -> Result<()> {
        let shared = &self.shared;
        let digest = digest(tap.queue.as_str());
        let (kind, address) = match &self.role {
            Role::Member(group, _) if shared.topology.owns(group) => ('g', group.as_str()),
            Role::Member(..) => ('e', digest.as_str()),
            Role::Listener(id) => ('q', id.as_str()),
        };
        let rung = crate::delay::walk(after, kind, address)?.rung;
        shared.ensure_ladder(rung).await?;
        let (exchange, key, message) = delayed(shared, after, kind, address, message)?;
        let limit = shared.config.publish_timeout;
        let sent = shared.publisher.send(exchange, key, message, limit).await;
        sent.map_err(|failed| failure("retry", failed, &shared.config.address()))
    }

    fn copy(&self, event: &Event, held: &Held) -> Result<Message> {
        let message = match held.defect {
            // What could not be read goes on as it came.
            Some(_) => raw(event)?,
            None => encode(event, self.shared.publisher.next_slot())?,
        };
        let message = message.header(TOPIC, event.topic().as_str());
        Ok(if held.copy.is_empty() { message } else { message.header(COPY, held.copy.as_str()) })
    }

    async fn reject(
        &self,
        token: u64,
        event: &Event,
        letter: &DeadLetter,
        held: Held,
    ) -> Result<()> {
        let capabilities = self.shared.capabilities();
        capabilities.require(capabilities.dead_letters, "dead_letters", "the rejection")?;
        let is_group = self.group().is_some_and(|group| self.shared.topology.owns(group));
        // What is redriven goes back to the group, or to the queue.
        let subscriber = (!is_group).then(|| held.tap.queue.clone());
        let is_raw = held.defect.is_some();
        self.shared.keep_letter(event, letter, self.group(), subscriber, is_raw).await?;
        self.ack_now(token, &held).await
    }
}

/// The bytes of what is no event, as they came.
pub(crate) fn raw(event: &Event) -> Result<Message> {
    let data = event.data()?;
    let mut message = Message::record(data.bytes.unwrap_or_default());
    let kind =
        data.content_type.and_then(|kind| lapin::types::ShortString::try_new(kind.as_str()).ok());
    if let Some(kind) = kind {
        message.properties = message.properties.with_content_type(kind);
    }
    Ok(message)
}

impl crate::publish::Publisher {
    /// A slot for what has no key.
    pub(crate) fn next_slot(&self) -> u32 {
        self.next_round() % SLOTS
    }
}
