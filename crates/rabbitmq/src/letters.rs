//! Dead letters: a stream for each topic and group, and a log of which are kept and settled.
//!
//! A stream forgets nothing and tells nobody how long it is. A letter is written first and its name
//! into the log second; what the log does not name does not count.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lapin::message::Delivery;
use lapin::types::ShortString;
use smol_str::{SmolStr, format_smolstr};
use trunkline_core::{
    DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Event, EventId, Group, Result,
    StoredDeadLetter, Topic,
};

use crate::broker::Shared;
use crate::codec::{Message, decode, encode, text_of};
use crate::error::{addressee_gone, letter_gone};
use crate::job::Failed;
use crate::log::read_stream;
use crate::names::{COPY, LETTER, LETTER_ID, SUBSCRIBER, TOPIC};
use crate::publish::failure;
use crate::registry::{GroupLine, LetterLine, line};
use crate::settle::raw;
use crate::topology::{table, text};

const KEEP: &str = "dead-letter";
const SETTLE: &str = "settle dead letter";
/// Says that the bytes are no event.
const RAW: &str = "tl-raw";

/// A letter as it stands in its stream.
struct Kept {
    stored: StoredDeadLetter,
    subscriber: Option<ShortString>,
    is_raw: bool,
}

impl Shared {
    /// Writes a dead letter; when this returns, the event may be acknowledged.
    pub(crate) async fn keep_letter(
        self: &Arc<Self>,
        event: &Event,
        letter: &DeadLetter,
        group: Option<&Group>,
        subscriber: Option<ShortString>,
        is_raw: bool,
    ) -> Result<()> {
        let (topic, id) = (event.topic(), EventId::generate().to_string());
        self.ensure_letters(topic, group).await?;
        let mut message = encode(event, 0)?
            .header(LETTER, line(letter)?)
            .header(LETTER_ID, id.as_str())
            .header(TOPIC, topic.as_str());
        if let Some(subscriber) = subscriber {
            message = message.header(SUBSCRIBER, subscriber.as_str());
        }
        if is_raw {
            message = message.header(RAW, "1");
        }
        let stream = self.topology.names.letters(topic, group);
        self.send_to(stream, message, KEEP).await?;
        let kept = LetterLine::Kept { id: SmolStr::from(id), topic: topic.clone() };
        self.letters_of(group).append(line(&kept)?).await
    }

    async fn ensure_letters(&self, topic: &Topic, group: Option<&Group>) -> Result<()> {
        self.registry.follow().await?;
        let place = (topic.clone(), group.cloned());
        if self.registry.read(|known| known.letters.contains(&place)) {
            return Ok(());
        }
        let channel = self.control_channel(KEEP).await?;
        let arguments = table([("x-queue-type", text("stream"))]);
        let name = self.topology.names.letters(topic, group);
        let declared = self.topology.queue(&channel, name, arguments).await;
        self.leave(channel).await;
        declared?;
        let record = GroupLine::Letters { topic: place.0, group: place.1 };
        self.registry.append(line(&record)?).await
    }

    /// Publishes to a queue by its name.
    async fn send_to(
        &self,
        queue: ShortString,
        message: Message,
        operation: &'static str,
    ) -> Result<()> {
        let limit = self.config.publish_timeout;
        let sent = self.records.send(ShortString::default(), queue, message, limit).await;
        sent.map_err(|failed| failure(operation, failed, &self.config.address()))
    }

