//! This broker beside what a careful author would write by hand on the `redis` crate.
//!
//! `cargo bench -p trunkline-redis --bench twin [-- MESSAGES ROUNDS MEASURE…]`
//!
//! The twin publishes one XADD an event, in pipelines, to as many streams. It leases the streams under fencing
//! numbers, as it must where a second member may take over and the order of a key and foreign acknowledgements
//! matter: it watches the numbers, and reads and acknowledges in transactions that the server discards after a
//! new owner has raised one. A blocking XREADGROUP would be a round trip less, but nothing fences it: one that
//! a member sent before it stood still takes what its successor should have. So the twin too waits by a plain
//! XREAD, on a connection of its own, and reads by a transaction. It does not rebalance, take over or reconnect.

mod member;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use trunkline_core::partition_of;
use trunkline_redis::{RedisBroker, RedisConfig};
use trunkline_testing::twin::{
    Contender, Kind, Lanes, Load, Log, Message, Outcome, PREFETCH, Subject, run,
};

use member::Member;

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
        let mut member = Member::join(self, topic, PREFETCH / 2).await?;
        while !log.is_complete() {
            let entries = member.batches.recv().await.ok_or("the reader ended")?;
            for entry in &entries {
                log.take(&entry.payload);
            }
            member
                .acks
                .send(entries.into_iter().map(|entry| (entry.stream, entry.id)).collect())?;
        }
        member.leave().await
    }

    async fn handle_in_lanes(&self, topic: &str, load: Load, log: &Arc<Log>) -> Outcome {
        let at_a_time = PREFETCH / 4;
        let mut member = Member::join(self, topic, at_a_time).await?;
        let mut lanes = Lanes::start(load, log);
        let mut handled = Vec::new();
        while !(log.is_complete() && lanes.inside() == 0) {
            tokio::select! {
                Some(entries) = member.batches.recv(), if lanes.room() >= at_a_time => {
                    for entry in entries {
                        let key = String::from_utf8(entry.key)?;
                        lanes.push(&key, entry.payload, (entry.stream, entry.id));
                    }
                }
                () = lanes.handled(&mut handled) => {
                    member.acks.send(std::mem::take(&mut handled))?;
                }
            }
        }
        member.leave().await
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
