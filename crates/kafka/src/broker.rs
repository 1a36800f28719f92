//! The broker itself: its clients, its subscriptions, and the five methods of the contract.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::Consumer as _;
use tokio::sync::Notify;
use trunkline_core::{
    Broker, BrokerAdmin, Capabilities, Durability, Event, Health, HealthStatus, PublishOptions,
    Publishing, Result, SubscribeOptions, Subscription, Topic,
};

use crate::client::{Clients, Link, Probe};
use crate::config::KafkaConfig;
use crate::gate::Gate;
use crate::producer::Producer;
use crate::properties::MAX_POLL_DEFAULT;
use crate::registry::Registry;
use crate::seat::Seat;
use crate::topics::{Place, Topics, blocking};
use crate::{consume, discovery, error, lock};

/// How long one question for a sign of life may take.
const LIFE: Duration = Duration::from_secs(2);
/// How long other servers have to answer after one has turned this program away.
const OTHERS: Duration = Duration::from_millis(500);
/// A server that has been silent for so long counts as down.
const SILENCE: Duration = Duration::from_secs(6);

/// The broker's name in its capabilities, and in the positions of its events.
pub(crate) const NAME: &str = "kafka";

/// A broker over a Kafka cluster; clones share it.
///
/// Accepted means that all replicas in sync have the event (`acks=all`). On a single node that survives
/// the death of the server's process, not the loss of its power: Kafka does not sync each record to disk.
/// It must be connected and used within a tokio runtime.
#[derive(Clone)]
pub struct KafkaBroker {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) clients: Clients,
    pub(crate) capabilities: Capabilities,
    pub(crate) topics: Topics,
    pub(crate) producer: Producer,
    pub(crate) registry: Registry,
    /// Told when a group has changed.
    pub(crate) changed: Arc<Notify>,
    pub(crate) mover: tokio::sync::Mutex<bool>,
    /// Held while a dead letter is settled.
    pub(crate) settling: tokio::sync::Mutex<()>,
    seats: Mutex<Vec<Weak<Seat>>>,
    /// Through which publishes come.
    pub(crate) gate: Gate,
    closed: AtomicBool,
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::minimal(NAME, Durability::Replicated);
    capabilities.history = true;
    capabilities.start_at_time = true;
    capabilities.start_at_position = true;
    capabilities.delay = true;
    capabilities.priority_lanes = true;
    capabilities.dead_letters = true;
    capabilities.partition = true;
    capabilities.headers = true;
    capabilities
}

