//! The ladder of delays: quorum queues whose messages live 10, 20, 40 … ms and die towards the next.
//!
//! A delay is a number of units in binary, written into the routing key, one word for each rung. At a
//! rung whose bit is 1 the message waits, at one whose bit is 0 it passes; below the last it comes out
//! where groups and subscribers are bound. Every rung dead-letters at least once and refuses rather
//! than drops: with the defaults a `SIGKILL` of the server loses what is just expiring.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use trunkline_core::Result;

use crate::mutant::Mutant;
use crate::names::short;
use crate::topology::{Topology, table, text};

/// How long the lowest rung keeps a message; delays are rounded up to it.
const UNIT_MS: u64 = 10;
/// With the 255 bytes of a routing key, a topic of 200 and an address of 2 there is room for 26 bits.
const RUNGS: u32 = 26;
/// The longest delay of one walk: 7 days and 18 hours.
const LONGEST_UNITS: u64 = (1 << RUNGS) - 1;

/// Where a delayed message enters the ladder, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) rung: u32,
    pub(crate) routing_key: ShortString,
    /// What is left when it comes out.
    pub(crate) left: Duration,
}

/// The way of a delay to an address: `t` a topic, `b` its broadcast subscribers, `g` a group, `e` a
/// queue that existed, `q` a broadcast subscriber.
pub(crate) fn walk(delay: Duration, kind: char, address: &str) -> Result<Walk> {
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    // A part of a millisecond counts as one, and an expiry may not come early.
    let whole = millis.saturating_add(u64::from(!delay.subsec_nanos().is_multiple_of(1_000_000)));
    let wanted = whole.div_ceil(UNIT_MS).max(1);
    let units = wanted.min(LONGEST_UNITS);
    let mut key = String::with_capacity(255);
    for rung in (0..RUNGS).rev() {
        key.push(if units >> rung & 1 == 1 { '1' } else { '0' });
        key.push('.');
    }
    // Writing to a String cannot fail.
    let _written = write!(key, "{kind}.{address}");
    let left = Duration::from_millis((wanted - units).saturating_mul(UNIT_MS));
    Ok(Walk { rung: units.ilog2(), routing_key: short(key)?, left })
}

/// The binding key of what comes out of the ladder for an address, after any delay.
pub(crate) fn exit_key(kind: char, address: &str) -> Result<ShortString> {
    short(format!("{}{kind}.{address}", "*.".repeat(RUNGS as usize)))
}

/// Which rungs are known to exist: all below the number.
#[derive(Debug, Default)]
pub(crate) struct Ladder(AtomicU32);

impl Ladder {
    pub(crate) fn has(&self, rung: u32) -> bool {
        self.0.load(Ordering::Acquire) > rung
    }

    /// Makes every rung up to this one.
    pub(crate) async fn declare(
        &self,
        topology: &Topology,
        channel: &Channel,
        rung: u32,
    ) -> Result<()> {
        if !topology.has_own() || self.has(rung) {
            return Ok(());
        }
        declare_unrouted(topology, channel).await?;
        for rung in 0..=rung {
            topology.young.note(topology.names.delay(rung), Vec::new(), Duration::ZERO);
            declare_rung(topology, channel, rung).await?;
        }
        self.0.fetch_max(rung + 1, Ordering::AcqRel);
        Ok(())
    }

    /// Forgets what it knows, as something of it has vanished.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Release);
    }
}

async fn declare_unrouted(topology: &Topology, channel: &Channel) -> Result<()> {
    let name = topology.names.unrouted();
    let none = FieldTable::default;
    topology.exchange(channel, name.clone(), ExchangeKind::Fanout, none()).await?;
    // A log with an end: what nobody took is looked at, if at all, within days.
    let arguments = table([
        ("x-queue-type", text("stream")),
        ("x-max-age", text("7D")),
        ("x-max-length-bytes", AMQPValue::LongLongInt(64 << 20)),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(8 << 20)),
    ]);
    topology.queue(channel, name.clone(), arguments).await?;
    topology.bind_queue(channel, &name, &name, "", none()).await
}

async fn declare_rung(topology: &Topology, channel: &Channel, rung: u32) -> Result<()> {
    let name = topology.names.delay(rung);
    let next = match rung.checked_sub(1) {
        Some(below) => topology.names.delay(below),
        None => topology.names.delay_exit(),
    };
    let millis = i64::try_from(UNIT_MS << rung).unwrap_or(i64::MAX);
    let mut arguments = table([
        ("x-message-ttl", AMQPValue::LongLongInt(millis)),
        ("x-dead-letter-exchange", text(next.as_str())),
    ]);
    if Mutant::AtMostOnceDelay.is_on(&topology.config) {
        arguments.insert("x-queue-type".into(), text("classic"));
    } else {
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
    }
    topology.exchange(channel, name.clone(), ExchangeKind::Topic, FieldTable::default()).await?;
    topology.queue(channel, name.clone(), arguments).await?;
    let before = "*.".repeat((RUNGS - 1 - rung) as usize);
    let (waits, passes) = (format!("{before}1.#"), format!("{before}0.#"));
    topology.bind_queue(channel, &name, &name, &waits, FieldTable::default()).await?;
    topology.bind_exchange(channel, &name, &next, short(passes)?, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_rounded_up_and_enters_at_its_highest_bit() {
        let walk = |millis| walk(Duration::from_millis(millis), 't', "orders").unwrap();
        assert_eq!((walk(1).rung, walk(10).rung, walk(11).rung, walk(100).rung), (0, 0, 1, 3));
        assert!(walk(100).routing_key.as_str().ends_with("1.0.1.0.t.orders"));
        assert_eq!(walk(100).left, Duration::ZERO);
    }

    #[test]
    fn the_longest_topic_and_the_longest_delay_fit() {
        let year = Duration::from_secs(365 * 24 * 3600);
        let walk = walk(year, 't', &"x".repeat(200)).unwrap();
        assert_eq!(walk.rung, RUNGS - 1);
        assert!(walk.left > Duration::from_secs(357 * 24 * 3600));
        assert!(exit_key('g', &"x".repeat(200)).is_ok());
    }
}
