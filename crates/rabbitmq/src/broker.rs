//! The broker itself: its two connections, and what the five methods of the contract do with them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_core::{
    Audience, Broker, BrokerAdmin, Capabilities, Durability, Error, ErrorKind, Event, Group,
    Health, HealthStatus, Order, PublishOptions, Publishing, Result, SubscribeOptions,
    Subscription,
};

use crate::config::{QueueType, RabbitMqConfig};
use crate::consume::{RabbitMqSubscription, Seat};
use crate::delay::Ladder;
use crate::error::{close_timed_out, closed, driver};
use crate::groups::Groups;
use crate::limit::Limits;
use crate::link::Link;
use crate::lock;
use crate::log::Log;
use crate::names::short;
use crate::publish::Publisher;
use crate::registry::Registry;
use crate::topology::{GroupRecord, Topology};

/// A broker over RabbitMQ; clones share it.
///
/// Accepted means confirmed by every durable queue that the event was routed to. Events of one key
/// go to one queue of a group, which one member consumes at a time. What is retried, delayed or given
/// up is confirmed elsewhere before it is acknowledged, so that a failure can double it and not lose
/// it.
#[derive(Clone)]
pub struct RabbitMqBroker {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Arc<RabbitMqConfig>,
    capabilities: Capabilities,
    /// Publishing and consuming apart: a server short of memory blocks the connections that publish,
    /// acknowledgements on them included.
    publish_link: Arc<Link>,
    pub(crate) consume_link: Arc<Link>,
    /// Declarations, questions and logs: the server answers some of them by ending the connection, such
    /// as a publish to a stream that another process is just making.
    pub(crate) control_link: Arc<Link>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) publisher: Publisher,
    /// Publishes to logs, on the connection of its own.
    pub(crate) records: Publisher,
    /// A receiver for each publish that has begun.
    publishing: watch::Sender<()>,
    ladder: Ladder,
    pub(crate) registry: Arc<Log<Registry>>,
    pub(crate) groups: Groups,
    pub(crate) limits: Limits,
    /// One at a time settles dead letters, so that this process settles each once.
    pub(crate) settling: tokio::sync::Mutex<()>,
    /// Exchanges that a publish named and that are there.
    foreign: Mutex<HashSet<SmolStr>>,
    /// The subscriptions of this process, for what only they know.
    seats: Mutex<Vec<Weak<Seat>>>,
    tasks: Mutex<JoinSet<()>>,
    closing: watch::Sender<Option<Instant>>,
    /// A receiver for each subscription that has not left.
    live: watch::Sender<()>,
    is_closed: AtomicBool,
    me: Weak<Shared>,
}

impl RabbitMqBroker {
    /// Connects to the server, which is tried for until `connect_timeout` is over.
    ///
    /// # Errors
    /// `Disconnected`, with the address, when it cannot be reached; `Config` for settings or
    /// credentials that are wrong.
    pub async fn connect(config: RabbitMqConfig) -> Result<Self> {
        config.check()?;
        let config = Arc::new(config);
        let topology = Arc::new(Topology::new(&config)?);
        let publish_link = Arc::new(Link::open(&config, "publish").await?);
        let consume_link = Arc::new(Link::open(&config, "consume").await?);
        let control_link = Arc::new(Link::open(&config, "control").await?);
        let (stuck, reports) = mpsc::unbounded_channel();
        let channels = config.confirm_channels;
        let publisher = Publisher::start(&config, &publish_link, &topology, &stuck, channels);
        let records = Publisher::start(&config, &control_link, &topology, &stuck, 1);
        let shared = Arc::new_cyclic(|me: &Weak<Shared>| Shared {
            capabilities: capabilities(&topology),
            registry: Log::new(
                topology.names.registry(),
                me,
                FieldTable::default(),
                Registry::new(&topology),
            ),
            config,
            publish_link,
            consume_link,
            control_link,
            topology,
            publisher,
            records,
            publishing: watch::Sender::new(()),
            ladder: Ladder::default(),
            groups: Groups::default(),
            limits: Limits::default(),
            settling: tokio::sync::Mutex::default(),
            foreign: Mutex::default(),
            seats: Mutex::default(),
            tasks: Mutex::default(),
            closing: watch::Sender::new(None),
            live: watch::Sender::new(()),
            is_closed: AtomicBool::new(false),
            me: Weak::clone(me),
        });
        shared.declare_base().await?;
        if shared.topology.has_own() {
            // Publishers too have to know of groups that are being made.
            shared.registry.follow().await?;
        }
        shared.spawn(crate::repair::repair(Arc::downgrade(&shared), reports));
        Ok(Self { shared })
    }
}

