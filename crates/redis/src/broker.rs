//! The broker itself: its connections, and what the five methods of the contract do with them.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{Notify, RwLock, mpsc, oneshot, watch};
use tokio::time::Instant;
use trunkline_core::{
    Broker, BrokerAdmin, Capabilities, Durability, Error, ErrorKind, Event, EventId, GroupSpec,
    Health, HealthStatus, PublishOptions, Publishing, Result, SubscribeOptions, Subscription,
    Topic,
};

use crate::codec::text_of;
use crate::config::RedisConfig;
use crate::consume::{Desk, RedisSubscription};
use crate::error::{closed, disconnected, refusal};
use crate::index::{Route, Routes, declare_group};
use crate::link::{Link, Vitals, random};
use crate::mutant::Mutant;
use crate::names::Names;
use crate::pipeline::{self, Job};
use crate::position::Begin;
use crate::publish::{self, is_passing};
use crate::{broadcast, lock, member, schedule, trim};

/// The broker's name in its capabilities, and in the positions of its events.
pub(crate) const NAME: &str = "redis";

/// A broker over Redis Streams; clones share it.
///
/// Accepted means that the server has answered the `XADD`: what that survives is its persistence
/// setting, and `wait_replicas`. Without a group a topic is accepted too: it keeps its history.
#[derive(Clone)]
pub struct RedisBroker {
    pub(crate) shared: Arc<Shared>,
}

/// What every part of a broker uses.
pub(crate) struct Shared {
    pub(crate) config: RedisConfig,
    pub(crate) capabilities: Capabilities,
    pub(crate) names: Names,
    /// For publishing and the index.
    pub(crate) link: Arc<Link>,
    /// For what subscriptions read and settle: a large read does not hold publishes up.
    pub(crate) consume: Arc<Link>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) closed: watch::Receiver<bool>,
    close: watch::Sender<bool>,
    /// Read by every publish that has begun, written by a close that waits for them.
    pub(crate) begun: Arc<RwLock<()>>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) routes: Mutex<Routes>,
    /// Looked at when something delayed was added.
    pub(crate) schedule_changed: Notify,
    desks: Mutex<Vec<Weak<Desk>>>,
    /// Publishes accepted into the queue and not answered yet.
    pub(crate) flushed: watch::Receiver<bool>,
    /// Names this start of the broker.
    pub(crate) incarnation: String,
    unique: AtomicU64,
    sticky: AtomicU32,
    known_reconnects: AtomicU64,
    warnings: Vec<String>,
    version: String,
}

impl RedisBroker {
    /// Connects, and tries again until `connect_timeout` is over.
    ///
    /// # Errors
    /// `Disconnected`, naming the address that refused; `Config` when the server refuses the
    /// credentials, or has a certificate that is not trusted.
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        let vitals = Arc::new(Vitals::default());
        let (close, closed) = watch::channel(false);
        let link = Arc::new(Link::new(&config, config.response_timeout, &vitals));
        let consume = Arc::new(Link::new(&config, config.response_timeout, &vitals));
        let facts = first_contact(&link, &config).await?;
        let (jobs, queue) = mpsc::channel(pipeline::QUEUE);
        let (flush, flushed) = watch::channel(false);
        let shared = Arc::new(Shared {
            capabilities: capabilities(),
            names: Names::new(&config.physical_prefix()),
            link,
            consume,
            vitals,
            closed,
            close,
            begun: Arc::default(),
            jobs,
            routes: Mutex::default(),
            schedule_changed: Notify::new(),
            desks: Mutex::default(),
            flushed,
            incarnation: EventId::generate().to_string(),
            unique: AtomicU64::new(0),
            sticky: AtomicU32::new(random()),
            known_reconnects: AtomicU64::new(0),
            warnings: facts.warnings,
            version: facts.version,
            config,
        });
        shared.spawn(queue, flush);
        Ok(Self { shared })
    }
}

