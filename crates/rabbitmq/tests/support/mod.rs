//! How the suite makes RabbitMQ brokers, and gets at the server behind their back.

mod landing;

use std::process::Command;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeleteOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use trunkline_core::{
    Broker as _, BrokerAdmin as _, Capabilities, Durability, Error, ErrorKind, Group, Result, Topic,
};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::Fixture;
use trunkline_testing::broker::BrokerConditions;

pub(crate) use landing::acknowledgements_right_before_a_close_land;

/// As few as three members can share: each is a quorum queue, and all properties share one node.
const PARTITIONS: u32 = 3;

/// A killed member's connection is cut at once; what it had comes from the front of its queues.
const TAKEOVER: Duration = Duration::from_secs(5);

pub(crate) fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("rabbitmq", Durability::Replicated);
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.dead_letters = true;
    pinned.shared_keys = true;
    pinned.exchange = true;
    pinned.headers = true;
    pinned
}

pub(crate) fn config(conditions: &BrokerConditions) -> Result<RabbitMqConfig> {
    let missing = || Error::new(ErrorKind::Config, "test", "the suite has started no server");
    let url = conditions.url.as_deref().ok_or_else(missing)?;
    let mut config = RabbitMqConfig::new(url)?
        .with_prefix(conditions.prefix.as_str())
        .with_partitions(PARTITIONS)
        // A frozen server is to be noticed within the time of a property.
        .with_heartbeat(Duration::from_secs(3));
    if let Some(timeout) = conditions.publish_timeout {
        config = config.with_publish_timeout(timeout);
    }
    if let Some(bytes) = conditions.max_event_bytes {
        config = config.with_max_event_bytes(bytes);
    }
    Ok(config)
}

pub(crate) async fn connect(config: RabbitMqConfig) -> Result<RabbitMqBroker> {
    RabbitMqBroker::connect(config).await
}

pub(crate) async fn broker(conditions: BrokerConditions) -> Result<Fixture<RabbitMqBroker>> {
    let broker = connect(config(&conditions)?).await?;
    Ok(with_hooks(Fixture::new(broker), &conditions))
}

/// Adds what the suite does behind the broker's back.
pub(crate) fn with_hooks<T>(fixture: Fixture<T>, conditions: &BrokerConditions) -> Fixture<T> {
    let [writer, remover, census, end] = [(); 4].map(|()| conditions.clone());
    fixture
        .with_takeover(TAKEOVER)
        .with_raw_writer(move |topic, bytes| write_raw(writer.clone(), topic, bytes))
        .with_group_remover(move |group| remove_group(remover.clone(), group))
        .with_census(move || count(census.clone()))
        .at_end(clean(end))
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Disconnected, "test", cause.to_string())
}

async fn plain(conditions: &BrokerConditions) -> Result<(Connection, Channel)> {
    let url = conditions.url.as_deref().unwrap_or_default();
    let connecting = Connection::connect(url, ConnectionProperties::default());
    let connection = connecting.await.map_err(failed)?;
    let channel = connection.create_channel().await.map_err(failed)?;
    Ok((connection, channel))
}

async fn write_raw(conditions: BrokerConditions, topic: Topic, bytes: Vec<u8>) -> Result<()> {
    let (connection, channel) = plain(&conditions).await?;
    let exchange = ShortString::from(format!("{}trunkline", conditions.prefix));
    let (key, options) = (ShortString::from(topic.as_str()), BasicPublishOptions::default());
    let properties = BasicProperties::default();
    let sent = channel.basic_publish(exchange, key, options, &bytes, properties).await;
    sent.map_err(failed)?.await.map_err(failed)?;
    connection.close(200, "done".into()).await.map_err(failed)
}

async fn remove_group(conditions: BrokerConditions, group: Group) -> Result<()> {
    let (connection, channel) = plain(&conditions).await?;
    for partition in 0..PARTITIONS {
        let queue = format!("{}{group}..{partition}", conditions.prefix);
        delete(&channel, &queue).await?;
    }
    connection.close(200, "done".into()).await.map_err(failed)
}

async fn delete(channel: &Channel, queue: &str) -> Result<()> {
    let deleting = channel.queue_delete(ShortString::from(queue), QueueDeleteOptions::default());
    deleting.await.map(drop).map_err(failed)
}

/// Removes what the property's broker has left on the server, where the server is still there: a
/// property of faults ends with its own server, or with the proxy before it.
async fn clean(conditions: BrokerConditions) -> Result<()> {
    let quick = config(&conditions)?
        .with_connect_timeout(Duration::from_secs(1))
        .with_publish_timeout(Duration::from_secs(2));
    let Ok(broker) = connect(quick).await else { return Ok(()) };
    let cleaned = clean_with(&broker, &conditions).await;
    drop(broker.close(Duration::from_secs(2)).await);
    match cleaned {
        Err(error) if error.kind() != ErrorKind::Disconnected => Err(error),
        _ => Ok(()),
    }
}

async fn clean_with(broker: &RabbitMqBroker, conditions: &BrokerConditions) -> Result<()> {
    let (_connection, channel) = plain(conditions).await?;
    for group in broker.groups().await? {
        // A member that was killed may still be counted.
        if let Ok(true) = broker.delete_group(&group.name).await {
            delete(&channel, &format!("{}{}..state", conditions.prefix, group.name)).await?;
        }
    }
    for rung in 0..26 {
        delete(&channel, &format!("{}trunkline..delay.{rung}", conditions.prefix)).await?;
    }
    for own in ["groups", "state", "unrouted"] {
        delete(&channel, &format!("{}trunkline..{own}", conditions.prefix)).await?;
    }
    Ok(())
}

/// Asks the server's own tool, which needs no plugin, what there is under the prefix.
async fn count(conditions: BrokerConditions) -> Result<Vec<(String, u64)>> {
    let counting = tokio::task::spawn_blocking(move || list_queues(&conditions));
    counting.await.map_err(failed)?
}

fn list_queues(conditions: &BrokerConditions) -> Result<Vec<(String, u64)>> {
    let url = conditions.url.as_deref().unwrap_or_default();
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let environment = server_environment(port).ok_or_else(|| failed("no server on the port"))?;
    let listed = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
        .args(["-q", "list_queues", "--no-table-headers", "name", "consumers"])
        .envs(environment)
        .output()
        .map_err(failed)?;
    if !listed.status.success() {
        return Err(failed(String::from_utf8_lossy(&listed.stderr)));
    }
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ours = text.lines().filter(|line| line.starts_with(&conditions.prefix));
    let (mut queues, mut consumers) = (0, 0);
    for line in ours {
        queues += 1;
        let count = line.split('\t').nth(1).and_then(|count| count.trim().parse::<u64>().ok());
        consumers += count.unwrap_or_default();
    }
    Ok(vec![("queues".to_owned(), queues), ("consumers".to_owned(), consumers)])
}

/// The variables of the server that listens on `port`: its tool wants the same.
fn server_environment(port: &str) -> Option<Vec<(String, String)>> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let environments = processes.flatten().filter_map(|entry| {
        let bytes = std::fs::read(entry.path().join("environ")).ok()?;
        let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Some(pairs.collect::<Vec<_>>())
    });
    let listener = format!("127.0.0.1:{port}");
    let is_ours = |pairs: &Vec<(String, String)>| {
        let file = pairs.iter().find(|(name, _)| name == "RABBITMQ_CONFIG_FILE");
        let settings = file.and_then(|(_, path)| std::fs::read_to_string(path).ok());
        settings.is_some_and(|settings| settings.contains(&listener))
    };
    environments.into_iter().find(is_ours)
}
