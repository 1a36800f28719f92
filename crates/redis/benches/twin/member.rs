//! The twin's member: leases, reads and acknowledges.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trunkline_testing::twin::Outcome;

use crate::{Entry, Twin, connection};

/// How long a lease lasts without a renewal.
const LEASE_MS: usize = 10_000;
const LEASE: &str = "local taken = {}
for at = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[at]) == 1 then return redis.error_reply('leased') end
  taken[#taken + 1] = redis.call('INCR', KEYS[at + 1])
  redis.call('SET', KEYS[at], taken[#taken], 'PX', ARGV[1])
end
return taken";
const RENEW: &str = "for at = 1, #KEYS do
  if redis.call('GET', KEYS[at]) ~= ARGV[at + 1] then return redis.error_reply('lost') end
  redis.call('PEXPIRE', KEYS[at], ARGV[1])
end";

type Ids = Vec<(usize, Vec<u8>)>;

/// The one member of a group: a task that reads the next batch while one is being handled, and acknowledges.
pub(crate) struct Member {
    pub(crate) batches: mpsc::Receiver<Vec<Entry>>,
    pub(crate) acks: mpsc::UnboundedSender<Ids>,
    reading: JoinHandle<Outcome>,
    renewing: JoinHandle<()>,
}

impl Member {
    /// Leases every stream. A batch is of at most `count` entries.
    pub(crate) async fn join(twin: &Twin, topic: &str, count: usize) -> Outcome<Self> {
        let streams = twin.streams(topic);
        let leases: Vec<String> = streams.iter().map(|s| format!("{{{s}}}..lease")).collect();
        let fences: Vec<String> = streams.iter().map(|s| format!("{{{s}}}..fence")).collect();
        let mut lease = redis::cmd("EVAL");
        lease.arg(LEASE).arg(2 * streams.len());
        for (lease_key, fence) in leases.iter().zip(&fences) {
            lease.arg(lease_key).arg(fence);
        }
        let numbers: Vec<u64> = lease.arg(LEASE_MS).query_async(&mut twin.writer.clone()).await?;
        let mut renew = redis::cmd("EVAL");
        renew.arg(RENEW).arg(leases.len()).arg(&leases).arg(LEASE_MS).arg(&numbers);
        let mut writer = twin.writer.clone();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                // Where it fails the lease runs out, and the next owner raises the number.
                drop(renew.query_async::<()>(&mut writer).await);
            }
        });
        let (sender, batches) = mpsc::channel(1);
        let (acks, settled) = mpsc::unbounded_channel();
        let reader = Reader {
            connection: connection(&twin.client).await?,
            waiter: connection(&twin.client).await?,
            group: topic.to_owned(),
            last: vec![b"0-0".to_vec(); streams.len()],
            // The count is of each stream.
            count: count / streams.len(),
            streams,
            fences,
            numbers,
        };
        let reading = tokio::spawn(reader.run(sender, settled));
        Ok(Self { batches, acks, reading, renewing })
    }

    /// Waits until every acknowledgement has landed.
    pub(crate) async fn leave(self) -> Outcome {
        drop(self.acks);
        let outcome = self.reading.await?;
        self.renewing.abort();
        outcome
    }
}

struct Reader {
    connection: MultiplexedConnection,
    /// It blocks, so nothing else goes through it.
    waiter: MultiplexedConnection,
    group: String,
    streams: Vec<String>,
    fences: Vec<String>,
    numbers: Vec<u64>,
    last: Vec<Vec<u8>>,
    count: usize,
}

