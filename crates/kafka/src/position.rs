//! Where an event stands in the cluster, and where a new subscription begins.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use trunkline_core::{BrokerPosition, Error, ErrorKind, Pattern, Result, StartAt};

use crate::broker::NAME;
use crate::offsets::Edge;
use crate::topics::{Place32, Topics};

/// How long until topics are asked for their offsets again.
const AGAIN: Duration = Duration::from_millis(50);

/// The offset of each partition of topics, by physical name.
pub(crate) type Beginnings = BTreeMap<String, Vec<i64>>;

/// The place of a record: `orders/3/1042@1763737200000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The physical name of its topic.
    pub(crate) name: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// When the log took it, in milliseconds since 1970: where other partitions begin.
    pub(crate) at: i64,
}

impl Spot {
    /// Fails when a start is at a position that is none of Kafka's.
    pub(crate) fn check(start: &StartAt) -> Result<()> {
        if let StartAt::Position(position) = start {
            Self::read(position)?;
        }
        Ok(())
    }

    fn read(position: &BrokerPosition) -> Result<Self> {
        position.read(NAME, Self::parse)
    }

    fn parse(text: &str) -> Option<Self> {
        let (place, at) = text.split_once('@')?;
        let (place, offset) = place.rsplit_once('/')?;
        let (name, partition) = place.rsplit_once('/')?;
        let spot = Self {
            name: name.to_owned(),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
            at: at.parse().ok()?,
        };
        (!name.is_empty() && spot.partition >= 0 && spot.offset >= 0 && spot.at >= 0)
            .then_some(spot)
    }

    pub(crate) fn position(&self) -> BrokerPosition {
        let Self { name, partition, offset, at } = self;
        BrokerPosition::new(NAME, format_args!("{name}/{partition}/{offset}@{at}"))
    }
}

/// Where a new subscription begins in every partition of the topics that match.
///
/// A server that has just started may not know yet what it has: it is asked again until `limit` is over.
/// A partition that was left out would be read from elsewhere, or never.
pub(crate) async fn beginnings(
    topics: &Topics,
    patterns: &[Pattern],
    start: &StartAt,
    limit: Duration,
) -> Result<Beginnings> {
    let deadline = Instant::now() + limit;
    loop {
        let there = topics.matching(patterns).await?;
        let offsets = starts(topics, places(&there), start).await?;
        if let Some(beginnings) = whole(there, &offsets) {
            return Ok(beginnings);
        }
        if Instant::now() >= deadline {
            // One that was deleted is made again when it is asked for again.
            patterns.iter().filter_map(Pattern::exact).for_each(|topic| topics.forget(&topic));
            let message = "partitions of topics that are there have no offsets yet: try again";
            return Err(Error::new(ErrorKind::Disconnected, "subscribe", message));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn partitions_of(count: u32) -> impl Iterator<Item = i32> {
    0..i32::try_from(count).unwrap_or(i32::MAX)
}

fn places(there: &BTreeMap<String, u32>) -> Vec<Place32> {
    let places = there
        .iter()
        .flat_map(|(name, count)| partitions_of(*count).map(|partition| (name.clone(), partition)));
    places.collect()
}

/// The offsets by topic, when every partition has one.
fn whole(there: BTreeMap<String, u32>, offsets: &HashMap<Place32, i64>) -> Option<Beginnings> {
    let topics = there.into_iter().map(|(name, count)| {
        let offset = |partition| offsets.get(&(name.clone(), partition)).copied();
        let begins = partitions_of(count).map(offset).collect::<Option<Vec<i64>>>()?;
        Some((name, begins))
    });
    topics.collect()
}

/// The offsets of a start; those of topics that vanished are left out.
async fn starts(
    topics: &Topics,
    places: Vec<Place32>,
    start: &StartAt,
) -> Result<HashMap<Place32, i64>> {
    let edge = match start {
        StartAt::Beginning => Edge::Low,
        StartAt::Time(time) => Edge::Time(time.as_millisecond()),
        StartAt::Position(position) => {
            return starts_at(topics, places, Spot::read(position)?).await;
        }
        _ => Edge::High,
    };
    topics.offsets(places, edge).await
}

/// The record's own partition begins with it, the others at its time.
async fn starts_at(
    topics: &Topics,
    places: Vec<Place32>,
    spot: Spot,
) -> Result<HashMap<Place32, i64>> {
    let own = (spot.name, spot.partition);
    let is_taken = places.contains(&own);
    let mut starts = topics.offsets(places, Edge::Time(spot.at)).await?;
    if is_taken {
        let low = topics.offsets(vec![own.clone()], Edge::Low).await?.remove(&own);
        let high = topics.offsets(vec![own.clone()], Edge::High).await?.remove(&own);
        // A log that does not reach so far is not the one that the position was of: its topic was
        // made anew.
        if let (Some(low), Some(high)) = (low, high)
            && spot.offset < high
        {
            starts.insert(own, spot.offset.max(low));
        }
    }
    Ok(starts)
}

#[cfg(test)]
mod tests;
