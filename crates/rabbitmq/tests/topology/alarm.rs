//! A server that is short of memory takes no publishes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{
    Broker as _, BrokerExt as _, ErrorKind, Event, Health, HealthStatus, PublishOptions,
};
use trunkline_launcher::{Kind, Options, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};

use crate::{SOON, Taker, connect, event, group, keyed, number, tool};

/// Longer than a confirm may take where the server is not short of anything.
const ALARM: Duration = Duration::from_secs(7);
/// Longer than the alarm and all around it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sets how much of the machine's memory the server may use; less than it has is an alarm.
async fn allow(server: &Server, share: &'static str) {
    let port = server.port().to_string();
    let setting = tokio::task::spawn_blocking(move || {
        tool::rabbitmqctl(&port, &["set_vm_memory_high_watermark", share]).unwrap()
    });
    setting.await.unwrap();
}

fn is_blocked(health: &Health) -> bool {
    health.facts.contains(&("blocked".to_owned(), "true".to_owned()))
}

async fn wait_until(broker: &RabbitMqBroker, wanted: impl Fn(&Health) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let health = broker.health().await;
        if wanted(&health) {
            return;
        }
        assert!(Instant::now() < deadline, "{health:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes until each of these has come, and tells how often each did.
async fn take_all(member: &mut Taker, wanted: &[u64]) -> BTreeMap<u64, usize> {
    let mut came = BTreeMap::new();
    while wanted.iter().any(|number| !came.contains_key(number)) {
        let delivery = member.next().await;
        *came.entry(number(&delivery)).or_default() += 1;
        delivery.ack().await.unwrap();
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_wait_for_the_end_of_a_memory_alarm_and_nothing_accepted_is_lost() {
    let starting = || Server::start_with(Kind::RabbitMq, Options::default().native()).unwrap();
    let server = tokio::task::spawn_blocking(starting).await.unwrap();
    let config = RabbitMqConfig::new(&server.url()).unwrap().with_partitions(1);
    let broker = connect(config).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    broker.publish_one(&event("orders", 0)).await.unwrap();
    member.take(0).await;

    allow(&server, "0.00001").await;
    // The first of them is taken, and tells the server that this connection publishes.
    let on_its_way: Vec<Event> =
        (1..=20).map(|number| keyed("orders", &number.to_string(), number)).collect();
    let patient = PublishOptions::default().with_timeout(PATIENCE);
    let waiting = async {
        let first = broker.publish(&on_its_way, &patient);
        let rest = async {
            wait_until(&broker, is_blocked).await;
            let begun = Instant::now();
            assert_eq!(broker.health().await.status, HealthStatus::Degraded);
            // Never sent, so that it is known not to have been accepted.
            let soon = PublishOptions::default().with_timeout(Duration::from_secs(1));
            let refused = broker.publish(&[event("orders", 100)], &soon).await.into_result();
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
            let later = async {
                tokio::time::sleep_until(begun + ALARM).await;
                assert!(is_blocked(&broker.health().await));
                allow(&server, "0.6").await;
            };
            let held = [event("orders", 101), event("orders", 102)];
            tokio::join!(broker.publish(&held, &patient), later).0.into_result().unwrap();
        };
        tokio::join!(first, rest).0.into_result().unwrap();
    };
    waiting.await;

    wait_until(&broker, |health| health.status == HealthStatus::Up).await;
    broker.publish_one(&event("orders", 103)).await.unwrap();
    let wanted: Vec<u64> = (1..=20).chain(101..=103).collect();
    let came = take_all(&mut member, &wanted).await;
    assert!(came.keys().eq(&wanted), "{came:?}");
    member.close().await;
    broker.close(SOON).await.unwrap();
}
