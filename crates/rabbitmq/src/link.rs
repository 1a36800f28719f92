//! A connection that is made again, for as long as the broker is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_core::{Error, EventId, Result};

use crate::config::RabbitMqConfig;
use crate::error::{disconnected, driver};

/// How long one attempt may take: the driver's handshake has no limit of its own, and a server that
/// was stopped accepts connections and says nothing.
const ATTEMPT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a connection is looked at that has said nothing.
const LOOK: Duration = Duration::from_millis(500);

/// A connection, and which one it is: counted from 1.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: Arc<Connection>,
    pub(crate) epoch: u64,
}

impl Live {
    pub(crate) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    pub(crate) async fn channel(&self, operation: &'static str) -> Result<Channel> {
        let opening = timeout(ATTEMPT, self.connection.create_channel());
        match opening.await {
            Ok(opened) => opened.map_err(|cause| driver(operation, cause)),
            Err(_) => Err(disconnected(operation, "the open connection does not answer")),
        }
    }
}

/// Keeps one connection; ends, and closes it, when it is dropped.
pub(crate) struct Link {
    current: watch::Receiver<Option<Live>>,
    pulse: Arc<Pulse>,
    reconnects: Arc<AtomicU64>,
    address: String,
    stop: watch::Sender<()>,
}

impl Link {
    /// Connects, within the time that the settings give, and from then on whenever it is lost.
    pub(crate) async fn open(config: &Arc<RabbitMqConfig>, purpose: &'static str) -> Result<Self> {
        let deadline = Instant::now() + config.connect_timeout;
        let first = connect_until(config, purpose, deadline).await?;
        let live = Live { connection: Arc::new(first), epoch: 1 };
        let (publish, current) = watch::channel(Some(live));
        let (stop, stopped) = watch::channel(());
        let reconnects = Arc::new(AtomicU64::new(0));
        let address = config.address();
        let pulse = Arc::new(Pulse::new(config));
        tokio::spawn(Arc::clone(&pulse).beat(current.clone(), stopped.clone()));
        let keeper = Keeper {
            config: Arc::clone(config),
            purpose,
            publish,
            reconnects: Arc::clone(&reconnects),
        };
        tokio::spawn(keeper.keep(stopped));
        Ok(Self { current, pulse, reconnects, address, stop })
    }

    /// The connection, waited for until `deadline`.
    pub(crate) async fn live(&self, deadline: Instant, operation: &'static str) -> Result<Live> {
        let mut current = self.current.clone();
        let is_up = |live: &Option<Live>| live.as_ref().is_some_and(Live::is_up);
        match timeout_at(deadline, current.wait_for(is_up)).await {
            Ok(Ok(live)) => live.clone().ok_or_else(|| disconnected(operation, &self.address)),
            _ => Err(disconnected(operation, &self.address)),
        }
    }

    /// The connection, however long it takes to be there; none when the link has ended.
    pub(crate) async fn live_again(&self) -> Option<Live> {
        let mut current = self.current.clone();
        loop {
            let known = current.borrow_and_update().clone();
            if let Some(live) = known.filter(Live::is_up) {
                return Some(live);
            }
            current.changed().await.ok()?;
        }
    }

    pub(crate) fn now(&self) -> Option<Live> {
        self.current.borrow().clone().filter(Live::is_up)
    }

    /// Whether this process has run all the time. One that stood still does not know yet whether the
    /// server has given it up.
    pub(crate) fn is_fresh(&self) -> bool {
        self.pulse.is_fresh()
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Says goodbye; a server that does not answer is left.
    pub(crate) async fn close(&self, deadline: Instant) {
        self.stop.send_replace(());
        if let Some(live) = self.now() {
            let goodbye = live.connection.close(200, "closed".into());
            if let Ok(Err(cause)) = timeout_at(deadline, goodbye).await {
                tracing::debug!(%cause, "the connection was gone before it was closed");
            }
        }
    }
}

/// Notices that this process stood still for so long that the server may have given it up.
struct Pulse {
    begun: Instant,
    last: AtomicU64,
    limit: Duration,
}

impl Pulse {
    const BEAT: Duration = Duration::from_millis(100);

