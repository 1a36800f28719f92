//! Exchanges, queues and bindings: what the broker declares, and what it deletes.

use std::sync::Arc;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ExchangeKind};
use serde::{Deserialize, Serialize};
use trunkline_core::{Capabilities, Error, ErrorKind, Group, Pattern, Result};

use crate::config::{Declare, ExchangeType, RabbitMqConfig};
use crate::delay::exit_key;
use crate::error::{driver, undeclared};
use crate::names::{Names, TOPIC, short};
use crate::young::Young;

/// How long the queue of a broadcast subscriber outlives its connection. The server does not count
/// the time that it is down itself.
const BROADCAST_KEPT_MS: i32 = 600_000;

/// The settings of a group; they are the first declarer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    pub(crate) topics: Vec<Pattern>,
    /// Whether members share the events of one key.
    pub(crate) shared: bool,
    pub(crate) lanes: bool,
    pub(crate) partitions: u32,
}

/// A queue of a group, or of a broadcast subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueOf {
    pub(crate) name: ShortString,
    /// How urgent its events are; higher goes first.
    pub(crate) urgency: u8,
}

/// Knows what belongs to a broker's exchange, groups and subscribers.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) config: Arc<RabbitMqConfig>,
    pub(crate) names: Names,
    pub(crate) young: Young,
}

pub(crate) fn text(value: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value.into()))
}

pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(ShortString::from(name), value);
    }
    table
}

pub(crate) const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

pub(crate) const DURABLE_QUEUE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

pub(crate) const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, ..DURABLE_QUEUE };

const DECLARE: &str = "declare";

impl Topology {
    pub(crate) fn new(config: &Arc<RabbitMqConfig>) -> Result<Self> {
        let names = Names::new(&config.prefix, &config.exchange)?;
        Ok(Self { config: Arc::clone(config), names, young: Young::default() })
    }

    fn kind(&self) -> ExchangeKind {
        match self.config.exchange_type {
            ExchangeType::Topic => ExchangeKind::Topic,
            ExchangeType::Direct => ExchangeKind::Direct,
            ExchangeType::Fanout => ExchangeKind::Fanout,
            ExchangeType::Headers => ExchangeKind::Headers,
        }
    }

    /// Whether the exchange and the queues of groups are declared.
    pub(crate) fn is_free(&self) -> bool {
        self.config.declare == Declare::All
    }

    /// Whether there is anything under names of our own.
    pub(crate) fn has_own(&self) -> bool {
        self.config.declare != Declare::Nothing
    }

    /// Whether the exchange hands a group what its patterns do not match too.
    pub(crate) fn filters(&self) -> bool {
        matches!(self.config.exchange_type, ExchangeType::Fanout)
    }

    /// The exchanges that every publish and every group needs.
    pub(crate) async fn declare_base(&self, channel: &Channel) -> Result<()> {
        let main = self.names.exchange.clone();
        let is_predeclared = main.as_str().starts_with("amq.");
        let options =
            ExchangeDeclareOptions { passive: !self.is_free() || is_predeclared, ..DURABLE };
        let none = FieldTable::default();
        let declared = channel.exchange_declare(main, self.kind(), options, none.clone()).await;
        declared.map_err(|cause| driver(DECLARE, cause))?;
        if !self.has_own() {
            return Ok(());
        }
        for name in [self.names.broadcast_only(), self.names.delay_exit()] {
            let arguments = if name == self.names.delay_exit() {
                table([("alternate-exchange", text(self.names.unrouted().as_str()))])
            } else {
                none.clone()
            };
            let declared = channel.exchange_declare(name, ExchangeKind::Topic, DURABLE, arguments);
            declared.await.map_err(|cause| driver(DECLARE, cause))?;
        }
        Ok(())
    }

    /// Declares the queue of a broadcast subscriber.
    pub(crate) async fn declare_broadcast(
        &self,
        channel: &Channel,
        id: &str,
        topics: &[Pattern],
    ) -> Result<()> {
        let queue = self.names.broadcast_queue(id);
        let expiry = table([("x-expires", AMQPValue::LongInt(BROADCAST_KEPT_MS))]);
        self.queue(channel, queue.clone(), expiry).await?;
        let exit = self.names.delay_exit();
        for topic in topics {
            let (key, arguments) = self.binding(topic)?;
            self.bind_queue(channel, &queue, &self.names.exchange, key.as_str(), arguments).await?;
            let none = FieldTable::default;
            let only = self.names.broadcast_only();
            self.bind_queue(channel, &queue, &only, topic.as_str(), none()).await?;
            for kind in ['t', 'b'] {
                let key = exit_key(kind, topic.as_str())?;
                self.bind_queue(channel, &queue, &exit, key.as_str(), none()).await?;
            }
        }
        let key = exit_key('q', id)?;
        self.bind_queue(channel, &queue, &exit, key.as_str(), FieldTable::default()).await?;
        self.settle_down(channel).await
    }

