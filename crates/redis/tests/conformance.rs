//! The conformance suite on Redis Streams.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use trunkline_core::{
    Broker, Capabilities, Durability, Error, ErrorKind, Group, Result, Topic,
};
use trunkline_launcher::Kind;
use trunkline_redis::{RedisBroker, RedisConfig};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, Suite};

fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("redis", Durability::Server);
    pinned.history = true;
    pinned.start_at_time = true;
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

fn config(conditions: &BrokerConditions) -> Result<RedisConfig> {
    let missing = || Error::new(ErrorKind::Config, "test", "the suite has started no server");
    let url = conditions.url.as_deref().ok_or_else(missing)?;
    let mut config = RedisConfig::new(url)?
        .with_prefix(conditions.prefix.as_str())
        .with_lease_ttl(LEASE)
        .with_discovery_interval(Duration::from_secs(1));
    config.publish_timeout = conditions.publish_timeout.unwrap_or(config.publish_timeout);
    config.max_event_bytes = conditions.max_event_bytes.unwrap_or(config.max_event_bytes);
    Ok(config)
}

/// A lease lapses, and a member looks for what is free every third of it.
const TAKEOVER: Duration = Duration::from_millis(2_700);

async fn fixture<B>(
    conditions: BrokerConditions,
    wrap: impl FnOnce(RedisBroker) -> B,
) -> Result<Fixture<B>> {
    let broker = RedisBroker::connect(config(&conditions)?).await?;
    let behind = Behind::new(&conditions)?;
    let (writer, remover, counter) = (behind.clone(), behind.clone(), behind);
    Ok(Fixture::new(wrap(broker))
        .with_takeover(TAKEOVER)
        .with_raw_writer(move |topic, bytes| {
            let behind = writer.clone();
            async move { behind.write(&topic, &bytes).await }
        })
        .with_group_remover(move |group| {
            let behind = remover.clone();
            async move { behind.remove_group(&group).await }
        })
        .with_census(move || {
            let behind = counter.clone();
            async move { behind.census().await }
        }))
}

async fn broker(conditions: BrokerConditions) -> Result<Fixture<RedisBroker>> {
    fixture(conditions, |broker| broker).await
}

async fn boxed(conditions: BrokerConditions) -> Result<Fixture<Box<dyn Broker>>> {
    fixture(conditions, |broker| Box::new(broker) as Box<dyn Broker>).await
}

async fn shared(conditions: BrokerConditions) -> Result<Fixture<Arc<dyn Broker>>> {
    fixture(conditions, |broker| Arc::new(broker) as Arc<dyn Broker>).await
}

/// The server, behind the broker's back.
#[derive(Clone)]
struct Behind {
    client: redis::Client,
    prefix: String,
}

impl Behind {
    fn new(conditions: &BrokerConditions) -> Result<Self> {
        let url = conditions.url.clone().unwrap_or_default();
        let client = redis::Client::open(url).map_err(failed)?;
        Ok(Self { client, prefix: conditions.prefix.clone() })
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        let connection = self.client.get_multiplexed_async_connection().await;
        command.query_async(&mut connection.map_err(failed)?).await.map_err(failed)
    }

    async fn write(&self, topic: &Topic, bytes: &[u8]) -> Result<()> {
        let mut add = redis::cmd("XADD");
        add.arg(format!("{}{topic}", self.prefix)).arg("*").arg("data").arg(bytes);
        self.run::<String>(&add).await.map(drop)
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("*{}*", self.prefix));
        self.run(&keys).await
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

    async fn census(&self) -> Result<Vec<(String, u64)>> {
        let mut consumers = 0;
        for stream in self.streams().await? {
            let mut groups = redis::cmd("XINFO");
            groups.arg("GROUPS").arg(stream);
            let groups: Vec<std::collections::HashMap<String, redis::Value>> =
                self.run(&groups).await?;
            for group in groups {
                if let Some(redis::Value::Int(count)) = group.get("consumers") {
                    consumers += u64::try_from(*count).unwrap_or(0);
                }
            }
        }
        let keys = self.keys().await?.len() as u64;
        Ok(vec![("consumers".to_owned(), consumers), ("keys".to_owned(), keys)])
    }
}

fn failed(cause: redis::RedisError) -> Error {
    Error::new(ErrorKind::Backend, "test", "the server refused the test").because(cause)
}

fn main() -> ExitCode {
    let pinned = capabilities();
    Suite::new()
        .on(Kind::Redis)
        .broker("redis/value", &pinned, broker)
        .broker("redis/boxed", &pinned, boxed)
        .broker("redis/shared", &pinned, shared)
        .bus("redis/value", &pinned, broker)
        .faults("redis/value", &pinned, broker)
        .run()
}