impl Reader {
    async fn run(
        mut self,
        batches: mpsc::Sender<Vec<Entry>>,
        mut settled: mpsc::UnboundedReceiver<Ids>,
    ) -> Outcome {
        let mut watch = Pipeline::new();
        self.add_watch(&mut watch);
        let answers = watch.query_async::<Vec<Value>>(&mut self.connection).await?;
        self.check_numbers(answers.into_iter().nth(1))?;
        let (mut has_more, mut is_over) = (true, false);
        let mut news = None;
        let mut acks = Vec::new();
        loop {
            while let Ok(ids) = settled.try_recv() {
                acks.extend(ids);
            }
            let may_read = has_more && batches.capacity() > 0;
            if may_read || !acks.is_empty() {
                let entries = self.transact(std::mem::take(&mut acks), may_read).await?;
                if may_read {
                    has_more = self.note_last(&entries);
                }
                if !entries.is_empty() {
                    batches.try_send(entries)?;
                }
                continue;
            }
            if is_over {
                return Ok(());
            }
            let news_or_new = news.get_or_insert_with(|| Box::pin(self.news()));
            tokio::select! {
                ids = settled.recv() => match ids {
                    Some(ids) => acks.extend(ids),
                    None => is_over = true,
                },
                _ = batches.reserve(), if has_more && batches.capacity() == 0 => {}
                found = news_or_new, if !has_more => {
                    has_more = found?;
                    news = None;
                }
            }
        }
    }

    /// Tells whether there is more than was read last; a wait that takes nothing.
    fn news(&self) -> impl Future<Output = Outcome<bool>> + Send + use<> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(1_000).arg("STREAMS");
        read.arg(&self.streams).arg(&self.last);
        let mut waiter = self.waiter.clone();
        async move { Ok(read.query_async::<Value>(&mut waiter).await? != Value::Nil) }
    }

    /// Acknowledges, and reads the next batch.
    async fn transact(&mut self, acks: Ids, may_read: bool) -> Outcome<Vec<Entry>> {
        let mut of_stream = vec![Vec::new(); self.streams.len()];
        acks.into_iter().for_each(|(stream, id)| of_stream[stream].push(id));
        let mut pipeline = Pipeline::new();
        pipeline.cmd("MULTI");
        for (stream, ids) in self.streams.iter().zip(of_stream).filter(|(_, ids)| !ids.is_empty()) {
            pipeline.cmd("XACK").arg(stream).arg(&self.group).arg(ids);
        }
        if may_read {
            pipeline.cmd("XREADGROUP").arg("GROUP").arg(&self.group).arg("twin");
            pipeline.arg("COUNT").arg(self.count).arg("STREAMS").arg(&self.streams);
            for _ in &self.streams {
                pipeline.arg(">");
            }
        }
        pipeline.cmd("EXEC");
        self.add_watch(&mut pipeline);
        let count = pipeline.len();
        let answers = self.connection.send_packed_commands(&pipeline, 0, count).await?;
        let mut answers = answers.into_iter().skip(count - 3);
        let executed = answers.next();
        self.check_numbers(answers.nth(1))?;
        match executed {
            Some(Value::Array(mut answers)) if may_read => {
                parse(answers.pop().unwrap_or(Value::Nil))
            }
            Some(Value::Array(_)) => Ok(Vec::new()),
            _ => Err("another member owns a stream".into()),
        }
    }

    fn add_watch(&self, pipeline: &mut Pipeline) {
        pipeline.cmd("WATCH").arg(&self.fences);
        pipeline.cmd("MGET").arg(&self.fences);
    }

    fn check_numbers(&self, answer: Option<Value>) -> Outcome {
        let numbers: Vec<u64> = FromRedisValue::from_redis_value(answer.unwrap_or(Value::Nil))?;
        if numbers == self.numbers { Ok(()) } else { Err("another member owns a stream".into()) }
    }

    /// Notes where each stream was read to, and tells whether one may hold more.
    fn note_last(&mut self, entries: &[Entry]) -> bool {
        let mut counts = vec![0; self.streams.len()];
        for entry in entries {
            counts[entry.stream] += 1;
            self.last[entry.stream].clone_from(&entry.id);
        }
        counts.contains(&self.count)
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
