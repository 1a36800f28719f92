//! The global order: nothing is skipped, nothing comes twice, nothing appears behind the head.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use smol_str::{SmolStr, format_smolstr};
use tokio::task::JoinHandle;
use trunkline_core::{EventStore, ExpectedVersion, Position, ReadAll, Recorded, Result};

use super::StoreProperty;
use super::events::{append, check_page, events, ids, ids_of, whole_log, whole_stream};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(positions_increase_in_the_order_of_appending),
        property!(a_position_leads_on_from_its_event),
        property!(a_tailing_reader_misses_nothing_under_concurrent_writers),
        property!(the_head_is_never_below_what_a_reader_has_seen),
        property!(nothing_appears_at_or_before_a_head),
    ]
}

/// Writers that run while others read: together [`WRITERS`] × [`EVENTS_EACH`] events.
const WRITERS: usize = 8;
const EVENTS_EACH: usize = 256;

async fn positions_increase_in_the_order_of_appending<S: EventStore>(store: Arc<S>) -> Check {
    let mut appended = Vec::new();
    let mut told = Vec::new();
    for index in 0..60 {
        let batch = events(1 + index % 3)?;
        let stream = format!("s{}", index % 7);
        let places = store.append(&stream, ExpectedVersion::Any, &batch).await?;
        told.extend(places.iter().map(|place| place.position));
        appended.extend(ids(&batch));
    }
    ensure!(told.is_sorted_by(|a, b| a < b), "append told positions that do not increase");
    let log = whole_log(&store).await?;
    ensure_eq!(ids_of(&log), appended, "the global order");
    let read: Vec<_> = log.iter().map(|recorded| recorded.position).collect();
    ensure_eq!(read, told, "the positions in the global order");
    Ok(())
}

async fn a_position_leads_on_from_its_event<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 10).await?;
    let log = whole_log(&store).await?;
    for (index, recorded) in log.iter().enumerate() {
        let page = store.read_all(&ReadAll::after(recorded.position)).await?;
        ensure_eq!(ids_of(&page.events), ids_of(&log[index + 1..]), "what follows event {index}");
    }
    let in_stream = whole_stream(&store, "s").await?;
    let pairs = in_stream.iter().zip(&log);
    let same = pairs.clone().all(|(one, other)| one.position == other.position);
    ensure!(same, "an event has another position in its stream");
    Ok(())
}

async fn a_tailing_reader_misses_nothing_under_concurrent_writers<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let mut writers = start_writers(&store);
    let mut read = ReadAll::after(Position::START).with_limit(16);
    let mut seen: Vec<Recorded> = Vec::new();
    loop {
        // Asked before the read: what is written later is for the next round.
        let finished = writers.iter().all(JoinHandle::is_finished);
        let page = store.read_all(&read).await?;
        check_page(&read, &page)?;
        read.after = page.next;
        let caught_up = page.caught_up;
        seen.extend(page.events);
        if finished && caught_up {
            break;
        }
        tokio::task::yield_now().await;
    }
    finish(&mut writers).await?;
    ensure_eq!(seen.len(), WRITERS * EVENTS_EACH, "the number of events that the reader saw");
    ensure_feed(&seen)
}

/// Every event once, and every stream in the order of its versions.
fn ensure_feed(seen: &[Recorded]) -> Check {
    let distinct: BTreeSet<_> = seen.iter().map(|recorded| recorded.event.id()).collect();
    ensure_eq!(distinct.len(), seen.len(), "the number of different events");
    let mut versions: BTreeMap<&SmolStr, u64> = BTreeMap::new();
    for recorded in seen {
        let last = versions.entry(&recorded.stream).or_default();
        ensure_eq!(recorded.version, *last + 1, "the next version of {}", recorded.stream);
        *last = recorded.version;
    }
    Ok(())
}

async fn the_head_is_never_below_what_a_reader_has_seen<S: EventStore>(store: Arc<S>) -> Check {
    let mut writers = start_writers(&store);
    let mut read = ReadAll::after(Position::START);
    let mut last_head = Position::START;
    loop {
        let finished = writers.iter().all(JoinHandle::is_finished);
        let page = store.read_all(&read).await?;
        let head = store.head().await?;
        let seen = page.events.last().map_or(read.after, |recorded| recorded.position);
        ensure!(head >= seen, "the head is {head} after an event at {seen} was read");
        ensure!(head >= last_head, "the head went back from {last_head} to {head}");
        last_head = head;
        read.after = page.next;
        if finished && page.caught_up {
            break;
        }
        // A store that never waits would leave the writers no worker.
        tokio::task::yield_now().await;
    }
    finish(&mut writers).await
}

async fn nothing_appears_at_or_before_a_head<S: EventStore>(store: Arc<S>) -> Check {
    // The first floor is taken before anybody writes, so that there is one however fast they are.
    append(&store, "quiet", 1).await?;
    let mut floors = vec![floor(&store).await?];
    let mut writers = start_writers(&store);
    while !writers.iter().all(JoinHandle::is_finished) {
        floors.push(floor(&store).await?);
        tokio::task::yield_now().await;
    }
    finish(&mut writers).await?;
    let log = whole_log(&store).await?;
    ensure_eq!(log.len(), WRITTEN + 1, "the number of events in the global order");
    floors.push((store.head().await?, log.len()));
    for (head, visible) in floors {
        let now = log.iter().filter(|recorded| recorded.position <= head).count();
        ensure_eq!(visible, now, "the events that were visible at the head {head}");
    }
    Ok(())
}

/// A head, and how many events are visible at or before it.
async fn floor<S: EventStore>(store: &S) -> Result<(Position, usize), Failure> {
    let head = store.head().await?;
    let visible = whole_log(store).await?;
    Ok((head, visible.iter().filter(|recorded| recorded.position <= head).count()))
}

/// Starts writers on four streams, so that they meet; their batches have 1 to 8 events.
pub(super) fn start_writers<S: EventStore>(store: &Arc<S>) -> Vec<JoinHandle<Result<()>>> {
    let writer = |index: usize| {
        let store = Arc::clone(store);
        let stream = format_smolstr!("hot-{}", index % 4);
        tokio::spawn(async move {
            let mut left = EVENTS_EACH;
            while left > 0 {
                let size = (1 + (left + index) % 8).min(left);
                store.append(&stream, ExpectedVersion::Any, &events(size)?).await?;
                left -= size;
            }
            Ok(())
        })
    };
    (0..WRITERS).map(writer).collect()
}

/// How many events the writers of [`start_writers`] append.
pub(super) const WRITTEN: usize = WRITERS * EVENTS_EACH;

pub(super) async fn finish(writers: &mut [JoinHandle<Result<()>>]) -> Check {
    for ended in join_all(writers).await {
        ended.map_err(|cause| Failure::new(format!("a writer stopped: {cause}")))??;
    }
    Ok(())
}
