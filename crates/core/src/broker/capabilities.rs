//! What a broker can do.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// What an accepted event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: it lives in this process.
    Process,
    /// What the server's persistence setting says.
    Server,
    /// The loss of a minority of servers.
    Replicated,
}

/// What a broker can do: declared honestly, pinned in its tests, checked when a bus starts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The broker's name in errors and logs.
    pub name: &'static str,
    /// What an accepted event survives.
    pub durability: Durability,
    /// Whether a new group may begin with events published before it.
    pub history: bool,
    /// Whether a new group may begin at a time.
    pub start_at_time: bool,
    /// Whether deliveries tell their position, and a new group may begin at one.
    pub start_at_position: bool,
    /// Whether deliveries and publishes may be delayed.
    pub delay: bool,
    /// Whether more urgent events may overtake less urgent ones.
    pub priority_lanes: bool,
    /// Whether a group, or a broadcast subscriber, keeps a bounded number of undelivered events. A server
    /// that keeps them itself has its own limits, and `buffer` and `on_full` would say nothing to it.
    pub buffer: bool,
    /// Whether a full buffer may drop its oldest event.
    pub drop_oldest: bool,
    /// Whether dead letters are kept and can be read and settled.
    pub dead_letters: bool,
    /// Whether a delayed publish can be taken back before it is due.
    pub cancel: bool,
    /// Whether members of a group without order share even the events of one key. Where they do not, a
    /// group without order keeps it all the same: that breaks no promise, and the option is accepted.
    pub shared_keys: bool,
    /// Whether a publish may choose the partition.
    pub partition: bool,
    /// Whether a publish may choose the exchange and the routing key.
    pub exchange: bool,
    /// Whether a publish may add headers.
    pub headers: bool,
}

impl Capabilities {
    /// A broker that can do none of the optional things.
    #[must_use]
    pub const fn minimal(name: &'static str, durability: Durability) -> Self {
        Self {
            name,
            durability,
            history: false,
            start_at_time: false,
            start_at_position: false,
            delay: false,
            priority_lanes: false,
            buffer: false,
            drop_oldest: false,
            dead_letters: false,
            cancel: false,
            shared_keys: false,
            partition: false,
            exchange: false,
            headers: false,
        }
    }

    /// What both brokers can do, under a name of its own; an event survives what the weaker survives.
    #[must_use]
    pub fn intersection(&self, other: &Self, name: &'static str) -> Self {
        Self {
            name,
            durability: self.durability.min(other.durability),
            history: self.history && other.history,
            start_at_time: self.start_at_time && other.start_at_time,
            start_at_position: self.start_at_position && other.start_at_position,
            delay: self.delay && other.delay,
            priority_lanes: self.priority_lanes && other.priority_lanes,
            buffer: self.buffer && other.buffer,
            drop_oldest: self.drop_oldest && other.drop_oldest,
            dead_letters: self.dead_letters && other.dead_letters,
            cancel: self.cancel && other.cancel,
            shared_keys: self.shared_keys && other.shared_keys,
            partition: self.partition && other.partition,
            exchange: self.exchange && other.exchange,
            headers: self.headers && other.headers,
        }
    }

    /// Fails, before any I/O, when `has` is false.
    ///
    /// # Errors
    /// `Unsupported`, naming who asks, the capability and the broker.
    pub fn require(
        &self,
        has: bool,
        capability: &'static str,
        asker: impl fmt::Display,
    ) -> Result<()> {
        if has {
            return Ok(());
        }
        let message = format!("{asker} needs `{capability}`, which the {} broker lacks", self.name);
        Err(Error::new(ErrorKind::Unsupported, "check capabilities", message)
            .with("capability", capability)
            .with("broker", self.name))
    }

    /// Checks the options of a subscribe.
    ///
    /// # Errors
    /// `Unsupported` for an option that the broker lacks, `Invalid` for options without topics or
    /// with a prefetch or a buffer of 0.
    pub fn check_subscribe(&self, options: &super::SubscribeOptions) -> Result<()> {
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, "subscribe", message));
        if options.topics.is_empty() {
            return invalid("a subscription needs at least one topic pattern");
        }
        if options.prefetch == 0 {
            return invalid("a subscription needs a prefetch of at least 1");
        }
        if options.buffer == Some(0) {
            return invalid("a buffer of 0 would take no event: give it room for at least 1");
        }
        let (has, capability) = match options.start {
            super::StartAt::Time(_) => (self.start_at_time, "start_at_time"),
            super::StartAt::Position(_) => (self.start_at_position, "start_at_position"),
            super::StartAt::Beginning | super::StartAt::Latest => (true, "history"),
        };
        self.require(has, capability, "the subscription")?;
        self.require(self.priority_lanes || !options.lanes, "priority_lanes", "the subscription")?;
        let drops = options.on_full == super::OnFull::DropOldest;
        self.require(self.drop_oldest || !drops, "drop_oldest", "the subscription")?;
        let bounds = options.buffer.is_some() || options.on_full == super::OnFull::Error;
        self.require(self.buffer || !bounds, "buffer", "the subscription")
    }

    /// Checks the options of a publish.
    ///
    /// # Errors
    /// `Unsupported` for a delay or an override that the broker lacks.
    pub fn check_publish(&self, options: &super::PublishOptions) -> Result<()> {
        self.require(self.delay || options.delay.is_none(), "delay", "the publish")?;
        let Some(wire) = &options.wire else { return Ok(()) };
        let places = wire.exchange.is_some() || wire.routing_key.is_some();
        self.require(self.partition || wire.partition.is_none(), "partition", "the publish")?;
        self.require(self.exchange || !places, "exchange", "the publish")?;
        self.require(self.headers || wire.headers.is_empty(), "headers", "the publish")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{BrokerPosition, StartAt, SubscribeOptions};
    use crate::topic::Pattern;

    #[test]
    fn an_option_that_the_broker_lacks_is_refused_by_name() {
        let capabilities = Capabilities::minimal("paper", Durability::Process);
        let starts = [
            (StartAt::Time(jiff::Timestamp::UNIX_EPOCH), "start_at_time"),
            (StartAt::Position(BrokerPosition::new("paper", 17)), "start_at_position"),
        ];
        for (start, lacking) in starts {
            let options = SubscribeOptions::broadcast([Pattern::all()]).with_start(start);
            let error = capabilities.check_subscribe(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let words = format!("`{lacking}`, which the paper broker lacks");
            assert!(error.to_string().contains(&words), "{error}");
        }
    }

    #[test]
    fn an_intersection_has_only_what_both_have() {
        let mut left = Capabilities::minimal("left", Durability::Process);
        let mut right = Capabilities::minimal("right", Durability::Replicated);
        left.delay = true;
        right.delay = true;
        right.history = true;
        let both = left.intersection(&right, "both");
        assert!(both.delay && !both.history);
        assert_eq!(both.durability, Durability::Process);
    }
}
