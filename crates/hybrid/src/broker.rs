//! The broker itself: two brokers, a strategy, and what the contract asks of them together.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;
use jiff::Timestamp;
use tracing::field::{Empty, display};
use trunkline_core::{
    Attributes, Broker, BrokerAdmin, Capabilities, Decision, Durability, Error, ErrorKind, Event,
    Health, HealthStatus, PublishOptions, Publishing, Result, RouteContext, RoutingStrategy,
    SubscribeOptions, Subscription,
};

use crate::config::{HybridConfig, OnRemoteDown};
use crate::consume;
use crate::counters::{Counters, HybridCounters};
use crate::echoes::Echoes;
use crate::publish;
use crate::remote::RemoteState;
use crate::strategy::{KeySplit, RulesStrategy};

/// A broker made of a local broker, a remote broker and a routing strategy; clones share it.
///
/// Its capabilities are what both sides can do, save `buffer`, which is the local side's: a server keeps
/// what a group has not taken by its own rules, and is not told. An event that is accepted survives what the broker it
/// went to survives: see [`HybridBroker::survives`]. The order of a key is kept within each side.
///
/// ```
/// use trunkline_core::{Broker, BrokerExt, Data, Event, Pattern, Route, SubscribeOptions, Topic};
/// use trunkline_hybrid::{HybridBroker, RoutingRules, RulesStrategy};
/// use trunkline_memory::{MemoryBroker, MemoryConfig};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// let rules = RoutingRules { local_types: vec!["Ping".into()], ..RoutingRules::default() };
/// let memory = || MemoryBroker::new(MemoryConfig::default());
/// let hybrid = HybridBroker::new(memory(), memory(), RulesStrategy::new(rules)?);
/// let _subscription = hybrid.subscribe(SubscribeOptions::broadcast([Pattern::all()])).await?;
///
/// let ping = Event::from_data("Ping", Topic::from_static("pings"), Data::json("1")).build()?;
/// assert_eq!(hybrid.explain(ping.attributes()).route, Route::Local);
/// hybrid.publish_one(&ping).await?;
/// assert_eq!(hybrid.counters().routed_local, 1);
/// # Ok::<(), trunkline_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct HybridBroker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) local: Arc<dyn Broker>,
    pub(crate) remote: Arc<dyn Broker>,
    strategy: Box<dyn RoutingStrategy>,
    key_split: KeySplit,
    pub(crate) config: HybridConfig,
    pub(crate) capabilities: Capabilities,
    pub(crate) counters: Counters,
    pub(crate) echoes: Arc<Echoes>,
    pub(crate) remote_state: RemoteState,
    closed: AtomicBool,
}

/// What an accepted event survives, by the side that it went to; `Display` is a line for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survives {
    /// The name of the local broker, and what its acceptance survives.
    pub local: (&'static str, Durability),
    /// The name of the remote broker, and what its acceptance survives.
    pub remote: (&'static str, Durability),
}

impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |durability| match durability {
            Durability::Process => "lives as long as this process",
            Durability::Server => "survives what the server's persistence setting says",
            Durability::Replicated => "survives the loss of a minority of servers",
        };
        let ((local, near), (remote, far)) = (self.local, self.remote);
        let (near, far) = (words(near), words(far));
        write!(f, "an event routed local ({local}) {near}, one routed remote ({remote}) {far}")
    }
}

impl HybridBroker {
    /// A hybrid that fails while its remote broker is down, and sends local events that nobody local
    /// takes to the remote broker.
    pub fn new(local: impl Broker, remote: impl Broker, strategy: impl RoutingStrategy) -> Self {
        Self::with_config(local, remote, strategy, HybridConfig::default())
    }

