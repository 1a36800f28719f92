//! What only the memory store promises; the rest is in the conformance suite.

use std::time::Duration;

use trunkline_core::{
    Data, ErrorKind, Event, EventBuilder, EventStore, ExpectedVersion, ReadAll, ReadStream, Topic,
};

use super::{MemoryStore, MemoryStoreConfig};

const HOUR: Duration = Duration::from_secs(3600);

fn draft(id: &str) -> EventBuilder<Data> {
    Event::from_data("T", Topic::from_static("t"), Data::json("{}")).id(id).correlation("story")
}

fn event(id: &str) -> Event {
    draft(id).build().unwrap()
}

async fn append(store: &MemoryStore, stream: &str, ids: &[&str]) {
    let events: Vec<_> = ids.iter().map(|id| event(id)).collect();
    store.append(stream, ExpectedVersion::Any, &events).await.unwrap();
}

async fn versions(store: &MemoryStore, stream: &str) -> Vec<u64> {
    let recorded = store.read_stream(stream, &ReadStream::default()).await.unwrap();
    recorded.iter().map(|recorded| recorded.version).collect()
}

#[tokio::test]
async fn keeps_the_event_itself() {
    let store = MemoryStore::new(MemoryStoreConfig::default());
    let kept = event("1");
    store.append("s", ExpectedVersion::Any, std::slice::from_ref(&kept)).await.unwrap();
    let read = store.read_stream("s", &ReadStream::default()).await.unwrap();
    assert!(read[0].event.ptr_eq(&kept));
}

#[tokio::test(start_paused = true)]
async fn the_ttl_counts_from_the_append_and_the_head_and_versions_stay() {
    let store = MemoryStore::new(MemoryStoreConfig::default().with_ttl(HOUR));
    append(&store, "s", &["1"]).await;
    tokio::time::advance(HOUR / 2).await;
    append(&store, "s", &["2"]).await;
    tokio::time::advance(HOUR / 2 - Duration::from_millis(1)).await;
    assert_eq!(versions(&store, "s").await, [1, 2]);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(versions(&store, "s").await, [2]);
    tokio::time::advance(HOUR).await;
    assert!(versions(&store, "s").await.is_empty());
    assert_eq!(store.head().await.unwrap().to_raw(), 2);
    append(&store, "s", &["3"]).await;
    assert_eq!(versions(&store, "s").await, [3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_in_no_index_and_may_come_again() {
    let config = MemoryStoreConfig::default().with_ttl(HOUR).with_max_events_per_stream(3);
    let store = MemoryStore::new(config);
    append(&store, "pushed out", &["1", "2", "3", "4"]).await;
    append(&store, "truncated", &["5", "6"]).await;
    append(&store, "deleted", &["7", "8"]).await;
    append(&store, "expired", &["9", "10"]).await;
    assert_eq!(store.truncate_stream("truncated", 3).await.unwrap(), 2);
    assert_eq!(store.delete_stream("deleted").await.unwrap(), 2);
    let weight = store.with_state(|state| state.weight());
    // Five events in the log, in their streams and by their identity, and one correlation.
    assert_eq!(weight, 16);
    append(&store, "again", &["1", "5", "7"]).await;
    assert_eq!(versions(&store, "again").await, [1, 2, 3]);
    tokio::time::advance(HOUR).await;
    assert_eq!(store.with_state(|state| state.weight()), 0);
    append(&store, "again", &["9"]).await;
    assert_eq!(versions(&store, "again").await, [4]);
}

#[tokio::test]
async fn a_maximum_of_nothing_keeps_the_newest() {
    let store = MemoryStore::new(MemoryStoreConfig::default().with_max_events_per_stream(0));
    append(&store, "s", &["1", "2"]).await;
    assert_eq!(versions(&store, "s").await, [2]);
}

#[tokio::test]
async fn a_conflict_says_what_to_do() {
    let store = MemoryStore::new(MemoryStoreConfig::default());
    append(&store, "s", &["1"]).await;
    let error = store.append("s", ExpectedVersion::NoStream, &[event("2")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "append: the stream has another version: read it again and decide anew \
         (stream=s, expected=0, actual=1)"
    );
}

#[tokio::test]
async fn a_correlation_is_looked_up_after_a_position() {
    let store = MemoryStore::new(MemoryStoreConfig::default());
    append(&store, "s", &["1", "2", "3"]).await;
    let other = draft("4").correlation("another").build().unwrap();
    store.append("s", ExpectedVersion::Any, &[other]).await.unwrap();
    let mut read = ReadAll::after(trunkline_core::Position::from_raw(1)).with_correlation("story");
    let page = store.read_all(&read).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert!(page.caught_up);
    assert_eq!(page.next.to_raw(), 4);
    read.after = page.next;
    assert!(store.read_all(&read).await.unwrap().events.is_empty());
}
