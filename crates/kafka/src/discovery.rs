//! Finds topics that were made elsewhere, and asks whether the servers still answer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Pattern, Topic};

use crate::broker::Shared;
use crate::seat::{Role, Seat};

/// How often the servers are asked whether they are there.
const PULSE: Duration = Duration::from_secs(1);

/// Runs as long as the broker lives: looks for topics where a subscription has a wildcard, and when a
/// group has changed.
pub(crate) async fn run(shared: Weak<Shared>) {
    let Some(first) = shared.upgrade() else { return };
    let (changed, interval) = (Arc::clone(&first.changed), first.clients.config.discovery_interval);
    drop(first);
    let mut next = Instant::now() + interval;
    loop {
        let is_change = tokio::time::timeout_at(next, changed.notified()).await.is_ok();
        if !is_change {
            next = Instant::now() + interval;
        }
        let Some(shared) = shared.upgrade().filter(|shared| !shared.is_closed()) else { return };
        if let Err(cause) = look(&shared, is_change).await {
            tracing::debug!(%cause, "looking for Kafka topics");
        }
    }
}

async fn look(shared: &Arc<Shared>, is_change: bool) -> trunkline_core::Result<()> {
    let seats = shared.seats();
    if is_change {
        for seat in &seats {
            refresh_patterns(shared, seat);
        }
    }
    let wants_all = seats.iter().any(|seat| seat.has_wildcard());
    if !wants_all {
        if is_change {
            take_exact(shared, &seats).await?;
        }
        return Ok(());
    }
    let all = shared.topics.all().await?;
    let found: Vec<(String, Topic)> = all
        .into_iter()
        .filter_map(|(name, _)| shared.topics.names.parse(&name).map(|topic| (name, topic)))
        .collect();
    for seat in &seats {
        if seat.role == Role::Mover {
            continue;
        }
        let new = found.iter().filter(|(_, topic)| seat.takes(topic));
        seat.add_topics(new.map(|(name, _)| name.clone()));
    }
    Ok(())
}

/// A group's patterns are the group's, whoever has added them.
fn refresh_patterns(shared: &Shared, seat: &Seat) {
    let Role::Member(group) = &seat.role else { return };
    if let Some(state) = shared.registry.group(group) {
        *crate::lock(&seat.patterns) = state.patterns();
    }
}

async fn take_exact(shared: &Shared, seats: &[Arc<Seat>]) -> trunkline_core::Result<()> {
    for seat in seats {
        let patterns = crate::lock(&seat.patterns).clone();
        for topic in patterns.iter().filter_map(Pattern::exact) {
            let (place, _) = shared.topics.place(&topic).await?;
            seat.add_topics([place.name.clone()]);
        }
    }
    Ok(())
}

/// Asks again and again whether a server answers.
pub(crate) async fn pulse(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade().filter(|shared| !shared.is_closed()) else { return };
        shared.ask_for_life().await;
    }
}
