//! A configuration decides which of two brokers takes an event; publishers and handlers do not know.
//!
//! Run it: `cargo run -p example-03-hybrid-routing`

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline::{Assembled, Data, prelude::*};

/// In a service this is a file. The remote broker is in memory too, so that no server is needed.
const CONFIG: &str = r##"
[broker]
type = "hybrid"
[broker.remote]
type = "memory"

[[routing.rule]]                   # tried first, in order
topic = "audit.#"
route = "both"
[routing]                          # then these, in this order
local_types = ["CacheCleared"]
remote_types = ["PageViewed"]
local_from_priority = "high"
default = "remote"
"##;

fn event(name: &str, topic: &'static str, priority: Priority) -> Result<Event> {
    Event::from_data(name, Topic::from_static(topic), Data::json("{}")).priority(priority).build()
}

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::from_str(CONFIG, "example.toml")?;
    let Assembled { bus, hybrid } = Assembled::from_config(&config).await?;
    let Some(hybrid) = hybrid else { return Ok(()) };

    let (to, mut reports) = mpsc::unbounded_channel();
    for (name, consumer) in
        [("group", Consumer::group("ledger")), ("broadcast", Consumer::broadcast())]
    {
        let to = to.clone();
        let consumer = consumer.topics(["#"]).on(move |event: Event| {
            let sent = to.send((name, event.attributes().event_type().to_owned()));
            async move { sent }
        });
        bus.subscribe(consumer).await?;
    }

    let events = [
        event("UserLoggedIn", "audit.login", Priority::Normal)?,
        event("CacheCleared", "cache.cleared", Priority::Normal)?,
        event("PageViewed", "pages.viewed", Priority::Normal)?,
        event("DiskFull", "disks.full", Priority::Critical)?,
        event("OrderPlaced", "orders.placed", Priority::Normal)?,
    ];
    for event in &events {
        let decision = hybrid.explain(event.attributes());
        let name = event.attributes().event_type();
        println!("{name:13} {:6} {}", decision.route, decision.reason);
        bus.publish_event(event).await?;
    }

    // The second copy of what goes both ways would come before the last event.
    let mut copies: BTreeMap<_, u32> = BTreeMap::new();
    for _ in 0..2 * events.len() {
        let Some(report) = reports.recv().await else { break };
        *copies.entry(report).or_default() += 1;
    }
    for ((subscriber, name), copies) in copies {
        println!("{subscriber:9} {name:13} {copies}");
    }
    let counters = hybrid.counters();
    println!(
        "routed: {} local, {} remote, {} both; {} second copy dropped",
        counters.routed_local,
        counters.routed_remote,
        counters.routed_both,
        counters.echoes_dropped
    );
    bus.close(Duration::from_secs(5)).await
}
