//! The broker itself: topology, and what the five methods of the contract do with it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use trunkline_core::{
    Broker, BrokerAdmin, Capabilities, Durability, Event, GroupSpec, Health, Pattern,
    PublishOptions, Publishing, Result, StartAt, SubscribeOptions, Subscription,
};

use crate::config::MemoryConfig;
use crate::consume::MemorySubscription;
use crate::error::MemoryError;
use crate::history::{History, Since};
use crate::letters::Letters;
use crate::lock;
use crate::queue::Queue;
use crate::topology::Topology;

/// The broker's name in its capabilities, and in the positions of its events.
pub(crate) const NAME: &str = "memory";

/// A broker inside this process; clones share it.
///
/// Accepted means enqueued for every group and every broadcast subscriber that takes the topic, or,
/// with history, kept for groups to come. A topic that nobody takes is `Unroutable`. What it accepted
/// lives as long as the process, and until the broker is closed.
#[derive(Clone)]
pub struct MemoryBroker {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: MemoryConfig,
    capabilities: Capabilities,
    /// Publishing reads it and subscribing writes it, so that a subscription that has returned sees
    /// every later publish, and history no event twice.
    topology: RwLock<Topology>,
    pub(crate) letters: Mutex<Letters>,
    pub(crate) history: Option<Mutex<History>>,
    closed: AtomicBool,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new(MemoryConfig::default())
    }
}

impl MemoryBroker {
    /// A broker with these settings and no topics.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        let history = (config.history > 0).then(|| Mutex::new(History::new(config.history)));
        let mut capabilities = Capabilities::minimal(NAME, Durability::Process);
        capabilities.history = history.is_some();
        capabilities.start_at_time = history.is_some();
        capabilities.start_at_position = history.is_some();
        capabilities.delay = true;
        capabilities.priority_lanes = true;
        capabilities.buffer = true;
        capabilities.drop_oldest = true;
        capabilities.dead_letters = true;
        capabilities.cancel = true;
        capabilities.shared_keys = true;
        let shared = Shared {
            topology: RwLock::default(),
            letters: Mutex::new(Letters::new(config.max_dead_letters)),
            history,
            closed: AtomicBool::new(false),
            capabilities,
            config,
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn topology(&self) -> RwLockReadGuard<'_, Topology> {
        self.topology.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change_topology(&self) -> RwLockWriteGuard<'_, Topology> {
        self.topology.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(MemoryError::Closed(operation).into());
        }
        Ok(())
    }

    /// Changes the topology of a broker that is open: a close that begins meanwhile waits, and then
    /// ends what was added too.
    fn open_topology(&self, operation: &'static str) -> Result<RwLockWriteGuard<'_, Topology>> {
        let topology = self.change_topology();
        self.check_open(operation)?;
        Ok(topology)
    }

    /// Makes a group, or adds topics to it.
    pub(crate) fn join_group(
        &self,
        spec: &GroupSpec,
        operation: &'static str,
    ) -> Result<Arc<Queue>> {
        let since = Since::of(&spec.start)?;
        let mut topology = self.open_topology(operation)?;
        Ok(topology.join_group(&spec.name, &spec.topics, || {
            let capacity = spec.buffer.unwrap_or(self.config.buffer);
            let group = Some(spec.name.clone());
            let queue = Queue::new(group, capacity, spec.on_full, spec.order, spec.lanes);
            self.replay(&queue, since, &spec.topics);
            Arc::new(queue)
        }))
    }

    /// Gives a new queue what it missed; must be called while the topology is being changed.
    fn replay(&self, queue: &Queue, since: Option<Since>, topics: &[Pattern]) {
        let (Some(history), Some(since)) = (&self.history, since) else { return };
        for (event, place, due) in lock(history).since(since, topics) {
            queue.push_over(event.clone(), place, due);
        }
    }

    fn add_subscriber(&self, options: &SubscribeOptions) -> Result<(Arc<Queue>, u64)> {
        let capacity = options.buffer.unwrap_or(self.config.buffer);
        let queue = Queue::new(None, capacity, options.on_full, options.order, options.lanes);
        let queue = Arc::new(queue);
        // A broadcast subscriber takes what is published from now on unless it asks for more.
        let since = match &options.start {
            StartAt::Beginning => None,
            start => Since::of(start)?,
        };
        let mut topology = self.open_topology("subscribe")?;
        self.replay(&queue, since, &options.topics);
        let id = topology.add_subscriber(options.topics.clone(), Arc::clone(&queue));
        Ok((queue, id))
    }

    /// Joins a group as a member, or subscribes as a broadcast subscriber.
    fn join(self: &Arc<Self>, options: &SubscribeOptions) -> Result<MemorySubscription> {
        let member = |queue, subscriber| {
            MemorySubscription::new(Arc::clone(self), queue, subscriber, options.prefetch)
        };
        let Some(group) = &options.group else {
            let (queue, id) = self.add_subscriber(options)?;
            return Ok(member(queue, Some(id)));
        };
        let mut spec = GroupSpec::new(group.clone(), options.topics.iter().cloned());
        spec.start = options.start.clone();
        spec.buffer = options.buffer;
        spec.on_full = options.on_full;
        spec.order = options.order;
        spec.lanes = options.lanes;
        loop {
            let queue = self.join_group(&spec, "subscribe")?;
            let joined = member(Arc::clone(&queue), None);
            // A group that was deleted before this member was in it is made again.
            if !queue.room.is_closed() {
                return Ok(joined);
            }
        }
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        crate::publish::publish(&self.shared, events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.shared.check_open("subscribe")?;
        self.shared.capabilities.check_subscribe(&options)?;
        Ok(Box::new(self.shared.join(&options)?))
    }

    async fn health(&self) -> Health {
        if let Err(error) = self.shared.check_open("health") {
            return Health::down(error.to_string());
        }
        let topology = self.shared.topology();
        let depths = topology.queues().map(|queue| queue.depth());
        let (mut undelivered, mut in_flight, mut dropped) = (0, 0, 0);
        for depth in depths {
            undelivered += depth.undelivered;
            in_flight += depth.in_flight;
            dropped += depth.dropped;
        }
        Health::up()
            .with("groups", topology.groups.len())
            .with("subscribers", topology.subscriber_count())
            .with("undelivered", undelivered)
            .with("in_flight", in_flight)
            .with("dropped", dropped)
            .with("dead_letters", lock(&self.shared.letters).len())
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        let queues: Vec<_> = self.shared.topology().queues().cloned().collect();
        queues.iter().for_each(|queue| queue.end());
        Ok(())
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        Some(self)
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