    /// The dead letters that a filter lets through, oldest first.
    pub(crate) async fn read_letters(
        self: &Arc<Self>,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<StoredDeadLetter>> {
        self.registry.follow().await?;
        let places: Vec<(Topic, Option<Group>)> = self.registry.read(|known| {
            let matching = known.letters.iter().filter(|(topic, group)| {
                filter.topic.as_ref().is_none_or(|wanted| wanted == topic)
                    && (filter.group.is_none() || filter.group == *group)
            });
            matching.cloned().collect()
        });
        let mut found = BTreeMap::new();
        for (topic, group) in places {
            for (place, kept) in self.read_place(&topic, group.as_ref()).await? {
                found.insert(
                    (kept.stored.letter.last_failure, topic.clone(), group.clone(), place),
                    kept.stored,
                );
            }
        }
        let limit = filter.limit.unwrap_or(usize::MAX);
        Ok(found.into_values().take(limit).collect())
    }

    /// The letters of one topic and group that are not settled, by their place in the log.
    async fn read_place(
        self: &Arc<Self>,
        topic: &Topic,
        group: Option<&Group>,
    ) -> Result<BTreeMap<usize, Kept>> {
        let log = self.letters_of(group);
        log.follow().await?;
        let mut wanted: HashMap<SmolStr, usize> = log.read(|letters| {
            let of_topic = letters.kept.iter().enumerate().filter(|(_, (_, of))| of == topic);
            of_topic.map(|(place, (id, _))| (id.clone(), place)).collect()
        });
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let name = self.topology.names.letters(topic, group);
        let read = |delivery: Delivery| {
            if let Some((id, kept)) = read_letter(delivery, topic, group)
                && let Some(place) = wanted.remove(&id)
            {
                found.insert(place, kept);
            }
            wanted.is_empty()
        };
        read_stream(self, &name, read).await?;
        Ok(found)
    }

    pub(crate) async fn settle_letter(
        self: &Arc<Self>,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        let _one_at_a_time = self.settling.lock().await;
        let (name, topic, group) = parse(id).ok_or_else(letter_gone)?;
        let log = self.letters_of(group.as_ref());
        // Another process may have settled it just now.
        log.sync().await?;
        if !log.read(|letters| letters.kept.iter().any(|(known, _)| *known == name)) {
            return Err(letter_gone());
        }
        if verdict == DeadLetterVerdict::Redrive {
            let place = self.read_place(&topic, group.as_ref()).await?;
            let kept = place.into_values().find(|kept| kept.stored.id == *id);
            self.redrive(kept.ok_or_else(letter_gone)?, group.as_ref()).await?;
        }
        log.append(line(&LetterLine::Settled { id: name })?).await
    }

    /// Publishes a letter's event to its group or subscriber alone, as a new copy without attempts.
    async fn redrive(&self, kept: Kept, group: Option<&Group>) -> Result<()> {
        let event = &kept.stored.event;
        let message =
            if kept.is_raw { raw(event)? } else { encode(event, self.publisher.next_slot())? };
        let message = message
            .header(TOPIC, event.topic().as_str())
            .header(COPY, EventId::generate().to_string());
        let (exchange, key) = match (group, kept.subscriber) {
            (_, Some(queue)) => (ShortString::default(), queue),
            (Some(group), None) => {
                if !self.registry.read(|known| known.groups.contains_key(group)) {
                    return Err(addressee_gone());
                }
                let entry = self.topology.names.group(group);
                (entry, crate::names::short(event.topic().as_str())?)
            }
            (None, None) => return Err(addressee_gone()),
        };
        let limit = self.config.publish_timeout;
        match self.publisher.send(exchange, key, message, limit).await {
            Ok(()) => Ok(()),
            Err(Failed::Unroutable) => Err(addressee_gone()),
            Err(failed) => Err(failure(SETTLE, failed, &self.config.address())),
        }
    }
}

fn read_letter(
    mut delivery: Delivery,
    topic: &Topic,
    group: Option<&Group>,
) -> Option<(SmolStr, Kept)> {
    let headers = delivery.properties.headers().clone()?;
    let id = SmolStr::new(text_of(&headers, LETTER_ID)?);
    let letter = serde_json::from_str(text_of(&headers, LETTER)?);
    let letter =
        letter.map_err(|error| tracing::warn!(%error, "a dead letter cannot be read")).ok()?;
    let subscriber = text_of(&headers, SUBSCRIBER).map(ShortString::from);
    let is_raw = text_of(&headers, RAW).is_some();
    let event = decode(&mut delivery).event;
    let name = format_smolstr!("{id}@{}@{topic}", group.map_or("", Group::as_str));
    let stored = StoredDeadLetter { id: DeadLetterId(name), group: group.cloned(), event, letter };
    Some((id, Kept { stored, subscriber, is_raw }))
}

/// The parts of a dead letter's name: its own, and those of its topic and group.
fn parse(id: &DeadLetterId) -> Option<(SmolStr, Topic, Option<Group>)> {
    let mut parts = id.0.split('@');
    let (name, group, topic) = (parts.next()?, parts.next()?, parts.next()?);
    let group = if group.is_empty() { None } else { Some(Group::new(group).ok()?) };
    Some((SmolStr::new(name), Topic::new(topic).ok()?, group))
}
