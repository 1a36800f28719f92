//! The operations tools of the Kafka broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::Offset;
use trunkline_core::{
    BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, EventId, Group, GroupInfo,
    GroupSpec, Result, StoredDeadLetter, SubscribeOptions, TopicInfo,
};

use crate::broker::{KafkaBroker, Shared};
use crate::client::{Clients, REQUEST};
use crate::note::Note;
use crate::offsets::Edge;
use crate::part::Standing;
use crate::registry::GroupState;
use crate::seat::{Role, Seat};
use crate::topics::{Place32, blocking};
use crate::{consume, error, letters};

/// How often a group is asked whether its last member has left.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

#[async_trait]
impl BrokerAdmin for KafkaBroker {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let shared = &self.shared;
        shared.check_open("topics")?;
        let all = shared.topics.all().await?.into_iter();
        let ours = all.filter_map(|(name, partitions)| {
            shared.topics.names.parse(&name).map(|topic| (topic, name, partitions))
        });
        let ours: Vec<_> = ours.collect();
        let places: Vec<Place32> =
            ours.iter().flat_map(|(_, name, partitions)| places(name, *partitions)).collect();
        let lows = shared.topics.offsets(places.clone(), Edge::Low).await?;
        let highs = shared.topics.offsets(places, Edge::High).await?;
        let events = |name: &str, partitions| {
            let counts = places_of(name, partitions).map(|place| {
                let (low, high) = (lows.get(&place), highs.get(&place));
                low.zip(high).map_or(0, |(low, high)| u64::try_from(high - low).unwrap_or(0))
            });
            counts.sum()
        };
        let mut infos: Vec<TopicInfo> = ours
            .iter()
            .map(|(topic, name, partitions)| TopicInfo {
                name: topic.clone(),
                events: events(name, *partitions),
            })
            .collect();
        infos.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(infos)
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let shared = &self.shared;
        shared.check_open("groups")?;
        shared.registry.refresh(&shared.topics).await?;
        let groups = shared.registry.groups();
        let all = if groups.is_empty() { Vec::new() } else { shared.topics.all().await? };
        let mut infos = Vec::with_capacity(groups.len());
        for (name, state) in groups {
            infos.push(info(shared, &all, name, &state).await?);
        }
        Ok(infos)
    }

    async fn declare_group(&self, spec: GroupSpec) -> Result<()> {
        let shared = &self.shared;
        shared.check_open("declare group")?;
        let mut options = SubscribeOptions::group(spec.name.clone(), spec.topics.iter().cloned());
        options.start = spec.start.clone();
        options.buffer = spec.buffer;
        options.on_full = spec.on_full;
        options.lanes = spec.lanes;
        shared.capabilities.check_subscribe(&options)?;
        consume::declare(shared, &spec).await
    }

    async fn delete_group(&self, group: &Group) -> Result<bool> {
        let shared = &self.shared;
        shared.check_open("delete group")?;
        shared.registry.refresh(&shared.topics).await?;
        if shared.registry.group(group).is_none() {
            return Ok(false);
        }
        let is_live = |seat: &Arc<Seat>| seat.is_live() && seat.role == Role::Member(group.clone());
        if shared.seats().iter().any(is_live) {
            return Err(error::group_in_use(group));
        }
        let name = shared.topics.names.group(group);
        let mut tries = 0;
        // A member that has just left is known to the coordinator for a moment.
        while shared.topics.delete_group(&name).await? {
            tries += 1;
            if tries > TRIES {
                return Err(error::group_in_use(group));
            }
            tokio::time::sleep(BETWEEN).await;
        }
        shared.registry.remove(&shared.producer, group).await?;
        shared.topics.delete_topic(&shared.topics.names.retry(group)).await?;
        Ok(true)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>> {
        self.shared.check_open("dead letters")?;
        letters::read(&self.shared, filter).await
    }

    async fn settle_dead_letter(
        &self,
        id: &DeadLetterId,
        verdict: DeadLetterVerdict,
    ) -> Result<()> {
        self.shared.check_open("settle dead letter")?;
        letters::settle(&self.shared, id, verdict).await
    }

    async fn cancel(&self, _id: &EventId) -> Result<bool> {
        self.shared.check_open("cancel")?;
        let capabilities = &self.shared.capabilities;
        capabilities.require(capabilities.cancel, "cancel", "cancelling a delayed publish")?;
        Ok(false)
    }
}

