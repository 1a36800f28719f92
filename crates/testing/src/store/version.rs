//! Expected versions: what the writer believes must be true.

use std::sync::Arc;

use trunkline_core::{
    Appended, Error, ErrorKind, EventStore, ExpectedVersion, Result, StreamVersion,
};

use super::StoreProperty;
use super::events::{append, ensure_stream, events, race, stored_versions, whole_log};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(a_stream_is_created_once),
        property!(an_exact_version_is_the_last_one_and_no_other),
        property!(a_wrong_version_is_a_conflict_that_names_both),
        property!(a_conflict_leaves_nothing_behind),
        property!(of_racing_writers_exactly_one_wins),
        property!(of_racing_creators_exactly_one_wins),
        property!(racing_writers_without_expectation_get_contiguous_versions),
    ]
}

/// How many writers race: more than the runtime and a pool of connections have at a time.
const WRITERS: usize = 16;

async fn a_stream_is_created_once<S: EventStore>(store: Arc<S>) -> Check {
    store.append("s", ExpectedVersion::NoStream, &events(2)?).await?;
    let again = store.append("s", ExpectedVersion::NoStream, &events(1)?).await;
    ensure_conflict(again, "0", 2)?;
    store.append("another", ExpectedVersion::NoStream, &events(1)?).await?;
    ensure_eq!(stored_versions(&store, "s").await?, [1, 2], "the versions");
    Ok(())
}

async fn an_exact_version_is_the_last_one_and_no_other<S: EventStore>(store: Arc<S>) -> Check {
    let mut all = append(&store, "s", 3).await?;
    let next = events(2)?;
    let appended = store.append("s", ExpectedVersion::Exact(3), &next).await?;
    let versions: Vec<_> = appended.iter().map(|place| place.version).collect();
    ensure_eq!(versions, [4, 5], "the versions of the second append");
    all.extend(next);
    ensure_stream(&store, "s", 1, &all).await
}

async fn a_wrong_version_is_a_conflict_that_names_both<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 3).await?;
    for wrong in [1, 2, 4, 1_000] {
        let refused = store.append("s", ExpectedVersion::Exact(wrong), &events(1)?).await;
        ensure_conflict(refused, &wrong.to_string(), 3)?;
    }
    let absent = store.append("absent", ExpectedVersion::Exact(1), &events(1)?).await;
    ensure_conflict(absent, "1", 0)
}

async fn a_conflict_leaves_nothing_behind<S: EventStore>(store: Arc<S>) -> Check {
    let mut all = append(&store, "s", 2).await?;
    let refused = events(3)?;
    ensure_conflict(store.append("s", ExpectedVersion::Exact(1), &refused).await, "1", 2)?;
    ensure_stream(&store, "s", 1, &all).await?;
    ensure_eq!(whole_log(&store).await?.len(), 2, "the number of events in the global order");
    // The refused events are new to the store still, and their versions are free.
    let appended = store.append("s", ExpectedVersion::Exact(2), &refused).await?;
    ensure!(appended.iter().all(|place| !place.known), "refused events are said to be known");
    all.extend(refused);
    ensure_stream(&store, "s", 1, &all).await
}

async fn of_racing_writers_exactly_one_wins<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 1).await?;
    for version in 1..=10 {
        let ended = race_once(&store, ExpectedVersion::Exact(version), events(WRITERS)?).await?;
        ensure_one_winner(ended, &version.to_string(), version + 1)?;
    }
    let versions: Vec<_> = (1..=11).collect();
    ensure_eq!(stored_versions(&store, "s").await?, versions, "the versions after the races");
    Ok(())
}

async fn of_racing_creators_exactly_one_wins<S: EventStore>(store: Arc<S>) -> Check {
    let ended = race_once(&store, ExpectedVersion::NoStream, events(WRITERS)?).await?;
    ensure_one_winner(ended, "0", 1)?;
    ensure_eq!(stored_versions(&store, "s").await?, [1], "the versions after the race");
    Ok(())
}

async fn racing_writers_without_expectation_get_contiguous_versions<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let rounds = 5;
    let mut said = Vec::new();
    for _ in 0..rounds {
        for end in race_once(&store, ExpectedVersion::Any, events(WRITERS)?).await? {
            said.extend(end?.iter().map(|place| place.version));
        }
    }
    said.sort_unstable();
    let wanted: Vec<StreamVersion> = (1..).take(WRITERS * rounds).collect();
    ensure_eq!(said, wanted, "the versions that the writers were told");
    ensure_eq!(stored_versions(&store, "s").await?, wanted, "the versions in the stream");
    Ok(())
}

type Ended = Result<Vec<Appended>>;

/// One writer for each of `events`, all at once.
async fn race_once<S: EventStore>(
    store: &Arc<S>,
    expected: ExpectedVersion,
    events: Vec<trunkline_core::Event>,
) -> Result<Vec<Ended>, Failure> {
    race(events.len(), |index| {
        let (store, event) = (Arc::clone(store), events[index].clone());
        async move { store.append("s", expected, &[event]).await }
    })
    .await
}

fn ensure_one_winner(ended: Vec<Ended>, expected: &str, actual: StreamVersion) -> Check {
    let (won, lost): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    ensure_eq!(won.len(), 1, "the number of writers that won");
    lost.into_iter().try_for_each(|loser| ensure_conflict(loser, expected, actual))
}

fn ensure_conflict(ended: Ended, expected: &str, actual: StreamVersion) -> Check {
    let error = match ended {
        Ok(places) => {
            return Err(Failure::new(format!("a wrong version was accepted: {places:?}")));
        }
        Err(error) => error,
    };
    ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of `{error}`");
    ensure_eq!(error.context("expected"), Some(expected), "what `{error}` says was expected");
    ensure_eq!(actual_of(&error), Some(actual), "what `{error}` says is there");
    Ok(())
}

fn actual_of(error: &Error) -> Option<StreamVersion> {
    error.context("actual")?.parse().ok()
}
