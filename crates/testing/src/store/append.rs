//! Appending, and reading a stream back.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use trunkline_core::{EventStore, ExpectedVersion, Position, ReadAll, ReadStream};

use super::StoreProperty;
use super::events::{
    append, ensure_stream, events, ids, ids_of, stored_versions, versions_of, whole_log,
    whole_stream,
};
use crate::failure::{Check, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(a_new_store_is_empty),
        property!(versions_count_from_one_in_the_order_of_appending),
        property!(an_append_says_where_its_events_are),
        property!(a_stream_reads_forward_from_a_version_up_to_a_limit),
        property!(a_stream_reads_backward_from_a_version_up_to_a_limit),
        property!(a_stream_holds_only_its_own_events),
        property!(an_empty_batch_appends_nothing),
        property!(a_large_batch_is_appended_whole),
        property!(an_event_is_recorded_with_the_time_of_its_append),
    ]
}

async fn a_new_store_is_empty<S: EventStore>(store: Arc<S>) -> Check {
    ensure!(whole_stream(&store, "s").await?.is_empty(), "a stream of a new store has events");
    let backward = store.read_stream("s", &ReadStream::backward()).await?;
    ensure!(backward.is_empty(), "a stream of a new store has events read backward");
    let page = store.read_all(&ReadAll::after(Position::START)).await?;
    ensure!(page.events.is_empty(), "the global order of a new store has events");
    ensure!(page.caught_up, "a page of a new store is not caught up");
    let head = store.head().await?;
    ensure!(page.next >= head, "the head {head} of a new store lies behind its last page");
    Ok(())
}

async fn versions_count_from_one_in_the_order_of_appending<S: EventStore>(store: Arc<S>) -> Check {
    let mut all = append(&store, "s", 1).await?;
    all.extend(append(&store, "s", 3).await?);
    all.extend(append(&store, "s", 2).await?);
    ensure_stream(&store, "s", 1, &all).await
}

async fn an_append_says_where_its_events_are<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 2).await?;
    let appended = store.append("s", ExpectedVersion::Any, &events(3)?).await?;
    ensure!(appended.iter().all(|place| !place.known), "new events are said to be known");
    let said: Vec<_> = appended.iter().map(|place| (place.version, place.position)).collect();
    let recorded = store.read_stream("s", &ReadStream::forward_from(3)).await?;
    let found: Vec<_> = recorded.iter().map(|r| (r.version, r.position)).collect();
    ensure_eq!(said, found, "the places that append returned");
    ensure!(recorded.iter().all(|r| r.stream == "s"), "an event names another stream");
    Ok(())
}

async fn a_stream_reads_forward_from_a_version_up_to_a_limit<S: EventStore>(
    store: Arc<S>,
) -> Check {
    append(&store, "s", 10).await?;
    let cases: [(ReadStream, &[u64]); 7] = [
        (ReadStream::default().with_limit(2), &[1, 2]),
        (ReadStream::forward_from(0), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (ReadStream::forward_from(4).with_limit(3), &[4, 5, 6]),
        (ReadStream::forward_from(9), &[9, 10]),
        (ReadStream::forward_from(11), &[]),
        (ReadStream::forward_from(u64::MAX), &[]),
        (ReadStream::default().with_limit(0), &[]),
    ];
    for (read, wanted) in cases {
        let recorded = store.read_stream("s", &read).await?;
        ensure_eq!(versions_of(&recorded), wanted, "the versions of {read:?}");
    }
    Ok(())
}

async fn a_stream_reads_backward_from_a_version_up_to_a_limit<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let appended = append(&store, "s", 10).await?;
    let from = |version| ReadStream { from: Some(version), ..ReadStream::backward() };
    let cases: [(ReadStream, &[u64]); 6] = [
        (ReadStream::backward(), &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (ReadStream::backward().with_limit(2), &[10, 9]),
        (from(4), &[4, 3, 2, 1]),
        (from(4).with_limit(3), &[4, 3, 2]),
        (from(u64::MAX).with_limit(1), &[10]),
        (from(0), &[]),
    ];
    for (read, wanted) in cases {
        let recorded = store.read_stream("s", &read).await?;
        ensure_eq!(versions_of(&recorded), wanted, "the versions of {read:?}");
    }
    let mut wanted = ids(&appended);
    wanted.reverse();
    let recorded = store.read_stream("s", &ReadStream::backward()).await?;
    ensure_eq!(ids_of(&recorded), wanted, "the events read backward");
    Ok(())
}

async fn a_stream_holds_only_its_own_events<S: EventStore>(store: Arc<S>) -> Check {
    // Names that a careless key, pattern or collation would take for one another.
    let names = ["a", "A", "a ", "a/b", "a%", "a_", "ab", "ä", "a:b", "a'b\"", "{a}", "日本"];
    let mut appended = Vec::new();
    for (index, name) in names.iter().enumerate() {
        appended.push(append(&store, name, index + 1).await?);
    }
    for (name, events) in names.iter().zip(&appended) {
        ensure_stream(&store, name, 1, events).await?;
    }
    ensure!(whole_stream(&store, "b").await?.is_empty(), "a stream nobody wrote has events");
    Ok(())
}

async fn an_empty_batch_appends_nothing<S: EventStore>(store: Arc<S>) -> Check {
    let appended = store.append("s", ExpectedVersion::Any, &[]).await?;
    ensure!(appended.is_empty(), "an empty batch has places");
    ensure!(whole_log(&store).await?.is_empty(), "an empty batch left an event");
    append(&store, "s", 1).await?;
    ensure_eq!(stored_versions(&store, "s").await?, [1], "the versions after an empty batch");
    Ok(())
}

async fn a_large_batch_is_appended_whole<S: EventStore>(store: Arc<S>) -> Check {
    let appended = append(&store, "s", 2_000).await?;
    ensure_stream(&store, "s", 1, &appended).await
}

async fn an_event_is_recorded_with_the_time_of_its_append<S: EventStore>(store: Arc<S>) -> Check {
    // A server's clock may differ from ours.
    let tolerance = SignedDuration::from_secs(60);
    let long_ago = Timestamp::UNIX_EPOCH;
    let event = super::events::draft()
        .attribute("time", trunkline_core::AttributeValue::Timestamp(long_ago))
        .build()?;
    super::events::append_one(&store, "s", event).await?;
    for recorded in whole_stream(&store, "s").await? {
        let off = Timestamp::now().duration_since(recorded.recorded_at).abs();
        ensure!(off < tolerance, "an event was recorded {off:#} from now");
        ensure_eq!(recorded.event.attributes().time(), Some(long_ago), "the event's own time");
    }
    Ok(())
}
