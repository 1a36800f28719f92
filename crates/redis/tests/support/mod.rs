//! The broker as the suites want it: a short lease, and hooks over the plain driver.

use std::collections::HashMap;
use std::time::Duration;

use trunkline_core::{
    Capabilities, Durability, Error, ErrorKind, Group, Result, Topic, partition_of,
};
use trunkline_redis::{RedisBroker, RedisConfig};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, RawHeaders};

/// What the broker can do, pinned.
pub(crate) fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("redis", Durability::Server);
    pinned.history = true;
    pinned.start_at_time = true;
    pinned.start_at_position = true;
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.dead_letters = true;
    pinned.cancel = true;
    pinned.shared_keys = true;
    pinned.partition = true;
    pinned.headers = true;
    pinned
}

/// Short enough that a take-over does not take the time of a test.
const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn config(conditions: &BrokerConditions) -> Result<RedisConfig> {
    let missing = || Error::new(ErrorKind::Config, "test", "the suite has started no server");
    let url = conditions.url.as_deref().ok_or_else(missing)?;
    let mut config = RedisConfig::new(url)?
        .with_prefix(conditions.prefix.as_str())
        .with_lease_ttl(LEASE)
        .with_discovery_interval(Duration::from_secs(1));
    config.publish_timeout = conditions.publish_timeout.unwrap_or(config.publish_timeout);
    config.max_event_bytes = conditions.max_event_bytes.unwrap_or(config.max_event_bytes);
    let retained = conditions.retained.and_then(|events| u64::try_from(events).ok());
    config.max_stream_length = retained.or(config.max_stream_length);
    Ok(config)
}

/// A lease lapses, and a member looks for what is free every third of it.
const TAKEOVER: Duration = Duration::from_millis(2_700);

/// How long the server may take to answer what is asked behind the broker's back.
const PATIENCE: Duration = Duration::from_secs(30);

/// An acknowledgement goes with the member's next command, which a busy machine answers within this.
const ACK_INTERVAL: Duration = Duration::from_millis(100);

/// A broker of the conditions, with what the suite needs beside it.
pub(crate) async fn fixture<B>(
    conditions: BrokerConditions,
    wrap: impl FnOnce(RedisBroker) -> B,
) -> Result<Fixture<B>> {
    let config = config(&conditions)?;
    fixture_of(config, conditions, wrap).await
}

/// The same with settings of its own.
pub(crate) async fn fixture_of<B>(
    config: RedisConfig,
    conditions: BrokerConditions,
    wrap: impl FnOnce(RedisBroker) -> B,
) -> Result<Fixture<B>> {
    let partitions = config.partitions;
    let broker = RedisBroker::connect(config).await?;
    let behind = Behind::new(&conditions).await?;
    let [writer, remover, refuser, counter] = [(); 4].map(|()| behind.clone());
    let tapped = behind.clone();
    Ok(Fixture::new(wrap(broker))
        .with_takeover(TAKEOVER)
        .with_ack_interval(ACK_INTERVAL)
        .with_partitions(partitions, move |key| partition_of(key, partitions))
        .with_header_tap(move |topic| {
            let behind = tapped.clone();
            async move { Ok(async move { behind.headers(&topic).await }) }
        })
        .with_raw_writer(move |topic, bytes| {
            let behind = writer.clone();
            async move { behind.write(&topic, &bytes).await }
        })
        .with_group_remover(move |group| {
            let behind = remover.clone();
            async move { behind.remove_group(&group).await }
        })
        .with_letter_refuser(move |topic, group| {
            let behind = refuser.clone();
            async move { behind.refuse_letters(&topic, &group).await }
        })
        .with_census(move || {
            let behind = counter.clone();
            async move { behind.census().await }
        })
        .at_end(async move { behind.clear().await }))
}

pub(crate) async fn broker(conditions: BrokerConditions) -> Result<Fixture<RedisBroker>> {
    fixture(conditions, |broker| broker).await
}

/// The server, behind the broker's back.
#[derive(Clone)]
struct Behind {
    connection: redis::aio::MultiplexedConnection,
    prefix: String,
}

