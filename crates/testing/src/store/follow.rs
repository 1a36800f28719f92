//! Live subscriptions: catch up, then follow.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::time::timeout;
use trunkline_core::{EventId, EventStore, ExpectedVersion, Follow, Position, ReadAll};

use super::StoreProperty;
use super::events::{append, draft, ids, ids_of, race, whole_log};
use super::order::{WRITTEN, finish, start_writers};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(a_follower_catches_up_and_then_follows),
        property!(followers_started_in_a_burst_see_no_gap_and_no_duplicate),
        property!(a_waiting_follower_wakes_for_every_append),
        property!(a_follower_with_a_filter_sees_only_its_events),
        property!(a_follower_that_stopped_waiting_has_lost_nothing),
        property!(waiting_for_what_is_there_returns_at_once),
    ]
}

async fn take<S: EventStore>(
    follow: &mut Follow<Arc<S>>,
    count: usize,
) -> Result<Vec<EventId>, Failure> {
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        seen.push(follow.next().await?.event.id().clone());
    }
    Ok(seen)
}

fn follow<S: EventStore>(store: &Arc<S>, after: Position) -> Follow<Arc<S>> {
    Follow::new(Arc::clone(store), ReadAll::after(after).with_limit(8))
}

async fn a_follower_catches_up_and_then_follows<S: EventStore>(store: Arc<S>) -> Check {
    let mut appended = append(&store, "s", 20).await?;
    let mut follow = follow(&store, Position::START);
    let mut seen = take(&mut follow, 15).await?;
    appended.extend(append(&store, "t", 20).await?);
    seen.extend(take(&mut follow, 25).await?);
    // Now it waits, and the rest comes while it does.
    let (later, written) = join(take(&mut follow, 5), append(&store, "s", 5)).await;
    seen.extend(later?);
    appended.extend(written?);
    ensure_eq!(seen, ids(&appended), "what the follower saw");
    let last = whole_log(&store).await?.last().map(|recorded| recorded.position);
    ensure!(last.is_some_and(|last| follow.read_up_to() >= last), "the follower lags behind");
    Ok(())
}

async fn followers_started_in_a_burst_see_no_gap_and_no_duplicate<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let mut writers = start_writers(&store);
    let mut followers = Vec::new();
    // Each starts when so much has been written, half of them from there and half from the start.
    for share in [0, 1, 2, 4, 6, 7] {
        let mut starts = follow(&store, Position::START);
        take(&mut starts, WRITTEN * share / 8).await?;
        let from = if share % 2 == 0 { Position::START } else { store.head().await? };
        followers.push((from, follow(&store, from)));
    }
    let store_of_followers = Arc::clone(&store);
    let (froms, live): (Vec<_>, Vec<_>) = followers.into_iter().unzip();
    let live: Vec<_> = live.into_iter().map(|f| Arc::new(tokio::sync::Mutex::new(f))).collect();
    let seen = race(live.len(), |index| {
        let (follow, store) = (Arc::clone(&live[index]), Arc::clone(&store_of_followers));
        let from = froms[index];
        async move { follow_to_the_end(&store, &mut *follow.lock().await, from).await }
    });
    let seen = seen.await?;
    finish(&mut writers).await?;
    let log = whole_log(&store).await?;
    for (from, seen) in froms.into_iter().zip(seen) {
        let wanted: Vec<_> = log.iter().filter(|recorded| recorded.position > from).collect();
        let wanted: Vec<_> = wanted.iter().map(|recorded| recorded.event.id().clone()).collect();
        ensure!(seen? == wanted, "a follower from {from} saw other events than the log has");
    }
    Ok(())
}

/// Follows until everything that the writers write has been seen.
async fn follow_to_the_end<S: EventStore>(
    store: &Arc<S>,
    follow: &mut Follow<Arc<S>>,
    from: Position,
) -> Result<Vec<EventId>, Failure> {
    let log = whole_log(store).await?;
    let before = log.iter().filter(|recorded| recorded.position <= from).count();
    take(follow, WRITTEN - before).await
}

async fn a_waiting_follower_wakes_for_every_append<S: EventStore>(store: Arc<S>) -> Check {
    let mut follow = follow(&store, Position::START);
    for round in 0..50 {
        // Polled first, so that it waits when the event comes.
        let (seen, written) = join(follow.next(), append(&store, "s", 1)).await;
        written?;
        ensure_eq!(seen?.version, round + 1, "the version that the follower woke for");
    }
    Ok(())
}

async fn a_follower_with_a_filter_sees_only_its_events<S: EventStore>(store: Arc<S>) -> Check {
    let read = ReadAll::after(Position::START).with_correlation("the story").with_limit(3);
    let mut follow = Follow::new(Arc::clone(&store), read);
    let mut story = Vec::new();
    for _ in 0..10 {
        append(&store, "s", 5).await?;
        let event = draft().correlation("the story").build()?;
        story.push(event.clone());
        store.append("s", ExpectedVersion::Any, &[event]).await?;
    }
    ensure_eq!(take(&mut follow, 10).await?, ids(&story), "what the follower saw");
    append(&store, "s", 5).await?;
    let wait = timeout(Duration::from_millis(20), follow.next()).await;
    ensure!(wait.is_err(), "the follower saw an event that its filter leaves out");
    Ok(())
}

async fn a_follower_that_stopped_waiting_has_lost_nothing<S: EventStore>(store: Arc<S>) -> Check {
    let mut writers = start_writers(&store);
    let mut follow = follow(&store, Position::START);
    let mut seen = Vec::new();
    // From no patience at all to some: every place where the call waits is given up at.
    for patience in (0..40).cycle() {
        let next = timeout(Duration::from_micros(patience * 25), follow.next()).await;
        let Ok(recorded) = next else { continue };
        seen.push(recorded?);
        if seen.len() == WRITTEN {
            break;
        }
    }
    finish(&mut writers).await?;
    ensure!(ids_of(&seen) == ids_of(&whole_log(&store).await?), "it saw other events than the log");
    Ok(())
}

async fn waiting_for_what_is_there_returns_at_once<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 3).await?;
    let log = whole_log(&store).await?;
    store.wait_for(Position::START).await?;
    store.wait_for(log[1].position).await?;
    Ok(())
}
