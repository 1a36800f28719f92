//! This broker beside what a careful author would write by hand on the `lapin` crate.
//!
//! `cargo bench -p trunkline-rabbitmq --bench twin [-- MESSAGES ROUNDS MEASURE…]`
//!
//! The twin has the same topology: a topic exchange, a headers exchange of the group behind it that chooses by a
//! slot, an alternate exchange, and quorum queues with a single active consumer. One task owns the confirm
//! channel and keeps 512 publishes unconfirmed; deliveries are acknowledged many at a time. It does not rebuild
//! what is lost with a connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
};
use tokio::sync::{mpsc, oneshot};
use trunkline_core::partition_of;
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::twin::{
    Contender, Kind, Lanes, Load, Log, Message, Outcome, PREFETCH, Subject, Track, run,
};

const EXCHANGE: &str = "twin";
const SLOT: &str = "tl-slot";
const SLOTS: u32 = 16;
/// How many publishes may be unconfirmed.
const WINDOW: usize = 512;
/// How many deliveries are acknowledged by one frame, unless there is nothing else to do.
const ACK_EVERY: u32 = 64;

struct Twin {
    /// Acknowledgements must not wait behind publishes that an alarm blocks.
    consuming: Connection,
    topology: Channel,
    publisher: mpsc::Sender<Job>,
    partitions: u32,
    _publishing: Connection,
}

/// An event and where it goes.
struct Ready {
    topic: ShortString,
    slot: String,
    message: Message,
}

type Job = (Arc<Ready>, oneshot::Sender<Outcome>);

impl Twin {
    async fn connect(url: String, partitions: u32) -> Outcome<Self> {
        let connect = || Connection::connect(&url, ConnectionProperties::default());
        let (publishing, consuming) = (connect().await?, connect().await?);
        let topology = consuming.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        topology
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        let channel = publishing.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (publisher, jobs) = mpsc::channel(WINDOW);
        tokio::spawn(publish_all(channel, jobs));
        Ok(Self { consuming, topology, publisher, partitions, _publishing: publishing })
    }

    async fn consumers(&self, topic: &str) -> Outcome<Vec<(Channel, Consumer)>> {
        let mut consumers = Vec::new();
        for partition in 0..self.partitions {
            let channel = self.consuming.create_channel().await?;
            let prefetch = u16::try_from(PREFETCH)? / u16::try_from(self.partitions)?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (queue, options) = (queue(topic, partition), BasicConsumeOptions::default());
            let consumer =
                channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
            consumers.push((channel, consumer));
        }
        Ok(consumers)
    }
}

/// Owns the confirm channel: tags are given in the order of the first polls, which are all made here.
async fn publish_all(channel: Channel, mut jobs: mpsc::Receiver<Job>) {
    let mut unconfirmed = FuturesUnordered::new();
    loop {
        let job = tokio::select! {
            Some(()) = unconfirmed.next(), if !unconfirmed.is_empty() => continue,
            job = jobs.recv(), if unconfirmed.len() < WINDOW => job,
        };
        let Some((ready, reply)) = job else { return };
        let channel = channel.clone();
        let mut publish: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            // Nobody may wait any more.
            drop(reply.send(publish_one(&channel, &ready).await));
        });
        let begun = poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await;
        if begun.is_pending() {
            unconfirmed.push(publish);
        }
    }
}

