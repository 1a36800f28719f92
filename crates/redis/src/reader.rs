//! From the server's answers to entries in the book.

use redis::{Cmd, Value};
use trunkline_core::Group;

use crate::book::Book;
use crate::codec::{self, EntryId, Fields, array_of, bytes_of, int_of, pairs_of, text_of};
use crate::consume::Partition;
use crate::entry::{Held, Place};
use crate::scripts::Lua;

/// Which pending entries to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    All,
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
    call.arg(&partition.fence).arg(group.as_str()).arg(consumer).arg(start).arg(CLAIM_PAGE);
    call.arg(if is_retry { "r" } else { "m" }).arg(idle_ms);
    call.arg(match whose {
        Whose::All => "all",
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
    Some(of_entry(entry, place, book.next_seq()))
}

/// An entry in the hands of a member for the first time.
pub(crate) fn of_entry(entry: codec::Entry, place: Place, seq: u64) -> Held {
    Held {
        event: entry.event,
        place,
        seq,
        attempts: entry.attempts,
        redeliveries: 0,
        defect: entry.defect,
        is_noted: false,
        is_suspect: false,
    }
}
