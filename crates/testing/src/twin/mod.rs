//! Measures a broker beside a twin: what a careful author would write by hand on the raw client, with the
//! same guarantees.
//!
//! Both run in the same process on the same server and take turns, so that a ratio holds when the machine's
//! speed drifts; the median of the ratios of all rounds is what counts. Payloads of 256 bytes over 1,000 keys
//! are built before the clock starts, and one group with one member takes them.
//!
//! A backend has a bench with `harness = false` that implements [`Contender`] on its driver and calls [`run`].

mod lanes;
mod log;
mod measure;
mod ours;
mod table;
mod track;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use trunkline_core::Broker;
use trunkline_launcher::Server;

pub use lanes::Lanes;
pub use log::Log;
pub use track::Track;
pub use trunkline_launcher::Kind;

/// How a step ended; an error ends the whole run.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many different keys the messages have.
pub const KEYS: usize = 1_000;

/// How many deliveries a consumer may hold.
pub const PREFETCH: usize = 1_000;

/// The bytes of a payload.
pub const PAYLOAD: usize = 256;

/// What is published: the same attributes and the same payload by both.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its ordering key.
    pub key: String,
    /// The payload; [`Log::take`] reads back which one it is.
    pub payload: Vec<u8>,
    id: String,
    time: String,
    trace: String,
}

impl Message {
    /// The media type of the payload.
    pub const CONTENT_TYPE: &'static str = "application/octet-stream";

    const SOURCE: &'static str = "/bench";
    const TYPE: &'static str = "bench.measured";

    fn number(number: usize) -> Self {
        let mut payload = (number as u64).to_le_bytes().to_vec();
        payload.resize(PAYLOAD, b'x');
        Self {
            key: format!("key-{}", number % KEYS),
            payload,
            id: trunkline_core::EventId::generate().to_string(),
            time: jiff::Timestamp::now().to_string(),
            trace: format!("00-{number:032x}-{number:016x}-01"),
        }
    }

    /// What CloudEvents wants on the wire, as headers of binary mode.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 7] {
        [
            ("ce_specversion", "1.0"),
            ("ce_id", &self.id),
            ("ce_source", Self::SOURCE),
            ("ce_type", Self::TYPE),
            ("ce_time", &self.time),
            ("ce_partitionkey", &self.key),
            ("ce_traceparent", &self.trace),
        ]
    }
}

/// What a consumer does with each message.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many messages are handled at a time; those of one key never are.
    pub concurrency: usize,
    /// How long handling one takes; zero is no work at all.
    pub work: Duration,
}

/// One of the two that are compared. Its number of partitions is given when it is made.
pub trait Contender: Send + Sync + 'static {
    /// A message, ready to be published.
    type Message: Send + Sync + 'static;

    /// Makes a message ready. Not measured: everything that has to be made for each publish is for
    /// [`Contender::publish`].
    ///
    /// # Errors
    /// When it cannot be made.
    fn build(&self, topic: &str, message: Message) -> Outcome<Self::Message>;

    /// Makes the topic, and a group of the same name that keeps what is published from now on.
    fn open(&self, topic: &str) -> impl Future<Output = Outcome> + Send;

    /// Publishes one message; Ok once the broker has accepted responsibility.
    fn publish(&self, message: &Self::Message) -> impl Future<Output = Outcome> + Send;

    /// Publishes many messages; Ok once the broker has accepted responsibility for all of them.
    fn publish_batch(&self, batch: &[Self::Message]) -> impl Future<Output = Outcome> + Send;

    /// Takes the group's messages until `log` has them all: each is given to [`Log::take`], then worked
    /// on, then acknowledged. Calls [`Log::finish`] once all acknowledgements have landed, and leaves.
    fn consume(
        &self,
        topic: &str,
        load: Load,
        log: Arc<Log>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Removes the group, so that it costs the server nothing in later rounds.
    fn remove(&self, topic: &str) -> impl Future<Output = Outcome> + Send;
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The server.
    pub kind: Kind,
    /// How many messages a throughput is measured over, unless the command line says otherwise.
    pub messages: usize,
    /// How many partitions a topic has, save where it has one.
    pub partitions: u32,
}

/// Measures and prints a table: `cargo bench -p … --bench twin [-- MESSAGES ROUNDS MEASURE…]`.
///
/// `broker` and `twin` are made on the URL of a server of their own, for topics of so many partitions.
///
/// The first error of either ends the run; nothing is tried again.
pub fn run<B: Broker, T: Contender>(
    subject: Subject,
    broker: impl AsyncFn(String, u32) -> Outcome<B>,
    twin: impl AsyncFn(String, u32) -> Outcome<T>,
) -> ExitCode {
    match try_run(subject, broker, twin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", subject.kind);
            ExitCode::FAILURE
        }
    }
}

fn try_run<B: Broker, T: Contender>(
    subject: Subject,
    broker: impl AsyncFn(String, u32) -> Outcome<B>,
    twin: impl AsyncFn(String, u32) -> Outcome<T>,
) -> Outcome {
    let asked = measure::Asked::from_command_line(subject.messages);
    let server = Server::start(subject.kind)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(async {
        let url = || server.url();
        let many = measure::Pair {
            ours: ours::Ours::new(broker(url(), subject.partitions).await?).await?,
            twin: Arc::new(twin(url(), subject.partitions).await?),
        };
        let one = measure::Pair {
            ours: ours::Ours::new(broker(url(), 1).await?).await?,
            twin: Arc::new(twin(url(), 1).await?),
        };
        measure::all(&asked, &many, &one).await
    })?;
    println!("{} {}, {asked}", subject.kind, server.version());
    table::print(&rows);
    Ok(())
}