async fn publish_one(channel: &Channel, ready: &Ready) -> Outcome {
    let mut headers = FieldTable::default();
    headers.insert(SLOT.into(), AMQPValue::LongString(ready.slot.as_str().into()));
    for (name, value) in ready.message.headers() {
        let name = name.replace('_', "-");
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(Message::CONTENT_TYPE.into())
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let payload = &ready.message.payload;
    let confirm = channel
        .basic_publish(EXCHANGE.into(), ready.topic.clone(), options, payload, properties)
        .await?;
    match confirm.await? {
        Confirmation::Ack(None) => Ok(()),
        refused => Err(format!("not accepted: {refused:?}").into()),
    }
}

fn queue(topic: &str, partition: u32) -> ShortString {
    format!("{topic}..{partition}").into()
}

/// Waits for a delivery, after `idle` when there is none at the moment.
async fn next<S: futures_util::Stream + Unpin>(
    stream: &mut S,
    idle: impl AsyncFnOnce() -> Outcome,
) -> Outcome<S::Item> {
    let next = match stream.next().now_or_never() {
        Some(next) => next,
        None => {
            idle().await?;
            stream.next().await
        }
    };
    Ok(next.ok_or("the consumer was cancelled")?)
}

/// The acknowledgements of one channel, sent for many deliveries at a time.
struct Acks {
    channel: Channel,
    last: u64,
    unsent: u32,
}

impl Acks {
    async fn send(&mut self) -> Outcome {
        if std::mem::take(&mut self.unsent) > 0 {
            self.channel.basic_ack(self.last, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }
}

async fn send_all(acks: &mut [Acks]) -> Outcome {
    for of_channel in acks {
        of_channel.send().await?;
    }
    Ok(())
}

async fn handle_at_once(consumers: Vec<(Channel, Consumer)>, log: &Log) -> Outcome {
    let mut acks = Vec::new();
    let mut streams = SelectAll::new();
    for (at, (channel, consumer)) in consumers.into_iter().enumerate() {
        acks.push(Acks { channel, last: 0, unsent: 0 });
        streams.push(consumer.map(move |delivery| (at, delivery)));
    }
    while !log.is_complete() {
        let (at, delivery) = next(&mut streams, async || send_all(&mut acks).await).await?;
        let delivery = delivery?;
        log.take(&delivery.data);
        let acks = &mut acks[at];
        acks.last = delivery.delivery_tag;
        acks.unsent += 1;
        if acks.unsent >= ACK_EVERY {
            acks.send().await?;
        }
    }
    send_all(&mut acks).await
}

async fn handle_in_lanes(
    channel: Channel,
    mut consumer: Consumer,
    load: Load,
    log: &Arc<Log>,
) -> Outcome {
    let mut lanes = Lanes::start(load, log);
    let (mut track, mut handled) = (Track::default(), Vec::new());
    let mut acks = Acks { channel, last: 0, unsent: 0 };
    while !(log.is_complete() && lanes.inside() == 0) {
        // The prefetch leaves room for whatever is delivered.
        tokio::select! {
            Some(delivery) = consumer.next() => {
                let delivery = delivery?;
                track.add(delivery.delivery_tag);
                let key = key_of(&delivery.properties).ok_or("a message without a key")?;
                lanes.push(&key, delivery.data, delivery.delivery_tag);
            }
            () = lanes.handled(&mut handled) => {
                handled.drain(..).for_each(|tag| track.done(tag));
                if let Some(last) = track.advance() {
                    (acks.last, acks.unsent) = (last, acks.unsent + 1);
                    acks.send().await?;
                }
            }
        }
    }
    acks.send().await
}

fn key_of(properties: &BasicProperties) -> Option<String> {
    match properties.headers().as_ref()?.inner().get("ce-partitionkey")? {
        AMQPValue::LongString(key) => Some(key.to_string()),
        _ => None,
    }
}

impl Contender for Twin {
    type Message = Arc<Ready>;

    fn build(&self, topic: &str, message: Message) -> Outcome<Arc<Ready>> {
        let slot = partition_of(&message.key, SLOTS).to_string();
        Ok(Arc::new(Ready { topic: topic.into(), slot, message }))
    }

    async fn open(&self, topic: &str) -> Outcome {
        let channel = &self.topology;
        let (group, rest) = (ShortString::from(topic), ShortString::from(format!("{topic}..rest")));
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(rest.as_str().into()));
        channel
            .exchange_declare(rest.clone(), ExchangeKind::Fanout, durable, FieldTable::default())
            .await?;
        channel.exchange_declare(group.clone(), ExchangeKind::Headers, durable, arguments).await?;
        for partition in 0..self.partitions {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue(topic, partition), durable, arguments).await?;
        }
        let bind = QueueBindOptions::default();
        for slot in 0..SLOTS {
            let mut arguments = FieldTable::default();
            arguments.insert("x-match".into(), AMQPValue::LongString("all".into()));
            arguments.insert(SLOT.into(), AMQPValue::LongString(slot.to_string().into()));
            let queue = queue(topic, slot % self.partitions);
            channel.queue_bind(queue, group.clone(), "".into(), bind, arguments).await?;
        }
        channel.queue_bind(queue(topic, 0), rest, "".into(), bind, FieldTable::default()).await?;
        let options = ExchangeBindOptions::default();
        channel
            .exchange_bind(group, EXCHANGE.into(), topic.into(), options, FieldTable::default())
            .await?;
        Ok(())
    }

    async fn publish(&self, ready: &Arc<Ready>) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.publisher.send((Arc::clone(ready), reply)).await?;
        outcome.await?
    }

    async fn publish_batch(&self, batch: &[Arc<Ready>]) -> Outcome {
        let mut outcomes = Vec::with_capacity(batch.len());
        for ready in batch {
            let (reply, outcome) = oneshot::channel();
            self.publisher.send((Arc::clone(ready), reply)).await?;
            outcomes.push(outcome);
        }
        for outcome in outcomes {
            outcome.await??;
        }
        Ok(())
    }

    async fn consume(&self, topic: &str, load: Load, log: Arc<Log>) -> Outcome {
        let mut consumers = self.consumers(topic).await?;
        match (load.concurrency, consumers.pop()) {
            (2.., Some((channel, consumer))) if consumers.is_empty() => {
                handle_in_lanes(channel, consumer, load, &log).await?;
            }
            (_, last) => {
                consumers.extend(last);
                handle_at_once(consumers, &log).await?;
            }
        }
        log.finish();
        Ok(())
    }

    async fn remove(&self, topic: &str) -> Outcome {
        for exchange in [topic.to_owned(), format!("{topic}..rest")] {
            let options = ExchangeDeleteOptions::default();
            self.topology.exchange_delete(exchange.into(), options).await?;
        }
        for partition in 0..self.partitions {
            let options = QueueDeleteOptions::default();
            self.topology.queue_delete(queue(topic, partition), options).await?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let subject = Subject { kind: Kind::RabbitMq, messages: 20_000, partitions: 4 };
    let broker = async |url: String, partitions| {
        let config = RabbitMqConfig::new(&url)?.with_partitions(partitions);
        Ok(RabbitMqBroker::connect(config).await?)
    };
    run(subject, broker, Twin::connect)
}
