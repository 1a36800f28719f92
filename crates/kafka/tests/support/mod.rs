//! The broker as the suites want it: short sessions, few partitions, and hooks over the plain driver.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use trunkline_core::{Capabilities, Durability, Error, ErrorKind, Group, Result, Topic};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_testing::Fixture;
use trunkline_testing::broker::BrokerConditions;

/// How soon a dead member is noticed.
const SESSION: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(150);
const REQUEST: Duration = Duration::from_secs(10);

/// What the broker can do, pinned.
pub(crate) fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("kafka", Durability::Replicated);
    pinned.history = true;
    pinned.start_at_time = true;
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.dead_letters = true;
    pinned.partition = true;
    pinned.headers = true;
    pinned
}

/// The settings of a property.
pub(crate) fn config(conditions: &BrokerConditions) -> Result<KafkaConfig> {
    let url = conditions.url.clone().unwrap_or_default();
    let mut config = KafkaConfig::new(&url)?
        .with_prefix(&conditions.prefix)?
        // With the retries' partition seven: each of three members has two of the topic, or one.
        .with_partitions(6)
        .with_replication(1)
        .with_session_timeout(SESSION, HEARTBEAT)
        .with_discovery_interval(Duration::from_millis(500))
        .with_drain_timeout(Duration::from_secs(15));
    if let Some(timeout) = conditions.publish_timeout {
        config = config.with_publish_timeout(timeout);
    }
    if let Some(bytes) = conditions.max_event_bytes {
        config = config.with_max_event_bytes(bytes);
    }
    Ok(config)
}

/// A broker for a property, with its hooks.
pub(crate) async fn broker(conditions: BrokerConditions) -> Result<Fixture<KafkaBroker>> {
    let broker = KafkaBroker::connect(config(&conditions)?).await?;
    Ok(fixture(broker, conditions))
}

/// Adds the hooks to a broker.
pub(crate) fn fixture(broker: KafkaBroker, conditions: BrokerConditions) -> Fixture<KafkaBroker> {
    let server = Server {
        address: conditions.url.unwrap_or_default().replace("kafka://", ""),
        prefix: conditions.prefix,
    };
    let (writing, removing, counting, cleaning) =
        (server.clone(), server.clone(), server.clone(), server);
    Fixture::new(broker)
        .with_takeover(SESSION + Duration::from_secs(2))
        .with_raw_writer(move |topic, bytes| {
            let server = writing.clone();
            async move { server.write(topic, bytes).await }
        })
        .with_group_remover(move |group| {
            let server = removing.clone();
            async move { server.remove(group).await }
        })
        .with_census(move || {
            let server = counting.clone();
            async move { server.census().await }
        })
        .at_end(async move { cleaning.clean().await })
}

/// A server as a program sees it that uses the plain driver.
#[derive(Clone)]
struct Server {
    address: String,
    prefix: String,
}

impl Server {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.address);
        client
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client().create().map_err(failed)
    }

    async fn write(&self, topic: Topic, bytes: Vec<u8>) -> Result<()> {
        let producer: FutureProducer = self.client().create().map_err(failed)?;
        let name = format!("{}{topic}", self.prefix);
        let record = FutureRecord::<(), _>::to(&name).payload(&bytes);
        let written = producer.send(record, REQUEST).await;
        written.map(drop).map_err(|(cause, _)| failed(cause))
    }

    async fn remove(&self, group: Group) -> Result<()> {
        let name = format!("{}{group}", self.prefix);
        let removed = self.admin()?.delete_groups(&[&name], &AdminOptions::new()).await;
        removed.map(drop).map_err(failed)
    }

    /// The names of topics and groups of the prefix.
    async fn names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let server = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let probe: BaseConsumer = server.client().create().map_err(failed)?;
            let ours = |name: &str| name.starts_with(&server.prefix);
            let metadata = probe.fetch_metadata(None, REQUEST).map_err(failed)?;
            let topics = metadata.topics().iter().map(|topic| topic.name().to_owned());
            let list = probe.fetch_group_list(None, REQUEST).map_err(failed)?;
            let groups = list.groups().iter().map(|group| group.name().to_owned());
            Ok((topics.filter(|n| ours(n)).collect(), groups.filter(|n| ours(n)).collect()))
        });
        asked.await.map_err(failed)?
    }

    async fn census(&self) -> Result<Vec<(String, u64)>> {
        let (topics, groups) = self.names().await?;
        Ok(vec![
            ("topics".to_owned(), topics.len() as u64),
            ("groups".to_owned(), groups.len() as u64),
        ])
    }

    /// Deletes what the property has left.
    async fn clean(&self) -> Result<()> {
        // A server of the property's own may be gone by now, and what it held with it.
        let Ok((topics, groups)) = self.names().await else { return Ok(()) };
        let (admin, options) = (self.admin()?, AdminOptions::new());
        let (topics, groups): (Vec<&str>, Vec<&str>) = (
            topics.iter().map(String::as_str).collect(),
            groups.iter().map(String::as_str).collect(),
        );
        if !topics.is_empty() {
            admin.delete_topics(&topics, &options).await.map_err(failed)?;
        }
        if !groups.is_empty() {
            admin.delete_groups(&groups, &options).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Backend, "test", "the plain driver failed").because(cause)
}
