//! A bus with an event store: read a stream, replay with filters, append with an expected version,
//! and follow live.
//!
//! Run it: `cargo run -p example-04-event-store-replay`

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::memory::{MemoryBroker, MemoryConfig};
use trunkline::prelude::*;
use trunkline::sql::{SqliteConfig, SqliteStore};
use trunkline::{ExpectedVersion, Follow, Position, ReadAll, ReadStream, Recorded};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "accounts.credited", key = account, stream = "account-{account}")]
struct Credited {
    account: String,
    cents: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "accounts.debited", key = account, stream = "account-{account}")]
struct Debited {
    account: String,
    cents: u64,
}

fn credited(account: &str, cents: u64) -> Credited {
    Credited { account: account.to_owned(), cents }
}

fn debited(account: &str, cents: u64) -> Debited {
    Debited { account: account.to_owned(), cents }
}

fn print(title: &str, events: &[Recorded]) {
    println!("{title}:");
    for Recorded { stream, version, event, .. } in events {
        println!("  {stream} {version} {}", event.attributes().event_type());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // `sqlite://events.db` would keep the events in a file.
    let store = Arc::new(SqliteStore::open("sqlite::memory:", SqliteConfig::default()).await?);
    // Nobody subscribes here: with a history the broker takes events for groups to come.
    let broker = MemoryBroker::new(MemoryConfig::default().with_history(100));
    let bus = EventBus::builder(broker).store(Arc::clone(&store)).start().await?;

    bus.publish(credited("ann", 1000)).await?;
    let out = Event::builder(debited("ann", 300)).correlation("transfer-1").build()?;
    let into = Event::builder(credited("bob", 300)).correlation("transfer-1").build()?;
    bus.publish_many(&[out, into]).await.into_result()?;

    print("ann's stream", &store.read_stream("account-ann", &ReadStream::default()).await?);
    let all = || ReadAll::after(Position::START);
    print("all", &store.read_all(&all()).await?.events);
    print("type Credited", &store.read_all(&all().with_types(["Credited"])).await?.events);
    let transfer = all().with_correlation("transfer-1");
    print("transfer-1", &store.read_all(&transfer).await?.events);

    // A writer that has read version 1 loses against the one that wrote version 2. What is appended
    // here is stored only; nothing is published.
    let fee = [Event::of(debited("ann", 5))?];
    for version in [1, 2] {
        let expected = ExpectedVersion::Exact(version);
        match store.append("account-ann", expected, &fee).await {
            Ok(appended) => {
                println!("expected {version}: appended as version {}", appended[0].version);
            }
            Err(error) => println!("expected {version}: {}", error.kind()),
        }
    }

    let mut follow = Follow::new(Arc::clone(&store), ReadAll::after(store.head().await?));
    let (next, published) = tokio::join!(follow.next(), bus.publish(debited("bob", 50)));
    published?;
    print("live", &[next?]);
    bus.close(Duration::from_secs(5)).await?;
    store.close().await;
    Ok(())
}