fn places_of(name: &str, partitions: u32) -> impl Iterator<Item = Place32> {
    let (name, partitions) = (name.to_owned(), i32::try_from(partitions).unwrap_or(i32::MAX));
    (0..partitions).map(move |partition| (name.clone(), partition))
}

fn places(name: &str, partitions: u32) -> Vec<Place32> {
    places_of(name, partitions).collect()
}

/// What a group has to do, and who does it.
async fn info(
    shared: &Arc<Shared>,
    all: &[(String, u32)],
    name: Group,
    state: &GroupState,
) -> Result<GroupInfo> {
    let patterns = state.patterns();
    let retry = shared.topics.names.retry(&name);
    let taken = all.iter().filter(|(physical, _)| {
        let topic = shared.topics.names.parse(physical);
        *physical == retry || topic.is_some_and(|topic| patterns.iter().any(|p| p.matches(&topic)))
    });
    let places: Vec<Place32> =
        taken.flat_map(|(physical, partitions)| places(physical, *partitions)).collect();
    let members = members(shared, &name).await?;
    let local = standings(shared, &name, &places);
    let elsewhere: Vec<Place32> =
        places.iter().filter(|place| !local.contains_key(*place)).cloned().collect();
    let mut standings = committed(shared, &name, elsewhere).await?;
    standings.extend(local);
    let highs = shared.topics.offsets(places, Edge::High).await?;
    let (mut lag, mut in_flight) = (0, 0);
    for (place, high) in highs {
        let standing = standings.get(&place).copied().unwrap_or_else(|| Standing {
            mark: shared.registry.start_of(&name, &place.0, place.1),
            done_above: 0,
            out: 0,
        });
        let ahead = u64::try_from(high - standing.mark).unwrap_or(0);
        lag += ahead.saturating_sub(standing.done_above + standing.out);
        in_flight += standing.out;
    }
    Ok(GroupInfo { name, topics: patterns, members, lag, in_flight, dropped: 0 })
}

/// What the members in this process know of their partitions, which is newer than what is committed.
fn standings(shared: &Shared, group: &Group, places: &[Place32]) -> HashMap<Place32, Standing> {
    let seats = shared.seats();
    let members = seats.iter().filter(|seat| seat.role == Role::Member(group.clone()));
    let mut found = HashMap::new();
    for seat in members {
        let desk = seat.desk();
        for place in places {
            if let Some(standing) = desk.standing(&place.0, place.1) {
                found.insert(place.clone(), standing);
            }
        }
    }
    found
}

/// What a group has committed of partitions.
async fn committed(
    shared: &Shared,
    group: &Group,
    places: Vec<Place32>,
) -> Result<HashMap<Place32, Standing>> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let (clients, name) = (shared.clients.clone(), shared.topics.names.group(group));
    blocking("groups", move || committed_of(&clients, &name, &places)).await
}

fn committed_of(
    clients: &Clients,
    group: &str,
    places: &[Place32],
) -> Result<HashMap<Place32, Standing>> {
    let probe = clients.probe_of(group)?;
    let mut asked = TopicPartitionList::with_capacity(places.len());
    for (name, partition) in places {
        asked.add_partition(name, *partition);
    }
    let answered = probe.committed_offsets(asked, REQUEST);
    let answered = answered.map_err(|cause| error::request("groups", cause))?;
    let found = answered.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(mark) => {
            let note = Note::read(mark, element.metadata());
            let done = note.done.iter().map(|range| range.end - range.start).sum::<i64>();
            let done_above = u64::try_from(done).unwrap_or(0);
            let place = (element.topic().to_owned(), element.partition());
            Some((place, Standing { mark, done_above, out: note.out }))
        }
        _ => None,
    });
    let found = found.collect();
    // It must not outlive this: a list that does keeps its client from being dropped.
    drop(answered);
    Ok(found)
}

/// How many live members the coordinator knows.
async fn members(shared: &Shared, group: &Group) -> Result<usize> {
    let name = shared.topics.names.group(group);
    shared
        .topics
        .ask("groups", move |probe| {
            let list = probe
                .fetch_group_list(Some(&name), REQUEST)
                .map_err(|cause| error::request("groups", cause))?;
            let found = list.groups().iter().find(|group| group.name() == name);
            Ok(found.map_or(0, |group| group.members().len()))
        })
        .await
}
