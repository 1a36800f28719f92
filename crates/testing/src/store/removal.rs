//! Truncating and deleting streams.

use std::sync::Arc;

use trunkline_core::{ErrorKind, EventStore, ExpectedVersion, Position, ReadAll, ReadStream};

use super::StoreProperty;
use super::events::{
    append, draft, ensure_stream, events, everything, ids, ids_of, stored_versions, versions_of,
    whole_log,
};
use crate::failure::{Check, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(truncating_removes_what_is_below_and_versions_go_on),
        property!(a_stream_truncated_to_nothing_keeps_its_version),
        property!(a_deleted_stream_starts_again_at_version_one),
        property!(removing_leaves_other_streams_alone),
        property!(removing_what_is_not_there_removes_nothing),
        property!(removed_events_are_in_no_lookup),
        property!(a_reader_goes_on_past_removed_events),
    ]
}

async fn truncating_removes_what_is_below_and_versions_go_on<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let appended = append(&store, "s", 10).await?;
    ensure_eq!(store.truncate_stream("s", 4).await?, 3, "the number of events removed");
    ensure_stream(&store, "s", 4, &appended[3..]).await?;
    let early = store.read_stream("s", &ReadStream::forward_from(2).with_limit(2)).await?;
    ensure_eq!(versions_of(&early), [4, 5], "what is read from a version that is gone");
    let from = ReadStream { from: Some(3), ..ReadStream::backward() };
    ensure!(store.read_stream("s", &from).await?.is_empty(), "removed events are read backward");
    ensure_eq!(store.truncate_stream("s", 4).await?, 0, "the number removed the second time");
    store.append("s", ExpectedVersion::Exact(10), &events(1)?).await?;
    let versions: Vec<_> = (4..=11).collect();
    ensure_eq!(stored_versions(&store, "s").await?, versions, "the versions after an append");
    Ok(())
}

async fn a_stream_truncated_to_nothing_keeps_its_version<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 3).await?;
    ensure_eq!(store.truncate_stream("s", u64::MAX).await?, 3, "the number of events removed");
    ensure!(stored_versions(&store, "s").await?.is_empty(), "the stream still has events");
    let created = store.append("s", ExpectedVersion::NoStream, &events(1)?).await;
    let kind = created.map_err(|error| error.kind());
    ensure_eq!(kind, Err(ErrorKind::Conflict), "creating a stream that was truncated");
    store.append("s", ExpectedVersion::Exact(3), &events(2)?).await?;
    ensure_eq!(stored_versions(&store, "s").await?, [4, 5], "the versions that follow");
    Ok(())
}

async fn a_deleted_stream_starts_again_at_version_one<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 4).await?;
    store.truncate_stream("s", 2).await?;
    ensure_eq!(store.delete_stream("s").await?, 3, "the number of events removed");
    ensure!(stored_versions(&store, "s").await?.is_empty(), "the stream still has events");
    let fresh = events(2)?;
    store.append("s", ExpectedVersion::NoStream, &fresh).await?;
    ensure_stream(&store, "s", 1, &fresh).await
}

async fn removing_leaves_other_streams_alone<S: EventStore>(store: Arc<S>) -> Check {
    let mut others = Vec::new();
    for name in ["t", "s1", "S", "s/", "%"] {
        others.push((name, append(&store, name, 5).await?));
    }
    append(&store, "s", 5).await?;
    append(&store, "u", 5).await?;
    store.truncate_stream("s", 3).await?;
    store.delete_stream("u").await?;
    for (name, events) in others {
        ensure_stream(&store, name, 1, &events).await?;
    }
    ensure_eq!(whole_log(&store).await?.len(), 28, "the number of events in the global order");
    Ok(())
}

async fn removing_what_is_not_there_removes_nothing<S: EventStore>(store: Arc<S>) -> Check {
    ensure_eq!(store.truncate_stream("absent", 10).await?, 0, "the number truncated");
    ensure_eq!(store.delete_stream("absent").await?, 0, "the number deleted");
    let fresh = events(1)?;
    store.append("absent", ExpectedVersion::NoStream, &fresh).await?;
    ensure_eq!(store.truncate_stream("absent", 0).await?, 0, "the number below version 0");
    ensure_eq!(store.truncate_stream("absent", 1).await?, 0, "the number below version 1");
    ensure_stream(&store, "absent", 1, &fresh).await
}

async fn removed_events_are_in_no_lookup<S: EventStore>(store: Arc<S>) -> Check {
    let mut kept = Vec::new();
    for (stream, last_kept) in [("truncated", true), ("deleted", false)] {
        let story = || draft().correlation("the story").tenant("acme").build();
        let batch = [story()?, story()?];
        store.append(stream, ExpectedVersion::Any, &batch).await?;
        kept.extend(batch.into_iter().skip(1).filter(|_| last_kept));
    }
    store.truncate_stream("truncated", 2).await?;
    store.delete_stream("deleted").await?;
    let all = || ReadAll::after(Position::START);
    for read in [all(), all().with_correlation("the story"), all().with_tenant("acme")] {
        let found = everything(&store, read.clone()).await?;
        ensure_eq!(ids_of(&found), ids(&kept), "what {read:?} found");
    }
    Ok(())
}

async fn a_reader_goes_on_past_removed_events<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 6).await?;
    let page = store.read_all(&ReadAll::after(Position::START).with_limit(3)).await?;
    let head = store.head().await?;
    store.delete_stream("s").await?;
    let now = store.head().await?;
    ensure!(now >= head, "removing events took the head back from {head} to {now}");
    let rest = everything(&store, ReadAll::after(page.next)).await?;
    ensure!(rest.is_empty(), "removed events are still read");
    let fresh = append(&store, "s", 2).await?;
    let rest = everything(&store, ReadAll::after(page.next)).await?;
    ensure_eq!(ids_of(&rest), ids(&fresh), "what the reader finds next");
    let later = rest.iter().all(|recorded| recorded.position > head);
    ensure!(later, "a new event has a position that the reader may have passed");
    Ok(())
}
