//! Events for the properties, and what is often asked of a store.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Barrier;
use trunkline_core::{
    Appended, Data, Event, EventBuilder, EventId, EventStore, ExpectedVersion, Page, Position,
    ReadAll, ReadStream, Recorded, Result, StreamVersion, Topic,
};

use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) const TOPIC: Topic = Topic::from_static("orders.placed");

/// The start of an event whose id no other has.
pub(super) fn draft() -> EventBuilder<Data> {
    Event::from_data("OrderPlaced", TOPIC, Data::json(r#"{"order": 7}"#)).key("customer-1")
}

pub(super) fn events(count: usize) -> Result<Vec<Event>> {
    (0..count).map(|_| draft().build()).collect()
}

pub(super) fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id().clone()).collect()
}

pub(super) fn ids_of(recorded: &[Recorded]) -> Vec<EventId> {
    recorded.iter().map(|recorded| recorded.event.id().clone()).collect()
}

pub(super) fn versions_of(recorded: &[Recorded]) -> Vec<StreamVersion> {
    recorded.iter().map(|recorded| recorded.version).collect()
}

/// Appends `count` new events whatever the version.
pub(super) async fn append<S: EventStore>(
    store: &S,
    stream: &str,
    count: usize,
) -> Result<Vec<Event>> {
    let events = events(count)?;
    store.append(stream, ExpectedVersion::Any, &events).await?;
    Ok(events)
}

pub(super) async fn append_one<S: EventStore>(
    store: &S,
    stream: &str,
    event: Event,
) -> Result<Appended, Failure> {
    let appended = store.append(stream, ExpectedVersion::Any, &[event]).await?;
    appended.first().copied().ok_or_else(|| Failure::new("append returned no place for its event"))
}

pub(super) async fn whole_stream<S: EventStore>(store: &S, stream: &str) -> Result<Vec<Recorded>> {
    store.read_stream(stream, &ReadStream::default()).await
}

pub(super) async fn stored_versions<S: EventStore>(
    store: &S,
    stream: &str,
) -> Result<Vec<StreamVersion>> {
    Ok(versions_of(&whole_stream(store, stream).await?))
}

/// Everything that `read` takes, page after page, until the store says that there is no more.
pub(super) async fn everything<S: EventStore>(
    store: &S,
    mut read: ReadAll,
) -> Result<Vec<Recorded>, Failure> {
    let mut found = Vec::new();
    loop {
        let page = store.read_all(&read).await?;
        check_page(&read, &page)?;
        read.after = page.next;
        found.extend(page.events);
        if page.caught_up {
            return Ok(found);
        }
    }
}

pub(super) async fn whole_log<S: EventStore>(store: &S) -> Result<Vec<Recorded>, Failure> {
    everything(store, ReadAll::after(Position::START)).await
}

/// What holds for every page: it goes on, in order, within its limit.
pub(super) fn check_page(read: &ReadAll, page: &Page) -> Check {
    let found = page.events.len();
    ensure!(found <= read.limit, "a page of at most {} has {found} events", read.limit);
    let positions: Vec<_> = page.events.iter().map(|recorded| recorded.position).collect();
    ensure!(positions.is_sorted_by(|a, b| a < b), "a page is out of order: {positions:?}");
    let first_is_new = positions.first().is_none_or(|first| *first > read.after);
    ensure!(first_is_new, "a page after {} begins with {positions:?}", read.after);
    let covered = positions.last().is_none_or(|last| page.next >= *last);
    ensure!(covered && page.next >= read.after, "a page leads back to {}", page.next);
    let moves = page.caught_up || page.next > read.after;
    ensure!(moves, "a page that is not caught up stays at {}", page.next);
    Ok(())
}

/// The stream holds exactly `events`, with contiguous versions from `first`.
pub(super) async fn ensure_stream<S: EventStore>(
    store: &S,
    stream: &str,
    first: StreamVersion,
    events: &[Event],
) -> Check {
    let recorded = whole_stream(store, stream).await?;
    ensure_eq!(ids_of(&recorded), ids(events), "the events of stream `{stream}`");
    let versions: Vec<_> = (first..).take(events.len()).collect();
    ensure_eq!(versions_of(&recorded), versions, "the versions of stream `{stream}`");
    Ok(())
}

/// Runs `count` tasks that start together, and returns what each returned.
pub(super) async fn race<T, Fut>(
    count: usize,
    task: impl Fn(usize) -> Fut,
) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let tasks = (0..count).map(|index| {
        let (start, work) = (Arc::clone(&start), task(index));
        tokio::spawn(async move {
            start.wait().await;
            work.await
        })
    });
    let ended = join_all(tasks.collect::<Vec<_>>()).await.into_iter();
    ended.map(|end| end.map_err(|cause| Failure::new(format!("a task stopped: {cause}")))).collect()
}