impl Shared {
    /// Starts what runs beside the callers; each task ends when the broker is closed or gone.
    fn spawn(self: &Arc<Self>, queue: mpsc::Receiver<Job>, flush: watch::Sender<bool>) {
        let (link, wait, address) =
            (Arc::clone(&self.link), self.config.wait_replicas, self.config.address());
        let (mut closed, begun) = (self.closed.clone(), Arc::clone(&self.begun));
        let all_ended = async move {
            // The broker that vanishes without a close has no publish either.
            if closed.wait_for(|closed| *closed).await.is_ok() {
                drop(begun.write().await);
            }
        };
        drop(tokio::spawn(async move {
            pipeline::run(link, queue, wait, address, all_ended).await;
            flush.send_replace(true);
        }));
        drop(tokio::spawn(schedule::run(Arc::downgrade(self), self.closed.clone())));
        drop(tokio::spawn(trim::run(Arc::downgrade(self), self.closed.clone())));
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// A text that no other call and no other process makes, ending in `label`.
    pub(crate) fn unique(&self, label: &str) -> String {
        let number = self.unique.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}|{label}", self.incarnation)
    }

    pub(crate) fn vitals_are_away(&self) -> bool {
        self.vitals.is_away.load(Ordering::Relaxed)
    }

    pub(crate) fn next_sticky(&self) -> u32 {
        self.sticky.fetch_add(1, Ordering::Relaxed)
    }

    /// The streams of a topic that this process has met since it last lost its connection.
    pub(crate) fn route(&self, topic: &Topic) -> Option<Arc<Route>> {
        let reconnects = self.vitals.reconnects.load(Ordering::Relaxed);
        let mut routes = lock(&self.routes);
        if self.known_reconnects.swap(reconnects, Ordering::Relaxed) != reconnects {
            // The server may have come back with less than it had.
            routes.clear();
        }
        routes.get(topic)
    }

    pub(crate) fn trim_early(&self, command: &mut Cmd) {
        if self.config.breaks(Mutant::MaxlenTrim) {
            command.arg("MAXLEN").arg(16);
        }
    }

    pub(crate) fn add_desk(&self, desk: &Arc<Desk>) {
        let mut desks = lock(&self.desks);
        desks.retain(|known| known.strong_count() > 0);
        desks.push(Arc::downgrade(desk));
        drop(desks);
        if self.is_closed() {
            desk.begin_close();
        }
    }

