//! A bus that needs what its broker lacks fails when it starts, with a sentence that names both.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use trunkline::memory::MemoryBroker;
use trunkline::prelude::*;
use trunkline::{
    Broker, Capabilities, Channel, Durability, Health, OnFull, Pattern, PublishOptions, Publishing,
    SubscribeOptions, Subscription,
};

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed")]
struct OrderPlaced {
    number: u32,
}

/// The memory broker, claiming as little as it is told.
#[derive(Debug)]
struct Claiming {
    capabilities: Capabilities,
    memory: MemoryBroker,
}

fn paper(claim: impl FnOnce(&mut Capabilities)) -> Claiming {
    let mut capabilities = Capabilities::minimal("paper", Durability::Process);
    claim(&mut capabilities);
    Claiming { capabilities, memory: MemoryBroker::default() }
}

#[async_trait]
impl Broker for Claiming {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        self.memory.publish(events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.capabilities.check_subscribe(&options)?;
        self.memory.subscribe(options).await
    }

    async fn health(&self) -> Health {
        self.memory.health().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.memory.close(deadline).await
    }
}

/// The error of starting a bus over a broker that has nothing but dead letters.
async fn refusal(change: impl FnOnce(&mut Channel)) -> Error {
    let mut channel = Channel::new("orders", [Pattern::new("orders.#").unwrap()]);
    change(&mut channel);
    let broker = paper(|capabilities| capabilities.dead_letters = true);
    EventBus::builder(broker).channel(channel).start().await.unwrap_err()
}

#[tokio::test]
async fn a_channel_that_needs_what_its_broker_lacks_is_refused_at_start_with_the_names_of_both() {
    let lanes = refusal(|channel| channel.lanes = true).await;
    let drops = refusal(|channel| channel.on_full = OnFull::DropOldest).await;
    let groups = refusal(|channel| channel.consumers = vec![Group::new("audit").unwrap()]).await;
    let buffer = refusal(|channel| channel.buffer = Some(10)).await;
    // With nothing that could be full it would say nothing.
    let fails = refusal(|channel| channel.on_full = OnFull::Error).await;
    for (error, need) in [
        (lanes, "priority_lanes"),
        (drops, "drop_oldest"),
        (buffer, "buffer"),
        (fails, "buffer"),
        (groups, "groups"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        for word in ["channel `orders`", need, "the paper broker"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[tokio::test]
async fn a_consumer_that_needs_what_its_broker_lacks_is_refused_with_the_names_of_both() {
    let bus = EventBus::builder(paper(|_| {})).start().await.unwrap();
    let billing = Consumer::group("billing").on(|_: Typed<OrderPlaced>| async {});
    let error = bus.subscribe(billing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for word in ["consumer `billing`", "`dead_letters`", "the paper broker"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}
