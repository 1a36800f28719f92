//! From the server's answers to entries in the book.

use redis::{Cmd, Value};
use trunkline_core::Group;

use crate::book::{Book, Held, Place};
use crate::codec::{self, EntryId, Fields, array_of, bytes_of, int_of, pairs_of, streams_of, text_of};
use crate::consume::Partition;
use crate::scripts::Lua;

/// What a read of a partition came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// These, in order; of the partition's own stream there may be more.
    Entries { entries: Vec<(Place, Fields)>, last: Option<EntryId>, own: usize },
    /// Nothing: everything up to this id has been read.
    Nothing(EntryId),
    /// The partition is another's.
    Fenced,
    /// The answer is no answer.
    Unreadable,
}

/// The command that reads up to `count` new entries.
pub(crate) fn read(partition: &Partition, group: &Group, consumer: &str, count: usize) -> Cmd {
    let companions = &partition.companions;
    let mut call = Lua::Read.call(3);
    call.arg(&companions.lease).arg(partition.stream.as_str()).arg(&companions.retry);
    call.arg(&partition.token).arg(group.as_str()).arg(consumer).arg(count);
    call
}

pub(crate) fn found(partition: &Partition, answer: Value) -> Found {
    if !matches!(answer, Value::Array(_) | Value::Map(_)) {
        return match bytes_of(answer) {
            Some(text) if text == b"fenced" => Found::Fenced,
            Some(text) => EntryId::parse(&text).map_or(Found::Unreadable, Found::Nothing),
            None => Found::Unreadable,
        };
    }
    let Some(streams) = streams_of(answer) else { return Found::Unreadable };
    let (mut entries, mut last, mut own) = (Vec::new(), None, 0);
    for (stream, found) in streams {
        let is_retry = stream != partition.stream;
        for (id, fields) in found {
            if !is_retry {
                last = Some(id);
                own += 1;
            }
            entries.push((Place { partition: partition.id, is_retry, id }, fields));
        }
    }
    Found::Entries { entries, last, own }
}

/// Which pending entries to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    All,
    Others,
    Mine,
}

/// Entries in one answer of a take-over.
pub(crate) const CLAIM_PAGE: usize = 128;

/// The command that takes over a page of pending entries after `start`.
pub(crate) fn claim(
    partition: &Partition,
    group: &Group,
    consumer: &str,
    is_retry: bool,
    start: &str,
    idle_ms: u64,
    whose: Whose,
) -> Cmd {
    let companions = &partition.companions;
    let stream = if is_retry { companions.retry.as_str() } else { partition.stream.as_str() };
    let mut call = Lua::Claim.call(3);
    call.arg(&companions.lease).arg(stream).arg(&companions.state);
    call.arg(&partition.token).arg(group.as_str()).arg(consumer).arg(start).arg(CLAIM_PAGE);
    call.arg(if is_retry { "r" } else { "m" }).arg(idle_ms);
    call.arg(match whose {
        Whose::All => "all",
        Whose::Others => "others",
        Whose::Mine => "mine",
    });
    call
}

/// A pending entry that was taken over.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) place: Place,
    /// How often it was handed to a member before; those that gave it back do not count.
    pub(crate) count: u32,
    pub(crate) attempts: Option<u32>,
    /// `None` when it is gone from its stream.
    pub(crate) fields: Option<Fields>,
}

/// A page of a take-over: where the next begins, and what it holds. `None` when it was fenced.
pub(crate) fn claimed(
    partition: &Partition,
    is_retry: bool,
    answer: Value,
) -> Option<(Option<String>, Vec<Claimed>)> {
    let mut parts = array_of(answer)?.into_iter();
    let last = text_of(parts.next()?)?;
    let entries = array_of(parts.next()?)?;
    let read = entries.into_iter().filter_map(|entry| {
        let mut parts = array_of(entry)?.into_iter();
        let id = EntryId::parse(&bytes_of(parts.next()?)?)?;
        let count = parts.next().as_ref().and_then(int_of).unwrap_or(0);
        let attempts = parts.next().as_ref().and_then(int_of);
        Some(Claimed {
            place: Place { partition: partition.id, is_retry, id },
            count: u32::try_from(count).unwrap_or(u32::MAX),
            attempts: attempts.and_then(|number| u32::try_from(number).ok()),
            fields: parts.next().and_then(pairs_of),
        })
    });
    let read = read.collect();
    Some(((!last.is_empty()).then(|| format!("({last}")), read))
}

/// Makes a held entry of fields; `None` when groups pass over it.
pub(crate) fn held(
    book: &mut Book,
    partition: &Partition,
    place: Place,
    fields: Fields,
) -> Option<Held> {
    let entry = codec::read(fields, &partition.topic);
    if entry.is_broadcast_only {
        return None;
    }
    Some(Held {
        event: entry.event,
        place,
        seq: book.next_seq(),
        attempts: entry.attempts,
        redeliveries: 0,
        defect: entry.defect,
        is_noted: false,
        is_suspect: false,
    })
}
