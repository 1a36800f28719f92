//! This broker beside what a careful author would write by hand on the `redis` crate.
//!
//! `cargo bench -p trunkline-redis --bench twin [-- MESSAGES ROUNDS MEASURE…]`
//!
//! The twin publishes one XADD an event, in pipelines, to as many streams; it
//! reads all of them by one blocking XREADGROUP on a connection of its own, and acknowledges with one XACK a
//! stream and batch. It has no leases: with a second member it would lose the order of a key.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use trunkline_core::partition_of;
use trunkline_redis::{RedisBroker, RedisConfig};
use trunkline_testing::twin::{
    Contender, Kind, Lanes, Load, Log, Message, Outcome, PREFETCH, Subject, run,
};

struct Twin {
    client: Client,
    writer: MultiplexedConnection,
    publisher: mpsc::Sender<Job>,
    partitions: u32,
}

type Job = (Cmd, oneshot::Sender<Outcome>);

/// An event and the stream it goes to.
struct Ready {
    stream: String,
    message: Message,
}

impl Ready {
    fn add(&self) -> Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(&self.stream).arg("*");
        for (name, value) in self.message.headers() {
            add.arg(name).arg(value);
        }
        add.arg("content-type").arg(Message::CONTENT_TYPE);
        add.arg("data").arg(self.message.payload.as_slice());
        add
    }
}

/// An entry as a consumer needs it.
struct Entry {
    stream: usize,
    id: Vec<u8>,
    key: Vec<u8>,
    payload: Vec<u8>,
}

impl Twin {
    async fn connect(url: String, partitions: u32) -> Outcome<Self> {
        let client = Client::open(url)?;
        let (publisher, jobs) = mpsc::channel(512);
        tokio::spawn(publish_all(connection(&client).await?, jobs));
        Ok(Self { writer: connection(&client).await?, publisher, client, partitions })
    }

    fn stream(topic: &str, partition: u32) -> String {
        if partition == 0 { topic.to_owned() } else { format!("{topic}..{partition}") }
    }

    fn streams(&self, topic: &str) -> Vec<String> {
        (0..self.partitions).map(|partition| Self::stream(topic, partition)).collect()
    }

    async fn handle_at_once(&self, topic: &str, log: &Log) -> Outcome {
        let mut batches = self.read_ahead(topic, PREFETCH / 2).await?;
        let mut acks = Acks::new(&self.writer, topic, self.streams(topic));
        while !log.is_complete() {
            let entries = batches.recv().await.ok_or("the reader ended")??;
            for entry in &entries {
                log.take(&entry.payload);
            }
            acks.send(entries.into_iter().map(|entry| (entry.stream, entry.id))).await?;
        }
        acks.landed().await
    }

    async fn handle_in_lanes(&self, topic: &str, load: Load, log: &Arc<Log>) -> Outcome {
        let at_a_time = PREFETCH / 4;
        let mut batches = self.read_ahead(topic, at_a_time).await?;
        let mut acks = Acks::new(&self.writer, topic, self.streams(topic));
        let mut lanes = Lanes::start(load, log);
        let mut handled = Vec::new();
        while !(log.is_complete() && lanes.inside() == 0) {
            tokio::select! {
                Some(entries) = batches.recv(), if lanes.room() >= at_a_time => {
                    for entry in entries? {
                        let key = String::from_utf8(entry.key)?;
                        lanes.push(&key, entry.payload, (entry.stream, entry.id));
                    }
                }
                () = lanes.handled(&mut handled) => acks.send(handled.drain(..)).await?,
            }
        }
        acks.landed().await
    }

    /// Reads the next batch, of at most `count` entries, while one is being handled.
    async fn read_ahead(
        &self,
        topic: &str,
        count: usize,
    ) -> Outcome<mpsc::Receiver<Outcome<Vec<Entry>>>> {
        let mut read = redis::cmd("XREADGROUP");
        // The count is of each stream.
        let count = count / self.partitions as usize;
        read.arg("GROUP").arg(topic).arg("twin").arg("COUNT").arg(count);
        read.arg("BLOCK").arg(1_000).arg("STREAMS").arg(self.streams(topic));
        for _ in 0..self.partitions {
            read.arg(">");
        }
        let mut connection = connection(&self.client).await?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while !sender.is_closed() {
                let answer = read.query_async(&mut connection).await;
                let entries = answer.map_err(Into::into).and_then(parse);
                if sender.send(entries).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

async fn connection(client: &Client) -> Outcome<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_secs(10)))
        .set_pipeline_buffer_size(2_000);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

/// Sends what single publishers hand in meanwhile as one pipeline: half again as fast as to leave it to the
/// multiplexed connection.
async fn publish_all(mut connection: MultiplexedConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut taken = Vec::new();
    while jobs.recv_many(&mut taken, 512).await > 0 {
        let mut pipeline = Pipeline::with_capacity(taken.len());
        let mut replies = Vec::with_capacity(taken.len());
        for (command, reply) in taken.drain(..) {
            pipeline.add_command(command);
            replies.push(reply);
        }
        let answers = connection.send_packed_commands(&pipeline, 0, replies.len()).await;
        let answers = answers.map(|values| values.into_iter().map(Value::extract_error));
        let mut answers = answers.into_iter().flatten();
        for reply in replies {
            let answer = answers.next().ok_or("the pipeline was not answered");
            let outcome = match answer {
                Ok(answer) => answer.map(drop).map_err(Into::into),
                Err(message) => Err(message.into()),
            };
            // Nobody may wait any more.
            drop(reply.send(outcome));
        }
    }
}

/// Acknowledges batch after batch, the next one being read meanwhile.
struct Acks {
    connection: MultiplexedConnection,
    group: String,
    streams: Arc<Vec<String>>,
    under_way: Option<JoinHandle<Outcome>>,
}

impl Acks {
    fn new(connection: &MultiplexedConnection, group: &str, streams: Vec<String>) -> Self {
        let (connection, group) = (connection.clone(), group.to_owned());
        Self { connection, group, streams: Arc::new(streams), under_way: None }
    }

