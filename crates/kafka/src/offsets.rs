//! Where the logs of partitions begin and end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset;
use trunkline_core::{ErrorKind, Result};

use crate::client::{Probe, REQUEST};
use crate::error;
use crate::topics::{BETWEEN, Place32, USABLE, partition_count};

/// Which place of partitions is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edge {
    Low,
    High,
    /// Milliseconds since 1970; the end where nothing is as late.
    Time(i64),
}

/// The offsets at an edge of partitions; those of topics that vanished are left out. Asked again
/// while partitions have no leader, as new ones do for a moment.
pub(crate) fn at(
    probe: &Probe,
    partitions: &[Place32],
    edge: Edge,
) -> Result<HashMap<Place32, i64>> {
    let deadline = Instant::now() + USABLE;
    let mut partitions = Cow::Borrowed(partitions);
    loop {
        let cause = match at_once(probe, &partitions, edge) {
            Ok(found) => return Ok(found),
            Err(cause) => cause,
        };
        // What a server does not know fails everything that it was asked for with it.
        let is_unknown = is_unknown(&cause);
        let error = error::request("offsets", cause);
        let may_pass = is_unknown || error.kind() == ErrorKind::Disconnected;
        if !may_pass || Instant::now() >= deadline {
            return Err(error);
        }
        if is_unknown {
            partitions = Cow::Owned(still_there(probe, &partitions)?);
        }
        std::thread::sleep(BETWEEN);
    }
}

/// Those of topics that have not vanished; the client forgets the others, of which it would go on to ask.
fn still_there(probe: &Probe, partitions: &[Place32]) -> Result<Vec<Place32>> {
    let mut counts = HashMap::new();
    for (name, _) in partitions {
        if counts.contains_key(name) {
            continue;
        }
        let metadata = probe
            .fetch_metadata(Some(name), REQUEST)
            .map_err(|cause| error::request("offsets", cause))?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        counts.insert(name, found.and_then(partition_count).unwrap_or(0));
    }
    let is_there = |(name, partition): &&Place32| {
        let count = counts.get(name).copied().unwrap_or(0);
        u32::try_from(*partition).is_ok_and(|partition| partition < count)
    };
    Ok(partitions.iter().filter(is_there).cloned().collect())
}

/// Whether there is no such topic or partition.
fn is_unknown(cause: &KafkaError) -> bool {
    let unknown = [Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition];
    cause.rdkafka_error_code().is_some_and(|code| unknown.contains(&code))
}

fn at_once(
    probe: &Probe,
    partitions: &[Place32],
    edge: Edge,
) -> KafkaResult<HashMap<Place32, i64>> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let asked = match edge {
        Edge::Low => Offset::Beginning,
        Edge::High => Offset::End,
        Edge::Time(millis) => Offset::Offset(millis),
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, asked)?;
    }
    let answered = probe.offsets_for_times(list, REQUEST)?;
    let mut found = HashMap::with_capacity(partitions.len());
    let mut late = Vec::new();
    for element in answered.elements() {
        let place = (element.topic().to_owned(), element.partition());
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => {
                found.insert(place, offset);
            }
            // Nothing was accepted as late: what comes next is.
            (Ok(()), Offset::End) => late.push(place),
            (Err(cause), _) if !is_unknown(&cause) => return Err(cause),
            // It has vanished.
            _ => {}
        }
    }
    if !late.is_empty() && !matches!(edge, Edge::High) {
        found.extend(at_once(probe, &late, Edge::High)?);
    }
    Ok(found)
}