    /// A hybrid with a configuration of its own.
    pub fn with_config(
        local: impl Broker,
        remote: impl Broker,
        strategy: impl RoutingStrategy,
        config: HybridConfig,
    ) -> Self {
        // Only the default strategy can say so; the contract of a strategy is one function.
        let rules = (&strategy as &dyn Any).downcast_ref::<RulesStrategy>();
        let key_split = rules.map_or(KeySplit::Unknown, RulesStrategy::key_split);
        let mut capabilities = local.capabilities().intersection(remote.capabilities(), "hybrid");
        // An event stands in the log of one side, and its position says nothing to the other.
        capabilities.start_at_position = false;
        // What a server keeps for a group is no buffer of the group's; what waits here is.
        capabilities.buffer = local.capabilities().buffer;
        let inner = Inner {
            local: Arc::new(local),
            remote: Arc::new(remote),
            strategy: Box::new(strategy),
            key_split,
            config,
            capabilities,
            counters: Counters::default(),
            echoes: Arc::new(Echoes::new()),
            remote_state: RemoteState::new(),
            closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What was counted since the broker was made; keep a clone of the broker to read it later.
    #[must_use]
    pub fn counters(&self) -> HybridCounters {
        self.inner.counters.snapshot(self.inner.echoes.dropped.get())
    }

    /// The decision for an event with these attributes now; sends and counts nothing.
    #[must_use]
    pub fn explain(&self, attributes: &Attributes) -> Decision {
        self.inner.strategy.route(attributes, &self.inner.context(Timestamp::now(), None))
    }

    /// Whether the strategy can send one key both ways, and so gives up the order between the two.
    #[must_use]
    pub fn key_split(&self) -> &KeySplit {
        &self.inner.key_split
    }

    /// What an accepted event survives, by side.
    #[must_use]
    pub fn survives(&self) -> Survives {
        let of = |broker: &Arc<dyn Broker>| {
            let capabilities = broker.capabilities();
            (capabilities.name, capabilities.durability)
        };
        Survives { local: of(&self.inner.local), remote: of(&self.inner.remote) }
    }
}

impl Inner {
    fn context(&self, now: Timestamp, encoded_len: Option<usize>) -> RouteContext {
        RouteContext { remote_healthy: self.remote_state.is_up(), now, encoded_len }
    }

    pub(crate) fn decide(&self, event: &Event, now: Timestamp) -> Decision {
        let attributes = event.attributes();
        let span = tracing::debug_span!(
            "trunkline.route",
            "type" = attributes.event_type(),
            topic = attributes.topic().as_str(),
            route = Empty,
            reason = Empty,
        );
        let _entered = span.enter();
        let decision = self.strategy.route(attributes, &self.context(now, event.encoded_len()));
        if !span.is_disabled() {
            span.record("route", display(decision.route)).record("reason", &*decision.reason);
        }
        decision
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let message = "the hybrid broker is closed: open a new one";
            return Err(Error::new(ErrorKind::Closed, operation, message));
        }
        Ok(())
    }

    pub(crate) async fn check_remote(&self) -> Health {
        let health = self.remote.health().await;
        self.remote_state.note(health.status != HealthStatus::Down);
        health
    }
}

#[async_trait]
impl Broker for HybridBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        publish::publish(&self.inner, events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        consume::subscribe(&self.inner, options).await
    }

    async fn health(&self) -> Health {
        if let Err(error) = self.inner.check_open("health") {
            return Health::down(error.to_string());
        }
        let (local, remote) = join(self.inner.local.health(), self.inner.check_remote()).await;
        let far = match (remote.status, self.inner.config.on_remote_down) {
            (HealthStatus::Down, OnRemoteDown::Local) => HealthStatus::Degraded,
            (status, _) => status,
        };
        let reconnects = local.reconnects + remote.reconnects;
        let status = local.status.max(far);
        let mut health = Health { status, reconnects, facts: Vec::new() };
        for (side, found) in [("local", local), ("remote", remote)] {
            health.facts.push((format!("{side}.status"), status_word(found.status).to_owned()));
            let facts = found.facts.into_iter();
            health.facts.extend(facts.map(|(name, value)| (format!("{side}.{name}"), value)));
        }
        health
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.inner.closed.store(true, Ordering::Release);
        let (local, remote) =
            join(self.inner.local.close(deadline), self.inner.remote.close(deadline)).await;
        both(local, remote)
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        let both = self.inner.local.admin().is_some() && self.inner.remote.admin().is_some();
        both.then_some(self)
    }
}

impl fmt::Debug for HybridBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridBroker")
            .field("local", &self.inner.local)
            .field("remote", &self.inner.remote)
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// Names the side that failed; where both did, the local error becomes a fact of the remote one.
pub(crate) fn both(local: Result<()>, remote: Result<()>) -> Result<()> {
    match (local, remote) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(())) => Err(error.with("side", "local")),
        (Ok(()), Err(error)) => Err(error.with("side", "remote")),
        (Err(local), Err(remote)) => Err(remote.with("side", "remote").with("local side", local)),
    }
}

fn status_word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Up => "up",
        HealthStatus::Degraded => "degraded",
        HealthStatus::Down => "down",
    }
}
