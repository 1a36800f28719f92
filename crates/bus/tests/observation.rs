//! One look at a bus: counters, groups and the connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline_bus::{Backoff, Consumer, EventBus, RetryPolicy};
use trunkline_core::{Data, Event, Group, GroupSpec, HealthStatus, Pattern, Topic};
use trunkline_memory::MemoryBroker;

const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize, trunkline_macros::DomainEvent)]
#[event(topic = "orders.placed")]
struct OrderPlaced {
    number: u32,
}

#[tokio::test]
async fn an_observation_counts_what_was_done_and_what_waits() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let idle = GroupSpec::new(Group::new("idle").unwrap(), [Pattern::all()]);
    bus.broker().admin().unwrap().declare_group(idle).await.unwrap();
    let (seen, mut runs) = mpsc::unbounded_channel();
    let failing = Consumer::group("billing")
        .retry(RetryPolicy::attempts(3).with_backoff(
            Backoff::Fixed,
            Duration::ZERO,
            Duration::ZERO,
        ))
        .on(move |_: trunkline_core::Typed<OrderPlaced>| {
            seen.send(()).unwrap();
            std::future::ready(Err::<(), _>(std::io::Error::other("no ink")))
        });
    let handle = bus.subscribe(failing).await.unwrap();
    bus.publish(OrderPlaced { number: 1 }).await.unwrap();
    for _attempt in 0..3 {
        tokio::time::timeout(SOON, runs.recv()).await.unwrap().unwrap();
    }
    handle.unsubscribe(SOON).await.unwrap();

    let observed = bus.observe().await;
    assert_eq!((observed.broker, observed.status), ("memory", HealthStatus::Up));
    assert_eq!((observed.reconnects, &observed.problem), (0, &None));
    assert_eq!(observed.metrics.published, 1);
    let billing = &observed.metrics.consumers[0];
    assert_eq!((billing.delivered, billing.failed, billing.retried), (1, 3, 2));
    assert_eq!((billing.dead_lettered, billing.in_flight), (1, 0));
    let lags: Vec<_> = observed.groups.iter().map(|g| (g.name.as_str(), g.lag)).collect();
    assert_eq!(lags, [("billing", 0), ("idle", 1)]);

    let text = observed.to_prometheus();
    for line in [
        "# TYPE trunkline_published_total counter",
        "trunkline_up{broker=\"memory\"} 1",
        "trunkline_published_total 1",
        "trunkline_consumed_total{consumer=\"billing\"} 1",
        "trunkline_retried_total{consumer=\"billing\"} 2",
        "trunkline_dead_lettered_total{consumer=\"billing\"} 1",
        "trunkline_group_lag{group=\"idle\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
    let json = serde_json::to_value(&observed).unwrap();
    assert_eq!((&json["published"], &json["status"]), (&1.into(), &"up".into()));
    assert_eq!(json["groups"][1]["lag"], 1);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_closed_bus_is_down_and_says_why_its_groups_are_not_known() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    bus.close(SOON).await.unwrap();
    let observed = bus.observe().await;
    assert_eq!(observed.status, HealthStatus::Down);
    assert!(observed.groups.is_empty() && observed.problem.is_some(), "{observed:?}");
    assert!(observed.to_prometheus().contains("trunkline_up{broker=\"memory\"} 0"));
    let event = Event::from_data("A", Topic::from_static("a"), Data::json("1")).build().unwrap();
    bus.publish_event(&event).await.unwrap_err();
    assert_eq!(bus.observe().await.metrics.rejected, 1);
}