/// What RabbitMQ can do with what is declared; of queues that others made nothing is known.
fn capabilities(topology: &Topology) -> Capabilities {
    let config = &topology.config;
    let is_replicated = topology.is_free()
        && config.queue_type == QueueType::Quorum
        && config.group_queues.is_empty();
    let durability = if is_replicated { Durability::Replicated } else { Durability::Server };
    let mut capabilities = Capabilities::minimal("rabbitmq", durability);
    capabilities.delay = topology.has_own();
    capabilities.priority_lanes = topology.is_free();
    capabilities.dead_letters = topology.has_own();
    capabilities.shared_keys = topology.is_free();
    capabilities.exchange = true;
    capabilities.headers = true;
    capabilities
}

impl Shared {
    pub(crate) fn me(&self) -> &Weak<Self> {
        &self.me
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    pub(crate) fn check_publish(&self, options: &PublishOptions) -> Result<()> {
        self.capabilities.check_publish(options)?;
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, "publish", message));
        let only_broadcast = options.audience == Audience::BroadcastOnly;
        if only_broadcast && !self.topology.has_own() {
            let message = "a publish to broadcast subscribers alone needs an exchange of their own, and \
                           nothing is to be declared";
            return Err(Error::new(ErrorKind::Unsupported, "publish", message));
        }
        let Some(wire) = &options.wire else { return Ok(()) };
        let is_moved = wire.exchange.is_some() || wire.routing_key.is_some();
        if is_moved && options.delay.is_some() {
            return invalid(
                "a delayed publish cannot choose the exchange or the routing key: its events come out \
                 of the delay where groups are bound",
            );
        }
        if wire.exchange.is_some() && only_broadcast {
            return invalid("another exchange does not know which of its queues are broadcast");
        }
        Ok(())
    }

    /// Runs a task for as long as the broker lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Tells when the broker is being closed, and until when.
    pub(crate) fn closing(&self) -> watch::Receiver<Option<Instant>> {
        self.closing.subscribe()
    }

    pub(crate) fn seat(&self, seat: &Arc<Seat>) {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(seat));
    }

    /// The groups that take from queues of others, as far as this process knows.
    pub(crate) fn groups_of_others(&self) -> BTreeMap<Group, GroupRecord> {
        let record = |topics| self.group_record(topics, Order::PerKey, false);
        let configured = self.config.group_queues.keys();
        let mut groups: BTreeMap<Group, GroupRecord> =
            configured.map(|group| (group.clone(), record(Vec::new()))).collect();
        for seat in lock(&self.seats).iter().filter_map(Weak::upgrade) {
            if let Some(group) = seat.group().filter(|group| !self.topology.owns(group)) {
                groups.insert(group.clone(), record(seat.topics.clone()));
            }
        }
        groups
    }

    /// What this process has of a group that is not out, and what is out.
    pub(crate) fn counts_of(&self, group: &Group) -> (usize, usize) {
        let seats: Vec<Arc<Seat>> = lock(&self.seats).iter().filter_map(Weak::upgrade).collect();
        let of_group = seats.iter().filter(|seat| seat.group() == Some(group));
        of_group.fold((0, 0), |(here, out), seat| {
            let (more_here, more_out) = lock(&seat.inbox).counts();
            (here + more_here, out + more_out)
        })
    }

    /// Held by a subscription until it has left.
    pub(crate) fn attend(&self) -> watch::Receiver<()> {
        self.live.subscribe()
    }

    /// A channel of its own for a few calls: an error ends no other.
    pub(crate) async fn control_channel(&self, operation: &'static str) -> Result<Channel> {
        let deadline = Instant::now() + self.config.connect_timeout;
        let live = self.control_link.live(deadline, operation).await?;
        live.channel(operation).await
    }

    /// Held by a publish until it has its outcome.
    pub(crate) fn begin_publish(&self) -> watch::Receiver<()> {
        self.publishing.subscribe()
    }

    /// Closes such a channel; one that an error has closed is gone already.
    pub(crate) async fn leave(&self, channel: Channel) {
        if channel.status().connected()
            && let Ok(Err(cause)) =
                timeout(self.config.connect_timeout, channel.close(200, "done".into())).await
        {
            tracing::debug!(%cause, "a channel was gone before it was closed");
        }
    }

    pub(crate) async fn declare_base(&self) -> Result<()> {
        let channel = self.control_channel("declare").await?;
        let declared = self.topology.declare_base(&channel).await;
        self.leave(channel).await;
        declared
    }

    pub(crate) async fn ensure_ladder(&self, rung: u32) -> Result<()> {
        if self.ladder.has(rung) {
            return Ok(());
        }
        let channel = self.control_channel("declare").await?;
        let declared = self.ladder.declare(&self.topology, &channel, rung).await;
        self.leave(channel).await;
        declared
    }

    pub(crate) fn forget_ladder(&self) {
        self.ladder.forget();
    }

    /// Fails for an exchange that is not there: a publish to it would end the channel, with everything
    /// on its way.
    pub(crate) async fn ensure_exchange(&self, name: &SmolStr) -> Result<()> {
        if name.is_empty() || lock(&self.foreign).contains(name) {
            return Ok(());
        }
        let channel = self.control_channel("publish").await?;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = lapin::ExchangeKind::Topic;
        let name_on_wire: ShortString = short(name.as_str())?;
        let asked = channel.exchange_declare(name_on_wire, kind, passive, FieldTable::default());
        let asked = asked.await;
        self.leave(channel).await;
        asked.map_err(|cause| driver("publish", cause).with("exchange", name))?;
        lock(&self.foreign).insert(name.clone());
        Ok(())
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        crate::publish::publish(&self.shared, events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.shared.check_open("subscribe")?;
        self.shared.capabilities.check_subscribe(&options)?;
        self.shared.topology.check(
            &self.shared.capabilities,
            options.group.as_ref(),
            &options.topics,
            options.lanes,
        )?;
        Ok(Box::new(RabbitMqSubscription::open(&self.shared, options).await?))
    }

    async fn health(&self) -> Health {
        let shared = &self.shared;
        let links = [&shared.publish_link, &shared.consume_link, &shared.control_link];
        let reconnects = links.iter().map(|link| link.reconnects()).sum();
        if let Err(error) = shared.check_open("health") {
            return Health::down(error.to_string()).with_reconnects(reconnects);
        }
        let publish = shared.publish_link.now();
        let is_blocked = publish.as_ref().is_some_and(|l| l.connection.status().blocked());
        let ups = [publish.is_some(), shared.consume_link.now().is_some()];
        let mut health = Health::up().with_reconnects(reconnects);
        health.status = match ups {
            [true, true] if !is_blocked => HealthStatus::Up,
            [false, false] => HealthStatus::Down,
            _ => HealthStatus::Degraded,
        };
        health
            .with("address", shared.config.address())
            .with("publishing", if ups[0] { "connected" } else { "reconnecting" })
            .with("consuming", if ups[1] { "connected" } else { "reconnecting" })
            .with("blocked", is_blocked)
            .with("subscriptions", shared.live.receiver_count())
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let shared = &self.shared;
        let deadline = Instant::now() + deadline;
        shared.is_closed.store(true, Ordering::Release);
        shared.closing.send_replace(Some(deadline));
        let have_left = timeout_at(deadline, shared.live.closed()).await.is_ok();
        let flushes = shared.is_flushing();
        if flushes && timeout_at(deadline, shared.publishing.closed()).await.is_err() {
            tracing::warn!("the deadline of close passed while events were being published");
        }
        let mut is_flushed = shared.publisher.close(deadline, flushes).await;
        is_flushed &= shared.records.close(deadline, flushes).await;
        for link in [&shared.publish_link, &shared.consume_link, &shared.control_link] {
            link.close(deadline).await;
        }
        lock(&shared.tasks).abort_all();
        if have_left && is_flushed { Ok(()) } else { Err(close_timed_out()) }
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        Some(self)
    }
}

impl fmt::Debug for RabbitMqBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqBroker")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