    fn live_desks(&self) -> Vec<Arc<Desk>> {
        lock(&self.desks).iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes a group, again and again while the server is away and the time is not over.
    pub(crate) async fn declare(&self, spec: &GroupSpec) -> Result<crate::index::GroupRecord> {
        let deadline = Instant::now() + self.config.publish_timeout;
        let mut attempt = 0;
        loop {
            let made = declare_group(&self.link, &self.names, spec, &self.config).await;
            match made {
                Err(error)
                    if is_passing(&error) && Instant::now() < deadline && !self.is_closed() =>
                {
                    attempt += 1;
                    tokio::time::sleep(crate::link::backoff(attempt)).await;
                }
                made => return made,
            }
        }
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        publish::publish(&self.shared, events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.shared.check_open("subscribe")?;
        self.shared.capabilities.check_subscribe(&options)?;
        // What cannot be read is refused before anything begins.
        Begin::of(&options.start)?;
        let shared = Arc::clone(&self.shared);
        let joining = async move {
            let desk = match options.group.clone() {
                Some(group) => member::join(&shared, group, options).await?,
                None => broadcast::join(&shared, options).await?,
            };
            shared.add_desk(&desk);
            Ok(RedisSubscription::new(desk))
        };
        // A call that is dropped half-way joins all the same: nobody takes the subscription then, and
        // so it leaves.
        let (ready, joined) = oneshot::channel();
        drop(tokio::spawn(async move { drop(ready.send(joining.await)) }));
        let joined: Result<RedisSubscription> =
            joined.await.map_err(|_gone| closed("subscribe"))?;
        Ok(Box::new(joined?))
    }

    async fn health(&self) -> Health {
        let shared = &self.shared;
        if let Err(error) = shared.check_open("health") {
            return Health::down(error.to_string());
        }
        let pinged = tokio::time::timeout(
            shared.config.response_timeout.min(Duration::from_secs(1)),
            shared.link.one("health", redis::cmd("PING")),
        );
        let is_up = matches!(pinged.await, Ok(Ok(_)));
        let mut health = Health::up()
            .with_reconnects(shared.vitals.reconnects.load(Ordering::Relaxed))
            .with("address", shared.config.address())
            .with("server", &shared.version)
            .with("connected", is_up)
            .with("subscriptions", shared.live_desks().len())
            .with("fenced", shared.vitals.fenced.load(Ordering::Relaxed))
            .with("lost_pending", shared.vitals.lost.load(Ordering::Relaxed));
        for warning in &shared.warnings {
            health = health.with("warning", warning);
        }
        if !is_up {
            health.status = HealthStatus::Down;
        }
        health
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        self.shared.close.send_replace(true);
        let desks = self.shared.live_desks();
        desks.iter().for_each(|desk| desk.begin_close());
        let mut flushed = self.shared.flushed.clone();
        let publishes = tokio::time::timeout_at(until, flushed.wait_for(|flushed| *flushed));
        let publishes = publishes.await.map(drop);
        for desk in desks {
            desk.wait_flushed(until.saturating_duration_since(Instant::now())).await?;
        }
        publishes.map_err(|_elapsed| {
            let message = "publishes were still under way at the deadline";
            Error::new(ErrorKind::TimedOut, "close", message)
        })
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        Some(self)
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

fn capabilities() -> Capabilities {
    let mut can = Capabilities::minimal(NAME, Durability::Server);
    can.history = true;
    can.start_at_time = true;
    can.start_at_position = true;
    can.delay = true;
    can.priority_lanes = true;
    can.dead_letters = true;
    can.cancel = true;
    can.shared_keys = true;
    can.partition = true;
    can.headers = true;
    can
}

/// What the server said of itself.
#[derive(Default)]
struct Facts {
    version: String,
    warnings: Vec<String>,
}

/// Waits for the server to answer, and looks at the settings that events depend on.
async fn first_contact(link: &Link, config: &RedisConfig) -> Result<Facts> {
    let deadline = Instant::now() + config.connect_timeout;
    let address = config.address();
    let mut pipe = Pipeline::new();
    pipe.cmd("INFO").arg("server");
    pipe.cmd("CONFIG").arg("GET").arg("appendonly");
    pipe.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
    let mut last: Option<redis::RedisError> = None;
    loop {
        let answer = tokio::time::timeout_at(deadline, link.run(&pipe)).await;
        let error = match answer {
            Ok(Ok(values)) if !values.iter().any(crate::link::is_for_later) => {
                return Ok(facts_of(values, &address));
            }
            Ok(Ok(_)) => None,
            Ok(Err(error)) => match refusal(&error) {
                Some(message) => {
                    let error = Error::new(ErrorKind::Config, "connect", message).because(error);
                    return Err(error.with("address", address));
                }
                None => Some(error),
            },
            Err(_) => {
                let error = disconnected("connect", &address);
                return Err(match last {
                    Some(cause) => error.because(cause),
                    None => error,
                });
            }
        };
        last = error.or(last);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn facts_of(values: Vec<Value>, address: &str) -> Facts {
    let mut values = values.into_iter();
    let info = values.next().and_then(text_of).unwrap_or_default();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    let mut facts =
        Facts { version: version.unwrap_or("unknown").to_owned(), warnings: Vec::new() };
    // A server that does not tell, as some hosted ones, is taken at its word.
    let mut setting = || crate::codec::pairs_of(values.next()?)?.pop().map(|(_, value)| value);
    if setting().is_some_and(|value| value == b"no") {
        facts.warnings.push(
            "appendonly is off: what was accepted since the last snapshot is lost with the server"
                .to_owned(),
        );
    }
    if setting().is_some_and(|value| value != b"noeviction") {
        facts.warnings.push(
            "maxmemory-policy is not noeviction: the server may delete whole streams".to_owned(),
        );
    }
    for warning in &facts.warnings {
        tracing::warn!(address, "{warning}");
    }
    facts
}