    /// The binding of a pattern to the main exchange.
    pub(crate) fn binding(&self, pattern: &Pattern) -> Result<(ShortString, FieldTable)> {
        let key = short(pattern.as_str())?;
        let is_all = pattern.as_str() == "#";
        match self.config.exchange_type {
            ExchangeType::Topic => Ok((key, FieldTable::default())),
            ExchangeType::Fanout => Ok((ShortString::default(), FieldTable::default())),
            ExchangeType::Direct if pattern.exact().is_some() => Ok((key, FieldTable::default())),
            ExchangeType::Headers if is_all => {
                Ok((ShortString::default(), table([("x-match", text("all"))])))
            }
            ExchangeType::Headers if pattern.exact().is_some() => {
                let matching = table([("x-match", text("all")), (TOPIC, text(pattern.as_str()))]);
                Ok((key, matching))
            }
            kind => {
                let message = format!(
                    "the pattern `{pattern}` needs an exchange of type topic, and `{}` is {kind:?}",
                    self.names.exchange
                );
                Err(Error::new(ErrorKind::Unsupported, "subscribe", message))
            }
        }
    }

    /// Fails, before any I/O, for what the exchange's type or a queue of others cannot do.
    pub(crate) fn check(
        &self,
        capabilities: &Capabilities,
        group: Option<&Group>,
        topics: &[Pattern],
        lanes: bool,
    ) -> Result<()> {
        let unsupported = |message| Err(Error::new(ErrorKind::Unsupported, "subscribe", message));
        if group.is_none() && !self.has_own() {
            return unsupported(
                "a broadcast subscriber needs a queue of its own, and nothing is to be declared: \
                 subscribe as a group, or let the broker declare what is its own",
            );
        }
        if let Some(group) = group.filter(|group| !self.owns(group)) {
            // Its queues are bound by others, to whatever they like.
            return if lanes {
                unsupported("lanes need queues that the broker declares, and these exist already")
                    .map_err(|error| error.with("group", group))
            } else {
                Ok(())
            };
        }
        for topic in topics {
            self.binding(topic)?;
        }
        let Some(group) = group else { return Ok(()) };
        let name = self.names.group(group);
        if name == self.names.exchange || group.as_str().starts_with("amq.") {
            let message = "a group may be called neither like the exchange nor `amq.…`: its own \
                           exchange has its name";
            let error = Error::new(ErrorKind::Invalid, "subscribe", message);
            return Err(error.with("group", group).with("broker", capabilities.name));
        }
        Ok(())
    }

    /// Waits until the server has done all that was sent without waiting.
    pub(crate) async fn settle_down(&self, channel: &Channel) -> Result<()> {
        let passive = ExchangeDeclareOptions { passive: true, ..DURABLE };
        let main = self.names.exchange.clone();
        let asked = channel.exchange_declare(main, self.kind(), passive, FieldTable::default());
        asked.await.map_err(|cause| driver(DECLARE, cause))
    }

    pub(crate) async fn queue(
        &self,
        channel: &Channel,
        name: ShortString,
        arguments: FieldTable,
    ) -> Result<()> {
        let declared = channel.queue_declare(name.clone(), DURABLE_QUEUE, arguments).await;
        declared.map(drop).map_err(|cause| undeclared(&name, cause))
    }

    pub(crate) async fn exchange(
        &self,
        channel: &Channel,
        name: ShortString,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<()> {
        let declared = channel.exchange_declare(name, kind, DURABLE, arguments).await;
        declared.map_err(|cause| driver(DECLARE, cause))
    }

    pub(crate) async fn bind_queue(
        &self,
        channel: &Channel,
        queue: &ShortString,
        exchange: &ShortString,
        key: &str,
        arguments: FieldTable,
    ) -> Result<()> {
        let options = QueueBindOptions { nowait: true };
        let (queue, exchange) = (queue.clone(), exchange.clone());
        let bound = channel.queue_bind(queue, exchange, short(key)?, options, arguments).await;
        bound.map_err(|cause| driver(DECLARE, cause))
    }

    pub(crate) async fn bind_exchange(
        &self,
        channel: &Channel,
        from: &ShortString,
        to: &ShortString,
        key: ShortString,
        arguments: Option<FieldTable>,
    ) -> Result<()> {
        let options = ExchangeBindOptions { nowait: true };
        let arguments = arguments.unwrap_or_default();
        let bound = channel.exchange_bind(to.clone(), from.clone(), key, options, arguments).await;
        bound.map_err(|cause| driver(DECLARE, cause))
    }
}
