//! Appending the same events again, and what "the same" means.

use std::sync::Arc;

use trunkline_core::{Appended, ErrorKind, EventId, EventStore, ExpectedVersion};

use super::StoreProperty;
use super::events::{
    append, append_one, draft, ensure_stream, events, ids_of, race, stored_versions, whole_log,
    whole_stream,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(appending_the_same_events_again_returns_their_first_places),
        property!(a_retry_with_the_version_of_the_first_try_is_no_conflict),
        property!(racing_retries_of_one_event_store_it_once),
        property!(a_batch_that_is_known_in_part_is_a_conflict_and_writes_nothing),
        property!(an_event_twice_in_a_batch_is_a_conflict_and_writes_nothing),
        property!(the_same_id_of_another_tenant_or_source_is_another_event),
        property!(ids_that_are_no_uuids_are_kept_and_told_apart),
    ]
}

/// Where each event is, without whether it was known.
fn places(appended: &[Appended]) -> Vec<Appended> {
    appended.iter().map(|place| Appended { known: true, ..*place }).collect()
}

async fn appending_the_same_events_again_returns_their_first_places<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let batch = events(3)?;
    let first = store.append("s", ExpectedVersion::Any, &batch).await?;
    append(&store, "s", 2).await?;
    let again = store.append("s", ExpectedVersion::Any, &batch).await?;
    ensure_eq!(again, places(&first), "the places of events that are known");
    ensure_eq!(stored_versions(&store, "s").await?, [1, 2, 3, 4, 5], "the versions");
    // A part of the batch is known as well as the whole.
    let part = store.append("s", ExpectedVersion::Any, &batch[1..]).await?;
    ensure_eq!(part, places(&first[1..]), "the places of a part of the events");
    Ok(())
}

async fn a_retry_with_the_version_of_the_first_try_is_no_conflict<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let (created, changed) = (events(1)?, events(2)?);
    let first = store.append("s", ExpectedVersion::NoStream, &created).await?;
    let second = store.append("s", ExpectedVersion::Exact(1), &changed).await?;
    append(&store, "s", 1).await?;
    let again = store.append("s", ExpectedVersion::NoStream, &created).await?;
    ensure_eq!(again, places(&first), "the places of the retried creation");
    let again = store.append("s", ExpectedVersion::Exact(1), &changed).await?;
    ensure_eq!(again, places(&second), "the places of the retried change");
    Ok(())
}

async fn racing_retries_of_one_event_store_it_once<S: EventStore>(store: Arc<S>) -> Check {
    let event = draft().build()?;
    let ended = race(16, |_| {
        let (store, event) = (Arc::clone(&store), event.clone());
        async move { append_one(&store, "s", event).await }
    })
    .await?;
    let told = ended.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let new = told.iter().filter(|place| !place.known).count();
    ensure_eq!(new, 1, "the number of writers that were told the event is new");
    let same = told.windows(2).all(|pair| pair[0].position == pair[1].position);
    ensure!(same, "the writers were told several places: {told:?}");
    ensure_eq!(whole_log(&store).await?.len(), 1, "the number of events");
    Ok(())
}

async fn a_batch_that_is_known_in_part_is_a_conflict_and_writes_nothing<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let known = append(&store, "s", 2).await?;
    let new = events(2)?;
    let batches = [
        [&known[..1], &new[..1]].concat(),
        [&new[..1], &known[..1]].concat(),
        [&new[..1], &known[1..], &new[1..]].concat(),
    ];
    for batch in batches {
        ensure_refused(store.append("s", ExpectedVersion::Any, &batch).await)?;
    }
    ensure_stream(&store, "s", 1, &known).await?;
    // The new ones alone are welcome, so nothing of them stayed.
    let appended = store.append("s", ExpectedVersion::Exact(2), &new).await?;
    ensure!(appended.iter().all(|place| !place.known), "a refused event is said to be known");
    Ok(())
}

async fn an_event_twice_in_a_batch_is_a_conflict_and_writes_nothing<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let event = draft().build()?;
    let batch = [event.clone(), draft().build()?, event];
    ensure_refused(store.append("s", ExpectedVersion::Any, &batch).await)?;
    ensure!(whole_log(&store).await?.is_empty(), "a refused batch left an event");
    Ok(())
}

async fn the_same_id_of_another_tenant_or_source_is_another_event<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let same = || draft().id("17").source("/orders");
    let distinct = [
        same().build()?,
        same().source("/billing").build()?,
        same().tenant("acme").build()?,
        same().tenant("/orders").build()?,
        same().tenant("acme").source("/billing").build()?,
    ];
    let appended = store.append("s", ExpectedVersion::Any, &distinct).await?;
    ensure!(appended.iter().all(|place| !place.known), "one of them is taken for another");
    ensure_eq!(whole_log(&store).await?.len(), distinct.len(), "the number of events");
    // Other attributes and data do not make another event.
    let same_again = same().attribute("subject", "changed").correlation("c").build()?;
    let place = append_one(&store, "s", same_again).await?;
    ensure!(place.known && place.version == 1, "the same identity got the place {place:?}");
    Ok(())
}

async fn ids_that_are_no_uuids_are_kept_and_told_apart<S: EventStore>(store: Arc<S>) -> Check {
    let long = "x".repeat(600);
    let texts = [
        "1",
        "01",
        "1 ",
        "order 17",
        "a",
        "A",
        "ä",
        "a\u{308}",
        "日本/✓?&%",
        "8a316501-e7df-5a55-bdfa-64d1c8570655",
        "8A316501-E7DF-5A55-BDFA-64D1C8570655",
        "8a316501e7df5a55bdfa64d1c8570655",
        "1e3",
        "1000",
        "null",
        &long,
    ];
    for text in texts {
        let place = append_one(&store, "s", draft().id(text).build()?).await?;
        ensure!(!place.known, "the id `{text}` is taken for another");
    }
    let wanted: Vec<_> = texts.iter().map(|text| EventId::from(*text)).collect();
    ensure_eq!(ids_of(&whole_stream(&store, "s").await?), wanted, "the ids");
    Ok(())
}

fn ensure_refused(ended: trunkline_core::Result<Vec<Appended>>) -> Check {
    match ended {
        Ok(places) => Err(Failure::new(format!("the batch was accepted: {places:?}"))),
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of `{error}`");
            Ok(())
        }
    }
}
