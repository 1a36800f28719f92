//! How the suite makes RabbitMQ brokers, and gets at the server behind their back.

mod landing;
mod tool;

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use trunkline_core::{
    Broker as _, BrokerAdmin as _, Capabilities, Durability, Error, ErrorKind, Group, Result,
    Topic, partition_of,
};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, RawHeaders};

pub(crate) use landing::acknowledgements_right_before_a_close_land;
use tool::rabbitmqctl;

/// As few as three members can share: each is a quorum queue, and all properties share one node.
const PARTITIONS: u32 = 3;

/// A killed member's connection is cut at once; what it had comes from the front of its queues.
const TAKEOVER: Duration = Duration::from_secs(5);

/// Acknowledgements wait 2 ms for others; the rest is for a machine that is busy.
const ACK_INTERVAL: Duration = Duration::from_millis(100);

/// The slots that publishers write; slot n is in partition n modulo their number.
const SLOTS: u32 = 16;

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
    let [writer, remover, refuser, census, tap, end] = [(); 6].map(|()| conditions.clone());
    fixture
        .with_takeover(TAKEOVER)
        .with_ack_interval(ACK_INTERVAL)
        .with_partitions(PARTITIONS, |key| partition_of(key, SLOTS) % PARTITIONS)
        .with_header_tap(move |topic| tap_headers(tap.clone(), topic))
        .with_raw_writer(move |topic, bytes| write_raw(writer.clone(), topic, bytes))
        .with_group_remover(move |group| remove_group(remover.clone(), group))
        .with_letter_refuser(move |topic, group| refuse_letters(refuser.clone(), topic, group))
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

/// Reads the headers of what a topic carries from now on, in a queue of its own.
async fn tap_headers(
    conditions: BrokerConditions,
    topic: Topic,
) -> Result<impl Future<Output = Result<RawHeaders>> + Send + 'static> {
    let (connection, channel) = plain(&conditions).await?;
    let exchange = ShortString::from(format!("{}trunkline", conditions.prefix));
    let mine = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare("".into(), mine, FieldTable::default());
    let queue = declaring.await.map_err(failed)?.name().clone();
    let (key, plain) = (ShortString::from(topic.as_str()), QueueBindOptions::default());
    let binding = channel.queue_bind(queue.clone(), exchange, key, plain, FieldTable::default());
    binding.await.map_err(failed)?;
    let taking = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue, "".into(), taking, FieldTable::default());
    let mut consumer = consuming.await.map_err(failed)?;
    Ok(async move {
        let next = poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx));
        let caught = tokio::time::timeout(Duration::from_secs(10), next).await.map_err(failed)?;
        let message = caught.ok_or_else(|| failed("the tap has ended"))?.map_err(failed)?;
        connection.close(200, "done".into()).await.map_err(failed)?;
        let table = message.properties.headers().clone().unwrap_or_default();
        let headers = table.inner().iter().map(|(name, value)| (name.to_string(), bytes_of(value)));
        Ok(headers.collect())
    })
}

fn bytes_of(value: &AMQPValue) -> Vec<u8> {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().to_vec(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().to_vec(),
        other => format!("{other:?}").into_bytes(),
    }
}

async fn remove_group(conditions: BrokerConditions, group: Group) -> Result<()> {
    let (connection, channel) = plain(&conditions).await?;
    for partition in 0..PARTITIONS {
        let queue = format!("{}{group}..{partition}", conditions.prefix);
        delete(&channel, &queue).await?;
    }
    connection.close(200, "done".into()).await.map_err(failed)
}

/// A queue of another type stands where the stream of dead letters is to be; it can be removed.
async fn refuse_letters(
    conditions: BrokerConditions,
    topic: Topic,
    group: Group,
) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
    let (connection, channel) = plain(&conditions).await?;
    let queue = format!("{}{topic}..dlq.{group}", conditions.prefix);
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let name = ShortString::from(queue.as_str());
    channel.queue_declare(name, durable, FieldTable::default()).await.map_err(failed)?;
    Ok(async move {
        delete(&channel, &queue).await?;
        connection.close(200, "done".into()).await.map_err(failed)
    })
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

/// What the server's own tool, which needs no plugin, evaluates: how many queues, consumers and exchanges
/// there are under the prefix, and how many connections and channels on the whole server.
const CENSUS: &str = r#"
    IsOurs = fun(Name) -> string:prefix(element(4, Name), <<"PREFIX">>) =/= nomatch end,
    Queues = [Queue || Queue <- rabbit_amqqueue:list(), IsOurs(amqqueue:get_name(Queue))],
    Consumers = [proplists:get_value(consumers, rabbit_amqqueue:info(Queue, [consumers]), 0)
        || Queue <- Queues],
    Exchanges = [Name || Name <- [element(2, Exchange) || Exchange <- rabbit_exchange:list()],
        IsOurs(Name)],
    [length(Queues), lists:sum([Count || Count <- Consumers, is_integer(Count)]), length(Exchanges),
        length(rabbit_networking:connections()), length(rabbit_channel:list())].
"#;

/// What [`CENSUS`] answers, in its order.
const COUNTED: [&str; 5] = ["queues", "consumers", "exchanges", "connections", "channels"];

async fn count(conditions: BrokerConditions) -> Result<Vec<(String, u64)>> {
    let counting = tokio::task::spawn_blocking(move || evaluate(&conditions));
    counting.await.map_err(failed)?
}

fn evaluate(conditions: &BrokerConditions) -> Result<Vec<(String, u64)>> {
    let url = conditions.url.as_deref().unwrap_or_default();
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let text = rabbitmqctl(port, &["eval", &CENSUS.replace("PREFIX", &conditions.prefix)])?;
    let numbers: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    if numbers.len() != COUNTED.len() {
        return Err(failed(text));
    }
    Ok(COUNTED.iter().map(|name| (*name).to_owned()).zip(numbers).collect())
}
