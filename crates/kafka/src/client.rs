//! The clients of librdkafka that a broker runs, and what they tell about the connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use trunkline_core::Result;

use crate::config::KafkaConfig;
use crate::mutant::Mutations;
use crate::properties::{MAX_POLL_DEFAULT, STICKY};
use crate::{error, lock};

/// How long a request to a server may take, such as one for metadata.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

/// Why servers turn this program away, when they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// User, password or mechanism.
    Login,
    /// The TLS handshake: no certificate that is trusted, or no TLS at all.
    Handshake,
}

impl Refusal {
    /// What happened and what to do, for errors and health.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Login => {
                "Kafka refuses the login: check the properties sasl.mechanism, sasl.username and \
                 sasl.password"
            }
            Self::Handshake => {
                "the TLS handshake with Kafka fails: check that the port is one for TLS, that \
                 ssl.ca.location has the authority of its certificate, and that the certificate is for \
                 this host name"
            }
        }
    }

    fn of(code: RDKafkaErrorCode) -> Option<Self> {
        match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                Some(Self::Login)
            }
            RDKafkaErrorCode::SSL => Some(Self::Handshake),
            _ => None,
        }
    }
}

/// What is known about the connection, shared by every client of a broker.
#[derive(Debug)]
pub(crate) struct Link {
    /// Servers have turned this program away, and none has answered since.
    refusal: Mutex<Option<Refusal>>,
    /// A client has lost its servers, and nothing has been heard from them since.
    lost: AtomicBool,
    reconnects: AtomicU64,
    /// How often a consumer was polled so late that its group gave its partitions to others.
    missed_polls: AtomicU64,
    last_heard: Mutex<Instant>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            refusal: Mutex::new(None),
            lost: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
            missed_polls: AtomicU64::new(0),
            last_heard: Mutex::new(Instant::now()),
        }
    }
}

impl Link {
    pub(crate) fn heard(&self) {
        *lock(&self.last_heard) = Instant::now();
        *lock(&self.refusal) = None;
        if self.lost.swap(false, Ordering::AcqRel) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(crate) fn silence(&self) -> Duration {
        lock(&self.last_heard).elapsed()
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    pub(crate) fn miss_poll(&self) {
        self.missed_polls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn missed_polls(&self) -> u64 {
        self.missed_polls.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, cause: &KafkaError) {
        let Some(code) = cause.rdkafka_error_code() else { return };
        let refusal = Refusal::of(code);
        if refusal.is_some() {
            *lock(&self.refusal) = refusal;
        }
        if refusal.is_some() || code == RDKafkaErrorCode::AllBrokersDown {
            self.lose();
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        *lock(&self.refusal)
    }
}

/// Sends librdkafka's own log to `tracing`, under the target `librdkafka`.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// The context of clients that only ask.
#[derive(Debug, Clone)]
pub(crate) struct Asking(pub(crate) Arc<Link>);

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, cause: KafkaError, _reason: &str) {
        self.0.note(&cause);
    }
}

impl ConsumerContext for Asking {}

/// A client that asks for metadata and offsets and consumes nothing.
pub(crate) type Probe = BaseConsumer<Asking>;

/// Makes the clients of one broker.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) config: Arc<KafkaConfig>,
    pub(crate) link: Arc<Link>,
}

impl Clients {
    fn base(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.config.servers)
            .set("client.id", "trunkline")
            // With the default of 10 s a server that is back is found up to 9 s late, and members
            // lose their session over it.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            // A server that has stopped answering is dropped after this, not after 60 s.
            .set("socket.timeout.ms", "10000")
            .set("topic.metadata.refresh.interval.ms", "5000");
        client
    }

    fn with_properties(&self, mut client: ClientConfig) -> ClientConfig {
        for (name, value) in &self.config.properties {
            client.set(name, value);
        }
        client
    }

    /// The producer's settings: idempotent, and without a linger, which is fastest as well.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut client = self.base();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", if Mutations::of(&self.config).no_flush { "100" } else { "0" })
            .set("partitioner", "murmur2_random")
            .set(STICKY, self.config.partition_strategy.linger_millis())
            // Shorter, and a restart of the servers is an unknown outcome for every publisher.
            .set("message.timeout.ms", "120000")
            .set("queue.buffering.max.messages", "100000")
            .set("message.max.bytes", self.config.max_record_bytes().to_string());
        self.with_properties(client)
    }

    /// The settings of a consumer that commits, if it does, by itself.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.base();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(self.config.session_timeout))
            .set("heartbeat.interval.ms", millis(self.config.heartbeat_interval))
            .set("max.poll.interval.ms", millis(MAX_POLL_DEFAULT))
            // Bounds how late a partition that was paused goes on.
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            // With the default of a second, a consumer that reads faster than its queue is long stands
            // still most of the time.
            .set("fetch.queue.backoff.ms", "10")
            // The default of 64 MiB for each consumer is much with many subscriptions.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.message.max.bytes", self.config.max_record_bytes().to_string());
        self.with_properties(client)
    }

    pub(crate) fn probe(&self) -> Result<Probe> {
        let mut client = self.base();
        client
            .set("allow.auto.create.topics", "false")
            // It joins no group, and yet `max.poll.interval.ms` is held against it.
            .set("session.timeout.ms", millis(self.config.session_timeout))
            .set("heartbeat.interval.ms", millis(self.config.heartbeat_interval));
        self.create(&self.with_properties(client))
    }

    /// A client that reads and writes the offsets of a group that it never joins.
    pub(crate) fn probe_of(&self, group: &str) -> Result<Probe> {
        self.create(&self.consumer(group))
    }

    fn create(&self, client: &ClientConfig) -> Result<Probe> {
        client.create_with_context(Asking(Arc::clone(&self.link))).map_err(error::settings)
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<Asking>> {
        let client = self.with_properties(self.base());
        client.create_with_context(Asking(Arc::clone(&self.link))).map_err(error::settings)
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
