//! What a store forgets by itself: the time to live and the maximum of a stream.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use trunkline_core::{AttributeValue, EventStore, ExpectedVersion, Position, ReadAll};

use super::events::{
    append, append_one, draft, ensure_stream, events, everything, stored_versions, whole_log,
};
use super::{StoreLimits, StoreProperty};
use crate::failure::{Check, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(beyond_the_maximum_the_oldest_events_of_a_stream_go).under(at_most(5)),
        property!(the_maximum_holds_for_a_batch_larger_than_it).under(at_most(3)),
        property!(events_older_than_the_ttl_go).under(living(Duration::from_millis(50))),
        property!(the_ttl_counts_from_the_append).under(living(Duration::from_secs(3600))),
    ]
}

fn at_most(max: usize) -> StoreLimits {
    StoreLimits { max_events_per_stream: Some(max), ..StoreLimits::default() }
}

fn living(ttl: Duration) -> StoreLimits {
    StoreLimits { ttl: Some(ttl), ..StoreLimits::default() }
}

async fn beyond_the_maximum_the_oldest_events_of_a_stream_go<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let other = append(&store, "other", 4).await?;
    let story = |_| draft().correlation("the story").build();
    let appended = (0..12).map(story).collect::<trunkline_core::Result<Vec<_>>>()?;
    for pair in appended.chunks(2) {
        store.append("s", ExpectedVersion::Any, pair).await?;
    }
    ensure_stream(&store, "s", 8, &appended[7..]).await?;
    ensure_stream(&store, "other", 1, &other).await?;
    ensure_eq!(whole_log(&store).await?.len(), 9, "the number of events in the global order");
    let read = ReadAll::after(Position::START).with_correlation("the story");
    ensure_eq!(everything(&store, read).await?.len(), 5, "the number of events of the story");
    store.append("s", ExpectedVersion::Exact(12), &events(1)?).await?;
    ensure_eq!(stored_versions(&store, "s").await?, [9, 10, 11, 12, 13], "the versions");
    Ok(())
}

async fn the_maximum_holds_for_a_batch_larger_than_it<S: EventStore>(store: Arc<S>) -> Check {
    let batch = events(10)?;
    let appended = store.append("s", ExpectedVersion::NoStream, &batch).await?;
    let versions: Vec<_> = appended.iter().map(|place| place.version).collect();
    ensure_eq!(versions, (1..=10).collect::<Vec<u64>>(), "the versions that append told");
    ensure_stream(&store, "s", 8, &batch[7..]).await
}

async fn events_older_than_the_ttl_go<S: EventStore>(store: Arc<S>) -> Check {
    let story = |_| draft().correlation("the story").build();
    let batch = (0..3).map(story).collect::<trunkline_core::Result<Vec<_>>>()?;
    store.append("s", ExpectedVersion::Any, &batch).await?;
    let head = store.head().await?;
    // Nothing tells when they go, so it is asked again until they are gone.
    while !stored_versions(&store, "s").await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = || ReadAll::after(Position::START);
    for read in [all(), all().with_correlation("the story")] {
        let found = everything(&store, read.clone()).await?;
        ensure!(found.is_empty(), "{read:?} finds {} events that are gone", found.len());
    }
    ensure!(store.head().await? >= head, "the head went back");
    // The stream goes on where it was.
    let place = append_one(&store, "s", draft().build()?).await?;
    ensure_eq!(place.version, 4, "the version after the events are gone");
    ensure!(place.position > head, "a new event has the position {}", place.position);
    Ok(())
}

async fn the_ttl_counts_from_the_append<S: EventStore>(store: Arc<S>) -> Check {
    let long_ago = AttributeValue::Timestamp(Timestamp::UNIX_EPOCH);
    let old = draft().attribute("time", long_ago).build()?;
    store.append("s", ExpectedVersion::Any, std::slice::from_ref(&old)).await?;
    append(&store, "t", 1).await?;
    ensure_stream(&store, "s", 1, &[old]).await?;
    ensure_eq!(whole_log(&store).await?.len(), 2, "the number of events");
    Ok(())
}
