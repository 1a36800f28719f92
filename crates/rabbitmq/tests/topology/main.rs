//! Exchanges, queues, virtual hosts and TLS as a configuration chooses them, on a real server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod alarm;
mod exchanges;
mod existing;
mod limits;
mod overrides;
mod queues;
mod secure;
#[path = "../support/tool.rs"]
mod tool;
mod vhosts;

use std::sync::LazyLock;
use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use trunkline_core::{
    Broker as _, Data, DeadLetter, Delivery, Event, EventId, FailureCause, Group, Pattern,
    SubscribeOptions, Subscription, SubscriptionExt as _, Topic,
};
use trunkline_launcher::{Kind, Options, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};

/// One server for all that need none of their own; it ends with the test binary.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    // The server's own tool, which is on this machine, has to reach it.
    Server::start_with(Kind::RabbitMq, Options::default().native()).unwrap()
});

/// Longer than anything here needs.
const SOON: Duration = Duration::from_secs(20);
/// Long enough for what must not come.
const A_WHILE: Duration = Duration::from_millis(300);

/// A place of its own on the server, and a hand that knows nothing of the broker.
struct Place {
    prefix: String,
    hand: Channel,
    _connection: Connection,
}

impl Place {
    async fn new() -> Self {
        // Blocks for as long as a server takes to start.
        let url = tokio::task::spawn_blocking(|| SERVER.url()).await.unwrap();
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let hand = connection.create_channel().await.unwrap();
        let prefix = format!("p-{}-", EventId::generate());
        Self { prefix, hand, _connection: connection }
    }

    fn config(&self) -> RabbitMqConfig {
        let config = RabbitMqConfig::new(&SERVER.url()).unwrap();
        config.with_prefix(self.prefix.as_str()).with_partitions(2)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Makes an exchange by hand.
    async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let name = self.name(name).into();
        self.hand.exchange_declare(name, kind, durable, FieldTable::default()).await.unwrap();
    }

    /// Makes a queue by hand.
    async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        self.hand.queue_declare(self.name(name).into(), durable, table).await.unwrap();
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (queue, exchange) = (self.name(queue).into(), self.name(exchange).into());
        let plain = QueueBindOptions::default();
        let binding =
            self.hand.queue_bind(queue, exchange, key.into(), plain, FieldTable::default());
        binding.await.unwrap();
    }

    async fn delete(&self, queue: &str) {
        let deleting =
            self.hand.queue_delete(self.name(queue).into(), QueueDeleteOptions::default());
        deleting.await.unwrap();
    }

    /// The lines of what the server lists that are about this place, sorted.
    async fn list(&self, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let prefix = self.prefix.clone();
        let listing = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let text = tool::rabbitmqctl(&SERVER.port().to_string(), &arguments).unwrap();
            let ours = text.lines().filter(|line| line.contains(&prefix));
            let mut lines: Vec<String> = ours.map(|line| line.replace(&prefix, "")).collect();
            lines.sort();
            lines
        });
        listing.await.unwrap()
    }

    /// Everything that is declared here.
    async fn census(&self) -> [Vec<String>; 3] {
        [
            self.list(&["list_exchanges", "name", "type"]).await,
            self.list(&["list_queues", "name", "arguments"]).await,
            self.list(&["list_bindings", "source_name", "destination_name", "routing_key"]).await,
        ]
    }
}

async fn connect(config: RabbitMqConfig) -> RabbitMqBroker {
    RabbitMqBroker::connect(config).await.unwrap()
}

fn group(name: &str, pattern: &str) -> SubscribeOptions {
    SubscribeOptions::group(Group::new(name).unwrap(), [Pattern::new(pattern).unwrap()])
}

fn broadcast(pattern: &str) -> SubscribeOptions {
    SubscribeOptions::broadcast([Pattern::new(pattern).unwrap()])
}

fn event(topic: &str, number: u64) -> Event {
    keyed(topic, "k", number)
}

fn keyed(topic: &str, key: &str, number: u64) -> Event {
    let topic = Topic::new(topic).unwrap();
    Event::from_data("t", topic, Data::json(number.to_string())).key(key).build().unwrap()
}

fn number(delivery: &Delivery) -> u64 {
    let data = delivery.event().data().unwrap();
    std::str::from_utf8(data.as_slice()).unwrap().parse().unwrap()
}

/// Takes what one subscriber gets.
struct Taker(Box<dyn Subscription>);

impl Taker {
    async fn open(broker: &RabbitMqBroker, options: SubscribeOptions) -> Self {
        Self(broker.subscribe(options).await.unwrap())
    }

    async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(SOON, self.0.next()).await;
        next.expect("a delivery comes soon").unwrap().expect("the subscription goes on")
    }

    async fn expect(&mut self, expected: u64) -> Delivery {
        let delivery = self.next().await;
        assert_eq!(number(&delivery), expected);
        delivery
    }

    async fn take(&mut self, expected: u64) {
        self.expect(expected).await.ack().await.unwrap();
    }

    async fn nothing(&mut self) {
        let next = tokio::time::timeout(A_WHILE, self.0.next()).await;
        assert!(next.is_err(), "nothing was to come");
    }

    async fn close(self) {
        self.0.close(SOON).await.unwrap();
    }
}

fn letter() -> DeadLetter {
    let now = jiff::Timestamp::now();
    DeadLetter {
        cause: FailureCause::Failed,
        attempts: 3,
        first_failure: now,
        last_failure: now,
        error_kind: "handler".to_owned(),
        error_text: "no".to_owned(),
    }
}
