//! What is particular to Redis Streams: trimming, foreign streams, crash counts, placement, a full server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crashes;
mod deadlines;
mod foreign;
mod memory;
mod placement;
mod recovery;
mod refusals;
mod trimming;

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use trunkline_core::{
    BrokerExt as _, Data, Delivery, Event, EventId, Group, Pattern, SubscribeOptions, Subscription,
    SubscriptionExt as _, Topic,
};
use trunkline_launcher::{Kind, Server};
use trunkline_redis::{RedisBroker, RedisConfig};

/// One server for all of them; it ends with the test binary.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(Kind::Redis).unwrap());

/// Longer than anything here needs, on however slow a machine.
const SOON: Duration = Duration::from_secs(60);

/// A place of its own on a server.
#[derive(Clone)]
struct Place {
    url: String,
    prefix: String,
    raw: redis::aio::MultiplexedConnection,
}

impl Place {
    async fn new() -> Self {
        Self::on(&SERVER, format!("p-{}-", EventId::generate())).await
    }

    /// A server that is nobody else's, for what everybody on it notices.
    async fn alone() -> (Server, Self) {
        let server = Server::start(Kind::Redis).unwrap();
        let place = Self::on(&server, String::new()).await;
        (server, place)
    }

    async fn on(server: &Server, prefix: String) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        // The driver's own limits are shorter than a busy machine may take.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(SOON))
            .set_response_timeout(Some(SOON));
        let raw = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        Self { url: server.url(), prefix, raw }
    }

    /// With a lease that no test outlives: one that lapses is taken away by hand.
    fn config(&self) -> RedisConfig {
        RedisConfig::new(&self.url)
            .unwrap()
            .with_prefix(self.prefix.as_str())
            .with_connect_timeout(SOON)
            .with_publish_timeout(SOON)
            .with_lease_ttl(2 * SOON)
            .with_discovery_interval(Duration::from_millis(100))
    }

    async fn broker(&self) -> RedisBroker {
        RedisBroker::connect(self.config()).await.unwrap()
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.raw.clone()).await.unwrap()
    }

    /// Ends the lease of a partition and the presence of whoever had it, as time would; members that
    /// live look at once.
    async fn lapse(&self, stream: &str) {
        let lease = format!("{{{}}}..lease.g", self.key(stream));
        self.run::<u64>(redis::cmd("DEL").arg(lease).arg(self.key("..members.g"))).await;
        let mut wake = redis::cmd("XADD");
        wake.arg(self.key("..wake.g")).arg("*").arg("released").arg(1);
        self.run::<String>(&wake).await;
    }

    async fn length(&self, stream: &str) -> u64 {
        self.run(redis::cmd("XLEN").arg(self.key(stream))).await
    }

    async fn entries(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.key(stream)).arg("-").arg("+");
        let entries: Vec<(String, HashMap<String, String>)> = self.run(&range).await;
        entries.into_iter().map(|(_, fields)| fields).collect()
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn group_of(patterns: &[&str]) -> SubscribeOptions {
    let patterns = patterns.iter().map(|pattern| Pattern::new(*pattern).unwrap());
    SubscribeOptions::group(Group::from_static("g"), patterns)
}

fn event(name: &str, key: Option<&str>, number: u64) -> Event {
    let draft = Event::from_data("t", topic(name), Data::json(number.to_string()));
    match key {
        Some(key) => draft.key(key).build().unwrap(),
        None => draft.build().unwrap(),
    }
}

async fn publish(broker: &RedisBroker, name: &str, key: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        broker.publish_one(&event(name, Some(key), number)).await.unwrap();
    }
}

fn number(delivery: &Delivery) -> u64 {
    let data = delivery.event().data().unwrap();
    std::str::from_utf8(data.as_slice()).unwrap().parse().unwrap()
}

async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    let next = tokio::time::timeout(SOON, subscription.next()).await;
    next.expect("a delivery comes soon").unwrap().expect("the subscription goes on")
}

async fn expect(subscription: &mut Box<dyn Subscription>, numbers: std::ops::Range<u64>) {
    for wanted in numbers {
        let delivery = next(subscription).await;
        assert_eq!(number(&delivery), wanted);
        delivery.ack().await.unwrap();
    }
}

/// Waits until the condition holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it is still not so that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