    async fn send(&mut self, ids: impl Iterator<Item = (usize, Vec<u8>)>) -> Outcome {
        self.landed().await?;
        let mut of_stream = vec![Vec::new(); self.streams.len()];
        ids.for_each(|(stream, id)| of_stream[stream].push(id));
        let mut pipeline = Pipeline::new();
        for (stream, ids) in self.streams.iter().zip(of_stream).filter(|(_, ids)| !ids.is_empty()) {
            pipeline.cmd("XACK").arg(stream).arg(&self.group).arg(ids).ignore();
        }
        let mut connection = self.connection.clone();
        self.under_way =
            Some(tokio::spawn(
                async move { Ok(pipeline.query_async::<()>(&mut connection).await?) },
            ));
        Ok(())
    }

    async fn landed(&mut self) -> Outcome {
        match self.under_way.take() {
            Some(task) => task.await?,
            None => Ok(()),
        }
    }
}

/// Takes the answer of an XREADGROUP apart: `[[stream, [[id, [name, value, …]], …]], …]`, or nothing.
fn parse(answer: Value) -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    let Value::Array(streams) = answer else { return Ok(entries) };
    for stream in streams {
        let (name, of_stream): (String, Vec<Value>) = FromRedisValue::from_redis_value(stream)?;
        let number = name.rsplit_once("..").map_or(Ok(0), |(_, number)| number.parse())?;
        for entry in of_stream {
            entries.push(entry_of(number, entry).ok_or("not an entry of ours")?);
        }
    }
    Ok(entries)
}

fn entry_of(stream: usize, entry: Value) -> Option<Entry> {
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(entry.into_sequence().ok()?).ok()?
    else {
        return None;
    };
    let mut entry = Entry { stream, id: bytes(id)?, key: Vec::new(), payload: Vec::new() };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name {
            Value::BulkString(name) if name == b"data" => entry.payload = bytes(value)?,
            Value::BulkString(name) if name == b"ce_partitionkey" => entry.key = bytes(value)?,
            _ => {}
        }
    }
    Some(entry)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

impl Contender for Twin {
    type Message = Ready;

    fn build(&self, topic: &str, message: Message) -> Outcome<Ready> {
        let stream = Self::stream(topic, partition_of(&message.key, self.partitions));
        Ok(Ready { stream, message })
    }

    async fn open(&self, topic: &str) -> Outcome {
        let mut pipeline = Pipeline::new();
        for stream in self.streams(topic) {
            pipeline.cmd("XGROUP").arg("CREATE").arg(stream).arg(topic).arg("0").arg("MKSTREAM");
        }
        Ok(pipeline.query_async(&mut self.writer.clone()).await?)
    }

    async fn publish(&self, ready: &Ready) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.publisher.send((ready.add(), reply)).await?;
        outcome.await?
    }

    async fn publish_batch(&self, batch: &[Ready]) -> Outcome {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for ready in batch {
            pipeline.add_command(ready.add()).ignore();
        }
        Ok(pipeline.query_async::<()>(&mut self.writer.clone()).await?)
    }

    async fn consume(&self, topic: &str, load: Load, log: Arc<Log>) -> Outcome {
        match load.concurrency {
            1 => self.handle_at_once(topic, &log).await?,
            _ => self.handle_in_lanes(topic, load, &log).await?,
        }
        log.finish();
        Ok(())
    }

    async fn remove(&self, topic: &str) -> Outcome {
        Ok(redis::cmd("DEL").arg(self.streams(topic)).query_async(&mut self.writer.clone()).await?)
    }
}

fn main() -> ExitCode {
    let subject = Subject { kind: Kind::Redis, messages: 200_000, partitions: 8 };
    let broker = async |url: String, partitions| {
        // The twin trims nothing either.
        let config =
            RedisConfig::new(&url)?.with_partitions(partitions).with_max_stream_length(None);
        Ok(RedisBroker::connect(config).await?)
    };
    run(subject, broker, Twin::connect)
}
