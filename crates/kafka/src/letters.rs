//! Dead letters: records of their event with why it was given up, in a topic for each topic and group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use smol_str::format_smolstr;
use trunkline_core::{
    DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Error, ErrorKind, Event, Group,
    Result, StoredDeadLetter, Topic,
};

use crate::broker::Shared;
use crate::client::{Clients, REQUEST};
use crate::codec::{self, Draft, Record};
use crate::error;
use crate::offsets::Edge;
use crate::seat::Role;
use crate::topics::{Place32, Purpose, blocking};

/// Why and when the event was given up, as JSON.
const LETTER: &str = "trunkline-letter";
/// The broadcast subscriber that gave it up.
const SUBSCRIBER: &str = "trunkline-subscriber";

/// The longest text of an error that fits beside the event's headers.
const MAX_TEXT: usize = 16 << 10;

/// Writes a dead letter; Ok when Kafka has accepted it.
pub(crate) async fn keep(
    shared: &Shared,
    role: &Role,
    event: &Event,
    draft: Draft,
    letter: &DeadLetter,
) -> Result<()> {
    let group = match role {
        Role::Member(group) => Some(group),
        _ => None,
    };
    let name = shared.topics.names.letters(event.topic(), group);
    shared.topics.ensure(&name, Purpose::Letters).await?;
    let mut draft = draft.with_text(codec::TOPIC, event.topic());
    draft = match role {
        Role::Member(group) => draft.with_text(codec::GROUP, group),
        Role::Broadcast(subscriber) => draft.with_text(SUBSCRIBER, subscriber),
        Role::Mover => draft,
    };
    let draft = draft.with(LETTER, Some(&encode(letter)?));
    shared.producer.write(&name, draft).await.map(drop)
}

fn encode(letter: &DeadLetter) -> Result<Vec<u8>> {
    let mut letter = letter.clone();
    if letter.error_text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| letter.error_text.is_char_boundary(*at));
        letter.error_text.truncate(end.unwrap_or(0));
    }
    serde_json::to_vec(&letter).map_err(|cause| {
        Error::new(ErrorKind::Encode, "dead-letter", "the dead letter does not encode")
            .because(cause)
    })
}

/// A dead letter as it was read.
struct Kept {
    stored: StoredDeadLetter,
    subscriber: Option<String>,
    record: Record,
    written: i64,
}

/// Reads dead letters that are not settled, oldest first.
pub(crate) async fn read(
    shared: &Shared,
    filter: &DeadLetterFilter,
) -> Result<Vec<StoredDeadLetter>> {
    shared.registry.refresh(&shared.topics).await?;
    let all = shared.topics.all().await?;
    let wanted = all.into_iter().filter(|(name, _)| {
        let names = &shared.topics.names;
        names.is_letters(name)
            && match (&filter.topic, &filter.group) {
                (Some(topic), Some(group)) => *name == names.letters(topic, Some(group)),
                _ => true,
            }
    });
    let places: Vec<Place32> = wanted
        .flat_map(|(name, partitions)| {
            let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
            (0..partitions).map(move |partition| (name.clone(), partition))
        })
        .collect();
    let lows = shared.topics.offsets(places.clone(), Edge::Low).await?;
    let highs = shared.topics.offsets(places, Edge::High).await?;
    let spans = spans(lows, &highs);
    let clients = shared.clients.clone();
    let mut kept = blocking("dead letters", move || fetch(&clients, &spans)).await?;
    kept.retain(|kept| {
        !shared.registry.is_settled(&kept.stored.id)
            && filter.group.as_ref().is_none_or(|group| kept.stored.group.as_ref() == Some(group))
            && filter.topic.as_ref().is_none_or(|topic| kept.stored.event.topic() == topic)
    });
    // Within one time, the order of the log.
    kept.sort_by_key(|kept| kept.written);
    kept.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(kept.into_iter().map(|kept| kept.stored).collect())
}

/// A piece of a partition: from an offset, to before another.
type Span = (Place32, i64, i64);

fn spans(lows: HashMap<Place32, i64>, highs: &HashMap<Place32, i64>) -> Vec<Span> {
    let span = |(place, low): (Place32, i64)| {
        let high = highs.get(&place).copied().unwrap_or(low);
        (low < high).then_some((place, low, high))
    };
    lows.into_iter().filter_map(span).collect()
}

