//! Where an event stands in the cluster, and where a new subscription begins.

use std::collections::HashMap;

use trunkline_core::{BrokerPosition, Result, StartAt};

use crate::broker::NAME;
use crate::topics::{Edge, Place32, Topics};

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

/// The offsets at which a new subscription begins; those of topics that vanished are left out.
pub(crate) async fn starts(
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
mod tests {
    use trunkline_core::ErrorKind;

    use super::*;

    #[test]
    fn a_place_reads_back_as_it_was_written() {
        let spot = Spot { name: "dev-orders.placed".to_owned(), partition: 3, offset: 7, at: 42 };
        let position = spot.position();
        assert_eq!(position.to_string(), "kafka:dev-orders.placed/3/7@42");
        assert_eq!(Spot::read(&position).unwrap(), spot);
    }

    #[test]
    fn what_is_no_place_is_invalid() {
        for text in ["7", "a/3/7", "a/3@42", "a/x/7@42", "a/-1/7@42", "a/3/-7@42", "/3/7@42"] {
            let start = StartAt::Position(BrokerPosition::new(NAME, text));
            assert_eq!(Spot::check(&start).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