impl KafkaBroker {
    /// Connects to the servers of `config`; tries until its `connect_timeout` is over.
    ///
    /// # Errors
    /// `Disconnected` when no server answers in time, naming the servers; `Config` for a setting that
    /// librdkafka refuses, and when servers refuse the login or the TLS handshake fails.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn connect(config: KafkaConfig) -> Result<Self> {
        config.check()?;
        let clients = Clients { config: Arc::new(config), link: Arc::new(Link::default()) };
        let maker = clients.clone();
        // Making a client reads files and starts threads.
        let (probe, producer) = blocking("connect", move || {
            let probe = maker.probe()?;
            greet(&maker, &probe)?;
            Ok((Arc::new(probe), Producer::new(maker)?))
        })
        .await?;
        let topics = Topics::new(clients.clone(), probe)?;
        let changed = Arc::new(Notify::new());
        let names = topics.names.clone();
        let shared = Arc::new(Shared {
            registry: Registry::new(clients.clone(), names, Arc::clone(&changed)),
            capabilities: capabilities(),
            topics,
            producer,
            changed,
            mover: tokio::sync::Mutex::new(false),
            settling: tokio::sync::Mutex::new(()),
            seats: Mutex::default(),
            gate: Gate::default(),
            closed: AtomicBool::new(false),
            clients,
        });
        tokio::spawn(discovery::run(Arc::downgrade(&shared)));
        tokio::spawn(discovery::pulse(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

/// Asks for metadata until a server answers, or some have turned this program away and no other answers.
fn greet(clients: &Clients, probe: &Probe) -> Result<()> {
    let mut deadline = Instant::now() + clients.config.connect_timeout;
    let mut refusal = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = if refusal.is_some() { OTHERS } else { LIFE };
        let limit = left.min(limit).max(Duration::from_millis(1));
        match probe.fetch_metadata(Some(&clients.config.prefix_topic()), limit) {
            Ok(_) => {
                clients.link.heard();
                return Ok(());
            }
            Err(cause) if left.is_zero() => {
                let servers = &clients.config.servers;
                return Err(match refusal {
                    Some(refusal) => error::refused_connection(refusal, servers, &cause),
                    None => error::disconnected("connect", servers, &cause),
                });
            }
            Err(_) => {
                // What the client has to say, such as a refused login, is said while it is polled.
                drop(probe.poll(Duration::from_millis(20)));
                let found = clients.link.refusal();
                if refusal.is_none() && found.is_some() {
                    deadline = deadline.min(Instant::now() + OTHERS);
                }
                refusal = found;
            }
        }
    }
}

impl Shared {
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(error::closed(operation)) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn seats(&self) -> Vec<Arc<Seat>> {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn add_seat(&self, seat: &Arc<Seat>) {
        lock(&self.seats).push(Arc::downgrade(seat));
    }

    /// Where a topic is. One that is made here is taken by subscriptions of this process at once.
    pub(crate) async fn place(&self, topic: &Topic) -> Result<Arc<Place>> {
        let (place, is_new) = self.topics.place(topic).await?;
        if is_new {
            let wildcards = self.seats().into_iter().filter(|seat| seat.takes(topic));
            for seat in wildcards {
                seat.add_topics([place.name.clone()]);
            }
        }
        Ok(place)
    }

    /// Notes whether a server answers.
    pub(crate) async fn ask_for_life(&self) {
        let (name, link) = (self.clients.config.prefix_topic(), Arc::clone(&self.clients.link));
        let answer = self.topics.ask("health", move |probe| {
            // Serves the errors that the client has noted.
            drop(probe.poll(Duration::ZERO));
            let answer = probe.fetch_metadata(Some(&name), LIFE);
            answer.map(drop).map_err(|cause| error::request("health", cause))
        });
        match answer.await {
            Ok(()) => link.heard(),
            Err(_) => link.lose(),
        }
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        crate::publish::publish(&self.shared, events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.shared.check_open("subscribe")?;
        self.shared.capabilities.check_subscribe(&options)?;
        consume::subscribe(&self.shared, options).await
    }

    async fn health(&self) -> Health {
        if let Err(error) = self.shared.check_open("health") {
            return Health::down(error.to_string());
        }
        let link = &self.shared.clients.link;
        let silence = link.silence();
        let seats = self.shared.seats();
        let limit = self.shared.clients.config.max_poll_interval().unwrap_or(MAX_POLL_DEFAULT);
        let polled = seats.iter().filter(|seat| !seat.is_over.load(Ordering::Acquire));
        let last_poll = polled.map(|seat| seat.since_round()).max().unwrap_or_default();
        let is_late = last_poll > limit || seats.iter().any(|seat| seat.is_thrown_out());
        let health = match link.refusal() {
            Some(refusal) => Health::down(refusal.advice()),
            None if link.is_lost() || silence > SILENCE => Health::down("no Kafka server answers"),
            None if is_late => Health { status: HealthStatus::Degraded, ..Health::up() }
                .with("reason", "a consumer was not polled in time: others get its partitions"),
            None => Health::up(),
        };
        health
            .with_reconnects(link.reconnects())
            .with("servers", &self.shared.clients.config.servers)
            .with("last_heard_ms", silence.as_millis())
            .with("subscriptions", seats.len())
            .with("last_poll_ms", last_poll.as_millis())
            .with("missed_polls", link.missed_polls())
            .with("unconfirmed", self.shared.producer.in_flight())
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let begun = Instant::now();
        self.shared.closed.store(true, Ordering::Release);
        // The rest is for the flush.
        let by = begun + deadline.mul_f64(0.8);
        let seats = self.shared.seats();
        for seat in &seats {
            seat.end();
            seat.stop(by);
        }
        self.shared.registry.stop();
        self.shared.changed.notify_one();
        let left = || (begun + deadline).saturating_duration_since(Instant::now());
        let mut left_all = Ok(());
        for seat in &seats {
            // The flush needs a little of the time as well.
            let limit = left().saturating_sub(deadline / 20);
            left_all = left_all.and(consume::finished(seat, limit).await);
        }
        // A publish that has begun is not cut off in the middle of its batch, as long as it gets on.
        self.shared.gate.close(left().mul_f64(0.5)).await;
        let flushed = self.shared.producer.flush(left()).await;
        left_all.and(flushed)
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        Some(self)
    }
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBroker")
            .field("config", &self.shared.clients.config)
            .finish_non_exhaustive()
    }
}