impl Behind {
    async fn new(conditions: &BrokerConditions) -> Result<Self> {
        let url = conditions.url.clone().unwrap_or_default();
        let client = redis::Client::open(url).map_err(failed)?;
        // The driver's own limits are shorter than a busy machine may take.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
        let connection = connection.map_err(failed)?;
        Ok(Self { connection, prefix: conditions.prefix.clone() })
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        command.query_async(&mut self.connection.clone()).await.map_err(failed)
    }

    async fn write(&self, topic: &Topic, bytes: &[u8]) -> Result<()> {
        let mut add = redis::cmd("XADD");
        add.arg(format!("{}{topic}", self.prefix)).arg("*").arg("data").arg(bytes);
        self.run::<String>(&add).await.map(drop)
    }

    /// The fields of an entry of a topic, in whatever partition.
    async fn headers(&self, topic: &Topic) -> Result<RawHeaders> {
        let first = format!("{}{topic}", self.prefix);
        let others = format!("{first}..");
        for stream in self.streams().await? {
            if stream != first && !stream.starts_with(&others) {
                continue;
            }
            let mut newest = redis::cmd("XREVRANGE");
            newest.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
            let found: Vec<(String, RawHeaders)> = self.run(&newest).await?;
            if let Some((_, fields)) = found.into_iter().next() {
                return Ok(fields);
            }
        }
        Err(Error::new(ErrorKind::NotFound, "test", "the topic holds no entry"))
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("*{}*", self.prefix));
        self.run(&keys).await
    }

    /// Removes every key of the property.
    async fn clear(&self) -> Result<()> {
        let keys = self.keys().await?;
        if keys.is_empty() {
            return Ok(());
        }
        self.run::<u64>(redis::cmd("DEL").arg(keys)).await.map(drop)
    }

    async fn streams(&self) -> Result<Vec<String>> {
        let mut streams = Vec::new();
        for key in self.keys().await? {
            if self.run::<String>(redis::cmd("TYPE").arg(&key)).await? == "stream" {
                streams.push(key);
            }
        }
        Ok(streams)
    }

    async fn remove_group(&self, group: &Group) -> Result<()> {
        for stream in self.streams().await? {
            let mut destroy = redis::cmd("XGROUP");
            destroy.arg("DESTROY").arg(stream).arg(group.as_str());
            self.run::<u64>(&destroy).await?;
        }
        Ok(())
    }

    /// A key of another type stands where the stream of dead letters is to be; it can be removed.
    async fn refuse_letters(
        &self,
        topic: &Topic,
        group: &Group,
    ) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let key = format!("{{{}{topic}}}..dlq.{group}", self.prefix);
        self.run::<String>(redis::cmd("SET").arg(&key).arg("no stream")).await?;
        let behind = self.clone();
        Ok(async move { behind.run::<u64>(redis::cmd("DEL").arg(key)).await.map(drop) })
    }

    /// Keys, and consumers that have nothing pending: others hold what the group has to take.
    async fn census(&self) -> Result<Vec<(String, u64)>> {
        let mut idle = 0;
        for stream in self.streams().await? {
            for group in self.info("GROUPS", &stream, None).await? {
                let name = match group.get("name") {
                    Some(redis::Value::BulkString(name)) => {
                        String::from_utf8_lossy(name).into_owned()
                    }
                    _ => continue,
                };
                let consumers = self.info("CONSUMERS", &stream, Some(&name)).await?;
                let is_idle =
                    |consumer: &&Info| consumer.get("pending") == Some(&redis::Value::Int(0));
                idle += consumers.iter().filter(is_idle).count() as u64;
            }
        }
        let keys = self.keys().await?.len() as u64;
        let clients: String = self.run(redis::cmd("CLIENT").arg("LIST")).await?;
        let clients = clients.lines().count() as u64;
        Ok(vec![
            ("idle consumers".to_owned(), idle),
            ("keys".to_owned(), keys),
            // Of the whole server: only a property with a server of its own can make use of it.
            ("connections".to_owned(), clients),
        ])
    }

    async fn info(&self, what: &str, stream: &str, group: Option<&str>) -> Result<Vec<Info>> {
        let mut info = redis::cmd("XINFO");
        info.arg(what).arg(stream).arg(group);
        self.run(&info).await
    }
}

type Info = HashMap<String, redis::Value>;

fn failed(cause: redis::RedisError) -> Error {
    Error::new(ErrorKind::Backend, "test", "the server refused the test").because(cause)
}
