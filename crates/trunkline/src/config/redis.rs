//! `type = "redis"`: a broker over Redis Streams.

use std::path::PathBuf;
use std::time::Duration;

use super::describe::Page;
use super::read::Section;
use super::server::{DEFAULT, ServerConfig};

/// `type = "redis"`: a broker over Redis Streams; where a setting is absent the broker has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the server is and how its names begin.
    pub server: ServerConfig,
    /// How long a member keeps its partitions after it was last heard of.
    pub lease_ttl: Option<Duration>,
    /// How often topics are looked for that other programs made.
    pub discovery_interval: Option<Duration>,
    /// How many replicas must have an event before its publish is Ok.
    pub wait_replicas: Option<u32>,
    /// How long a publish waits for them.
    pub wait_timeout: Duration,
    /// How many events a partition keeps of what every group has taken; 0 keeps all.
    pub max_stream_length: Option<u64>,
    /// How long one command may take.
    pub response_timeout: Option<Duration>,
    /// How long a broadcast subscriber that is not heard of holds trimming back.
    pub subscriber_ttl: Option<Duration>,
    /// A file of certificates in PEM that are trusted instead of the usual roots.
    pub ca_file: Option<PathBuf>,
}

/// What a publish waits for replicas where nobody says: far longer than one takes that keeps up.
const WAIT: Duration = Duration::from_secs(1);

const SCHEMES: &[&str] =
    &["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

impl RedisConfig {
    /// A broker at `server` that leaves everything else as it is.
    #[must_use]
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            lease_ttl: None,
            discovery_interval: None,
            wait_replicas: None,
            wait_timeout: WAIT,
            max_stream_length: None,
            response_timeout: None,
            subscriber_ttl: None,
            ca_file: None,
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let server = ServerConfig::read(&mut section, SCHEMES, "redis://127.0.0.1:6379/0");
        let redis = Self {
            server,
            lease_ttl: section.millis("lease_ttl_ms"),
            discovery_interval: section.millis("discovery_interval_ms"),
            wait_replicas: section.number("wait_replicas", 0),
            wait_timeout: section.millis("wait_timeout_ms").unwrap_or(WAIT),
            max_stream_length: section.number("max_stream_length", 0),
            response_timeout: section.millis("response_timeout_ms"),
            subscriber_ttl: section.millis("subscriber_ttl_ms"),
            ca_file: section.text("ca_file").map(PathBuf::from),
        };
        section.finish();
        redis
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.set("type", "redis");
        self.server.describe(page);
        page.millis_or_note("lease_ttl_ms", self.lease_ttl, DEFAULT);
        page.millis_or_note("discovery_interval_ms", self.discovery_interval, DEFAULT);
        page.number_or_note("wait_replicas", self.wait_replicas, "none");
        page.millis("wait_timeout_ms", self.wait_timeout);
        page.number_or_note("max_stream_length", self.max_stream_length, DEFAULT);
        page.millis_or_note("response_timeout_ms", self.response_timeout, DEFAULT);
        page.millis_or_note("subscriber_ttl_ms", self.subscriber_ttl, DEFAULT);
        let ca_file = self.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned());
        page.set_or_note("ca_file", ca_file, "the usual roots");
    }
}
