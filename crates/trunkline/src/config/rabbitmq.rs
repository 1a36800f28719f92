//! `type = "rabbitmq"`: a broker over RabbitMQ.

use std::path::PathBuf;
use std::time::Duration;

use trunkline_core::Group;

use super::describe::Page;
use super::property::Properties;
use super::read::{Choice, Item, Section};
use super::server::{DEFAULT, ServerConfig};
use super::tree::Value;

/// `type = "rabbitmq"`: a broker over RabbitMQ; where a setting is absent the broker has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RabbitMqConfig {
    /// Where the server is and how its names begin; the URL's path is the virtual host.
    pub server: ServerConfig,
    /// The exchange that events are published to; absent, `trunkline`.
    pub exchange: Option<String>,
    /// What kind of exchange it is.
    pub exchange_type: ExchangeType,
    /// What kind of queues groups have.
    pub queue_type: QueueType,
    /// Further arguments of the queues, passed on as they are.
    pub queue_arguments: Properties,
    /// What is made; the rest has to be there.
    pub declare: Declare,
    /// Groups that take from queues that exist, which are then neither declared nor bound.
    pub group_queues: Vec<(Group, Vec<String>)>,
    /// After how long a silent server is asked for a sign of life.
    pub heartbeat: Option<Duration>,
    /// How many channels publish beside each other.
    pub confirm_channels: Option<usize>,
    /// How many publishes may wait for their confirm on each of them.
    pub confirm_window: Option<usize>,
    /// A file of certificates in PEM that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// What the broker makes of its exchanges and queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declare {
    /// `true`: whatever it needs.
    #[default]
    All,
    /// `"own"`: what it keeps for itself, and neither the exchange nor the queues of groups.
    Own,
    /// `false`: nothing, and what cannot be without is an error.
    Nothing,
}

/// How an exchange chooses the queues of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeType {
    /// By patterns over the routing key, which is the topic.
    #[default]
    Topic,
    /// By the whole routing key.
    Direct,
    /// All of them.
    Fanout,
    /// By headers.
    Headers,
}

/// How the server keeps the queue of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueType {
    /// On a majority of servers: what is confirmed survives the loss of one.
    #[default]
    Quorum,
    /// On one server.
    Classic,
}

const EXCHANGES: [Choice<ExchangeType>; 4] = [
    ("topic", Some(ExchangeType::Topic)),
    ("direct", Some(ExchangeType::Direct)),
    ("fanout", Some(ExchangeType::Fanout)),
    ("headers", Some(ExchangeType::Headers)),
];
const QUEUES: [Choice<QueueType>; 2] =
    [("quorum", Some(QueueType::Quorum)), ("classic", Some(QueueType::Classic))];
/// The word for [`Declare::Own`].
const OWN: &str = "own";
const SCHEMES: &[&str] = &["amqp", "amqps"];

impl RabbitMqConfig {
    /// A broker at `server` that leaves everything else as it is.
    #[must_use]
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            exchange: None,
            exchange_type: ExchangeType::default(),
            queue_type: QueueType::default(),
            queue_arguments: Properties::default(),
            declare: Declare::default(),
            group_queues: Vec::new(),
            heartbeat: None,
            confirm_channels: None,
            confirm_window: None,
            ca_file: None,
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let example = "amqp://guest:guest@127.0.0.1:5672/%2f";
        let server = ServerConfig::read(&mut section, SCHEMES, example);
        let exchange_type = section.choice("exchange_type", "exchange type", &EXCHANGES);
        let queue_type = section.choice("queue_type", "queue type", &QUEUES);
        let rabbitmq = Self {
            server,
            exchange: section.text("exchange").map(str::to_owned),
            exchange_type: exchange_type.unwrap_or_default(),
            queue_type: queue_type.unwrap_or_default(),
            queue_arguments: Properties::read(&mut section, "queue_arguments", "-"),
            declare: read_declare(&mut section),
            group_queues: read_group_queues(&mut section),
            heartbeat: section.millis("heartbeat_ms"),
            confirm_channels: section.number("confirm_channels", 1),
            confirm_window: section.number("confirm_window", 1),
            ca_file: section.text("ca_file").map(PathBuf::from),
        };
        section.finish();
        rabbitmq
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.set("type", "rabbitmq");
        self.server.describe(page);
        page.set_or_note("exchange", self.exchange.clone(), "trunkline");
        page.choice("exchange_type", self.exchange_type, &EXCHANGES);
        page.choice("queue_type", self.queue_type, &QUEUES);
        self.queue_arguments.describe("queue_arguments", page);
        match self.declare {
            Declare::All => page.set("declare", true),
            Declare::Own => page.set("declare", OWN),
            Declare::Nothing => page.set("declare", false),
        }
        let mut queues = Page::new();
        for (group, names) in &self.group_queues {
            queues.list(group.as_str(), names);
        }
        page.table("group_queues", &queues);
        page.millis_or_note("heartbeat_ms", self.heartbeat, DEFAULT);
        page.number_or_note("confirm_channels", self.confirm_channels, DEFAULT);
        page.number_or_note("confirm_window", self.confirm_window, DEFAULT);
        let ca_file = self.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned());
        page.set_or_note("ca_file", ca_file, "the certificates of the system");
    }
}

fn read_declare(section: &mut Section<'_>) -> Declare {
    let Some(item) = section.get("declare") else { return Declare::default() };
    match item.value() {
        Value::Boolean(true) => Declare::All,
        Value::Boolean(false) => Declare::Nothing,
        _ => {
            if !item.is_text(OWN) {
                item.wrong("expected true, \"own\" or false");
            }
            Declare::Own
        }
    }
}

/// A table of groups, each with the names of queues that exist.
fn read_group_queues(section: &mut Section<'_>) -> Vec<(Group, Vec<String>)> {
    let Some(table) = section.section("group_queues") else { return Vec::new() };
    let read = |item: Item<'_>| {
        let group = item.parse_key()?;
        let queues = item.items()?;
        Some((group, queues.iter().filter_map(Item::text).map(str::to_owned).collect()))
    };
    table.entries().filter_map(read).collect()
}