/// Reads pieces of partitions; must run where it may block.
fn fetch(clients: &Clients, spans: &[Span]) -> Result<Vec<Kept>> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |cause| error::request("dead letters", cause);
    let probe = clients.probe_of("trunkline..letters")?;
    let mut list = TopicPartitionList::with_capacity(spans.len());
    for ((name, partition), low, _) in spans {
        list.add_partition_offset(name, *partition, Offset::Offset(*low)).map_err(failed)?;
    }
    probe.assign(&list).map_err(failed)?;
    drop(list);
    let mut left: HashMap<Place32, i64> =
        spans.iter().map(|(place, _, high)| (place.clone(), *high)).collect();
    let mut kept = Vec::new();
    let mut deadline = Instant::now() + REQUEST;
    while !left.is_empty() {
        let Some(Ok(message)) = probe.poll(Duration::from_millis(100)) else {
            if Instant::now() > deadline {
                let message = "the dead letters could not be read in time: try again";
                return Err(Error::new(ErrorKind::Disconnected, "dead letters", message));
            }
            continue;
        };
        deadline = Instant::now() + REQUEST;
        let place = (message.topic().to_owned(), message.partition());
        let Some(high) = left.get(&place).copied() else { continue };
        if message.offset() < high {
            kept.extend(parse(&message));
        }
        if message.offset() + 1 >= high {
            left.remove(&place);
        }
    }
    Ok(kept)
}

/// A record of a dead letter; what is none is passed over.
fn parse(message: &BorrowedMessage<'_>) -> Option<Kept> {
    let (mut letter, mut group, mut subscriber) = (None, None, None);
    for header in message.headers()?.iter() {
        let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
        match header.key {
            LETTER => letter = serde_json::from_slice(header.value.unwrap_or_default()).ok(),
            codec::GROUP => group = text.and_then(|text| Group::new(text).ok()),
            SUBSCRIBER => subscriber = text.map(str::to_owned),
            _ => {}
        }
    }
    let record = codec::read(message, &Topic::from_static("trunkline"));
    let (name, partition, offset) = (message.topic(), message.partition(), message.offset());
    let id = DeadLetterId(format_smolstr!("{name}/{partition}/{offset}"));
    let stored = StoredDeadLetter { id, group, event: record.event.clone(), letter: letter? };
    let written = message.timestamp().to_millis().unwrap_or(0);
    Some(Kept { stored, subscriber, record, written })
}

/// Sends a dead letter back to its group, or discards it.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    id: &DeadLetterId,
    verdict: DeadLetterVerdict,
) -> Result<()> {
    // One at a time, so that a letter is not redriven twice.
    let _settling = shared.settling.lock().await;
    shared.registry.refresh(&shared.topics).await?;
    let place = place_of(id).filter(|_| !shared.registry.is_settled(id));
    let Some((place, offset)) = place else { return Err(error::letter_gone()) };
    let lows = shared.topics.offsets(vec![place.clone()], Edge::Low).await?;
    let highs = shared.topics.offsets(vec![place.clone()], Edge::High).await?;
    let of = |edges: &HashMap<Place32, i64>| edges.get(&place).copied();
    if !of(&lows).zip(of(&highs)).is_some_and(|(low, high)| (low..high).contains(&offset)) {
        return Err(error::letter_gone());
    }
    let clients = shared.clients.clone();
    let span = vec![(place, offset, offset + 1)];
    let kept = blocking("settle dead letter", move || fetch(&clients, &span)).await?;
    let Some(kept) = kept.into_iter().next().filter(|kept| kept.stored.id == *id) else {
        return Err(error::letter_gone());
    };
    if verdict == DeadLetterVerdict::Redrive {
        redrive(shared, &kept).await?;
    }
    shared.registry.settle(&shared.topics, &shared.producer, id).await
}

fn place_of(id: &DeadLetterId) -> Option<(Place32, i64)> {
    let mut words = id.0.split('/');
    let (name, partition, offset) = (words.next()?, words.next()?, words.next()?);
    Some(((name.to_owned(), partition.parse().ok()?), offset.parse().ok()?))
}

async fn redrive(shared: &Arc<Shared>, kept: &Kept) -> Result<()> {
    let event = &kept.stored.event;
    let Some(group) = &kept.stored.group else {
        let seats = shared.seats();
        let role = kept.subscriber.clone().map(Role::Broadcast);
        let seat = seats.into_iter().find(|seat| Some(&seat.role) == role.as_ref());
        let taken = seat.is_some_and(|seat| seat.offer(event.clone()));
        return if taken { Ok(()) } else { Err(error::subscriber_gone()) };
    };
    let Some(state) = shared.registry.group(group) else {
        return Err(error::subscriber_gone());
    };
    let (extras, is_defective) = (kept.record.extras.as_deref(), kept.record.defect.is_some());
    let draft = Draft::again(event, extras, is_defective)?.anywhere();
    let topic = event.topic();
    if state.patterns().iter().any(|pattern| pattern.matches(topic)) {
        let place = shared.place(topic).await?;
        // There it would take the place of later events of its key.
        if !shared.topics.may_be_compacted(&place.name).await {
            // Its key's partition: whoever handles later events of the key handles this one too, and
            // not at the same time.
            let draft = draft.with_text(codec::GROUP, group);
            return shared.producer.write(&place.name, draft).await.map(drop);
        }
    }
    let draft = draft.with_text(codec::TOPIC, topic);
    let name = shared.topics.names.retry(group);
    shared.producer.write(&name, draft).await.map(drop)
}
