//! Durable groups on a server: the same program over Redis, Kafka and RabbitMQ, by configuration.
//!
//! Run it: `cargo xtask brokers up redis`, then `cargo run -p example-05-redis`; the same with
//! `kafka` and `example-06-kafka`, or `rabbitmq` and `example-07-rabbitmq`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline::prelude::*;

/// Orders of one customer are handled in the order in which they were published.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "shop.orders.placed", key = customer)]
struct OrderPlaced {
    customer: String,
    number: u32,
}

/// Lies beside the manifest of each of the three examples.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/trunkline.toml");

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::load(Some(Path::new(CONFIG)))?;
    let bus = EventBus::from_config(&config).await?;
    println!("broker: {}", bus.broker().capabilities().name);

    let mut orders = 0;
    for number in 1..=3 {
        for customer in ["ann", "bob", "eve"] {
            bus.publish(OrderPlaced { customer: customer.to_owned(), number }).await?;
            orders += 1;
        }
    }
    println!("{orders} orders accepted, and nobody there yet");

    // Two members of `billing` share its orders; in production they are processes.
    let (done, mut handled) = mpsc::unbounded_channel();
    for group in ["billing", "billing", "shipping"] {
        let done = done.clone();
        let member = Consumer::group(group).on(move |order: Typed<OrderPlaced>| {
            std::future::ready(done.send((group, order.customer.clone(), order.number)))
        });
        bus.subscribe(member).await?;
    }

    let mut seen: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for _ in 0..2 * orders {
        let Some((group, customer, number)) = handled.recv().await else { break };
        seen.entry((group, customer)).or_default().push(number.to_string());
    }
    for ((group, customer), numbers) in seen {
        println!("{group}, {customer}: orders {}", numbers.join(" "));
    }
    bus.close(Duration::from_secs(10)).await
}
