//! This broker beside what a careful author would write by hand on the `rdkafka` crate.
//!
//! `cargo bench -p trunkline-kafka --bench twin [-- MESSAGES ROUNDS MEASURE…]`
//!
//! The twin publishes by an idempotent `FutureProducer` that never lingers, and consumes on a thread of its
//! own, storing the offset below which everything is handled. Its handler owns the payload and the
//! attributes, which this client reads only when it is asked to; the clients of the other brokers hand
//! over nothing else. It does not drain before a rebalance: with a second member it would run events twice.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio::time::timeout;
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_testing::twin::{
    Contender, Kind, Lanes, Load, Log, Message, Outcome, Subject, Track, run,
};

/// How many messages are handled before the offsets are stored: one call for many, and far more often than
/// the second after which they are committed.
const STORE_EVERY: usize = 500;

struct Twin {
    servers: String,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
    partitions: i32,
}

/// An event and the topic it goes to.
struct Ready {
    topic: String,
    message: Message,
}

impl Twin {
    fn connect(url: &str, partitions: u32) -> Outcome<Self> {
        let servers = url.trim_start_matches("kafka://").to_owned();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &servers);
        let admin = config.create()?;
        let producer = config
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "120000")
            .create()?;
        Ok(Self { servers, producer, admin, partitions: i32::try_from(partitions)? })
    }

    fn send(&self, ready: &Ready) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(8);
        for (key, value) in ready.message.headers() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let content_type = Some(Message::CONTENT_TYPE);
        let record = FutureRecord::to(&ready.topic)
            .key(&ready.message.key)
            .payload(&ready.message.payload)
            .headers(headers.insert(Header { key: "content-type", value: content_type }));
        self.producer.send_result(record).map_err(|(error, _)| error)
    }

    fn consumer(&self, topic: &str) -> Outcome<BaseConsumer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", topic)
            .set("enable.auto.offset.store", "false")
            .set("auto.commit.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            .create()?;
        consumer.subscribe(&[topic])?;
        Ok(consumer)
    }
}

/// The next message, unless none comes in `wait`.
fn poll(consumer: &BaseConsumer, wait: Duration) -> Outcome<Option<BorrowedMessage<'_>>> {
    match consumer.poll(wait) {
        None => Ok(None),
        Some(Ok(message)) => Ok(Some(message)),
        Some(Err(error))
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) =>
        {
            Ok(None)
        }
        Some(Err(error)) => Err(error.into()),
    }
}

/// What a handler gets beside the payload.
fn attributes(message: &BorrowedMessage<'_>) -> Vec<(String, String)> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into();
    headers.map(|header| (header.key.to_owned(), text(header.value))).collect()
}

fn store(consumer: &BaseConsumer, topic: &str, tracks: &mut [Track]) -> Outcome {
    for (partition, track) in (0..).zip(tracks) {
        if let Some(offset) = track.advance() {
            // Stores the offset after this one.
            consumer.store_offset(topic, partition, i64::try_from(offset)?)?;
        }
    }
    Ok(())
}

fn handle_at_once(
    consumer: &BaseConsumer,
    topic: &str,
    tracks: &mut [Track],
    log: &Log,
) -> Outcome {
    let mut unstored = 0;
    while !log.is_complete() {
        let wait = if unstored > 0 { Duration::ZERO } else { Duration::from_millis(100) };
        let message = poll(consumer, wait)?;
        if let Some(message) = &message {
            black_box(attributes(message));
            let payload = message.payload().unwrap_or_default().to_vec();
            log.take(black_box(&payload));
            let track = &mut tracks[usize::try_from(message.partition())?];
            let offset = u64::try_from(message.offset())?;
            track.add(offset);
            track.done(offset);
            unstored += 1;
        }
        if unstored >= STORE_EVERY || (unstored > 0 && message.is_none()) {
            store(consumer, topic, tracks)?;
            unstored = 0;
        }
    }
    store(consumer, topic, tracks)
}

fn handle_in_lanes(
    consumer: &BaseConsumer,
    topic: &str,
    tracks: &mut [Track],
    mut lanes: Lanes<Vec<u8>, (usize, u64)>,
    log: &Log,
) -> Outcome {
    let runtime = Handle::current();
    let mut handled = Vec::new();
    let mut unstored = 0;
    while !(log.is_complete() && lanes.inside() == 0) {
        let message = if lanes.room() > 0 { poll(consumer, Duration::ZERO)? } else { None };
        let idle = message.is_none();
        match message {
            Some(message) => {
                let partition = usize::try_from(message.partition())?;
                let offset = u64::try_from(message.offset())?;
                tracks[partition].add(offset);
                let key = str::from_utf8(message.key().unwrap_or_default())?;
                black_box(attributes(&message));
                let payload = message.payload().unwrap_or_default().to_vec();
                lanes.push(key, payload, (partition, offset));
            }
            // Nothing to read, or no room: what is handled meanwhile makes some.
            None => {
                let wait = timeout(Duration::from_millis(1), lanes.handled(&mut handled));
                // A wait in vain is no failure.
                drop(runtime.block_on(wait));
            }
        }
        lanes.try_handled(&mut handled);
        unstored += handled.len();
        for (partition, offset) in handled.drain(..) {
            tracks[partition].done(offset);
        }
        if unstored >= STORE_EVERY || (idle && unstored > 0) {
            store(consumer, topic, tracks)?;
            unstored = 0;
        }
    }
    store(consumer, topic, tracks)
}

impl Contender for Twin {
    type Message = Ready;

    fn build(&self, topic: &str, message: Message) -> Outcome<Ready> {
        Ok(Ready { topic: topic.to_owned(), message })
    }

    async fn open(&self, topic: &str) -> Outcome {
        let topic = NewTopic::new(topic, self.partitions, TopicReplication::Fixed(1));
        for made in self.admin.create_topics([&topic], &AdminOptions::new()).await? {
            made.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        Ok(())
    }

    async fn publish(&self, ready: &Ready) -> Outcome {
        self.send(ready)?.await?.map_err(|(error, _)| error)?;
        Ok(())
    }

    async fn publish_batch(&self, batch: &[Ready]) -> Outcome {
        let mut sent = Vec::with_capacity(batch.len());
        for ready in batch {
            sent.push(self.send(ready)?);
        }
        for delivery in sent {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    async fn consume(&self, topic: &str, load: Load, log: Arc<Log>) -> Outcome {
        let consumer = self.consumer(topic)?;
        let mut tracks: Vec<_> = (0..self.partitions).map(|_| Track::default()).collect();
        let topic = topic.to_owned();
        let thread = tokio::task::spawn_blocking(move || {
            match load.concurrency {
                1 => handle_at_once(&consumer, &topic, &mut tracks, &log)?,
                _ => {
                    let lanes = Lanes::start(load, &log);
                    handle_in_lanes(&consumer, &topic, &mut tracks, lanes, &log)?;
                }
            }
            log.finish();
            Outcome::Ok(())
        });
        thread.await?
    }

    async fn remove(&self, topic: &str) -> Outcome {
        self.admin.delete_topics(&[topic], &AdminOptions::new()).await?;
        Ok(())
    }
}

fn main() -> ExitCode {
    let subject = Subject { kind: Kind::Kafka, messages: 400_000, partitions: 8 };
    let broker = async |url: String, partitions| {
        Ok(KafkaBroker::connect(KafkaConfig::new(&url)?.with_partitions(partitions)).await?)
    };
    let twin = async |url: String, partitions| Twin::connect(&url, partitions);
    run(subject, broker, twin)
}