    fn new(config: &RabbitMqConfig) -> Self {
        // The server ends a connection after two heartbeats of silence, and half of one is sent twice
        // as often.
        let heartbeat = u64::from(config.uri.query.heartbeat.unwrap_or(10).max(1));
        let limit = Duration::from_secs(heartbeat).max(Self::BEAT * 5);
        Self { begun: Instant::now(), last: AtomicU64::new(0), limit }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_fresh(&self) -> bool {
        let gap = self.now().saturating_sub(self.last.load(Ordering::Acquire));
        Duration::from_millis(gap) < self.limit
    }

    async fn beat(
        self: Arc<Self>,
        current: watch::Receiver<Option<Live>>,
        mut stopped: watch::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                () = tokio::time::sleep(Self::BEAT) => {}
            }
            let live = current.borrow().clone().filter(Live::is_up);
            // After a gap the server is asked; an answer proves the connection, and so does its end.
            if let (false, Some(live)) = (self.is_fresh(), live) {
                if let Ok(channel) = live.channel("check").await {
                    drop(timeout(ATTEMPT, channel.close(200, "checked".into())).await);
                } else if live.is_up() {
                    continue;
                }
            }
            self.last.store(self.now(), Ordering::Release);
        }
    }
}

struct Keeper {
    config: Arc<RabbitMqConfig>,
    purpose: &'static str,
    publish: watch::Sender<Option<Live>>,
    reconnects: Arc<AtomicU64>,
}

impl Keeper {
    async fn keep(self, mut stopped: watch::Receiver<()>) {
        let mut epoch = 1;
        loop {
            let Some(live) = self.publish.borrow().clone() else { return };
            tokio::select! {
                _ = stopped.changed() => return,
                () = lost(&live) => {}
            }
            drop(live);
            self.publish.send_replace(None);
            tracing::warn!(address = self.config.address(), "the connection to RabbitMQ is lost");
            let connection = tokio::select! {
                _ = stopped.changed() => return,
                connection = connect_forever(&self.config, self.purpose) => connection,
            };
            epoch += 1;
            self.reconnects.fetch_add(1, Ordering::Relaxed);
            tracing::info!(address = self.config.address(), "connected to RabbitMQ again");
            self.publish.send_replace(Some(Live { connection: Arc::new(connection), epoch }));
        }
    }
}

/// Waits until the connection is lost. The driver's events tell at once; the look is for what they
/// miss.
async fn lost(live: &Live) {
    let mut events = std::pin::pin!(live.connection.events_listener());
    while live.is_up() {
        match timeout(LOOK, events.next()).await {
            Ok(None) => return,
            Ok(Some(Event::Error(cause))) => {
                tracing::debug!(%cause, "the connection reports an error");
            }
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                tracing::warn!(reason, "RabbitMQ blocks publishers: it is short of memory or disk");
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

async fn connect_forever(config: &RabbitMqConfig, purpose: &str) -> Connection {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(config, purpose).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(%error, "RabbitMQ cannot be reached"),
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect_until(
    config: &RabbitMqConfig,
    purpose: &str,
    deadline: Instant,
) -> Result<Connection> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match timeout_at(deadline, attempt(config, purpose)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => return Err(disconnected("connect", &config.address())),
        };
        let again = Instant::now() + jittered(pause);
        // Wrong credentials do not get better by waiting.
        if again >= deadline || error.kind() == trunkline_core::ErrorKind::Config {
            return Err(error);
        }
        tokio::time::sleep_until(again).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(config: &RabbitMqConfig, purpose: &str) -> Result<Connection> {
    let address = config.address();
    let name = format!("trunkline {purpose}");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = OwnedTLSConfig { identity: None, cert_chain: config.ca_certificates.clone() };
    let unreachable = |cause| Error::from_driver_at(cause, &address);
    let runtime = lapin::runtime::default_runtime().map_err(unreachable)?;
    let connecting =
        Connection::connect_uri_with_config(config.uri.clone(), properties, tls, runtime);
    match timeout(ATTEMPT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(cause)) => Err(unreachable(cause)),
        Err(_) => Err(disconnected("connect", &address)),
    }
}

/// Adds the address to what the driver says of a connection that was not made.
trait FromDriver {
    fn from_driver_at(cause: lapin::Error, address: &str) -> Self;
}

impl FromDriver for Error {
    fn from_driver_at(cause: lapin::Error, address: &str) -> Self {
        let error = driver("connect", cause.clone());
        match error.kind() {
            trunkline_core::ErrorKind::Config => error.with("address", address),
            _ => disconnected("connect", address).because(cause),
        }
    }
}

/// Between half and the whole of `pause`, so that clients do not come back in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let random = EventId::generate().as_uuid().map_or(0, |id| id.as_bytes()[15]);
    pause.mul_f64(0.5 + f64::from(random) / 512.0)
}
