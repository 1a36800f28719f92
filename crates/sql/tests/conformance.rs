//! The conformance suite on the SQLite store, and that what it acknowledged survives.

#![expect(
    clippy::expect_used,
    reason = "a folder or a process that cannot be had fails the case, and the text says which"
)]

mod crash;

use std::process::ExitCode;

use tempfile::TempDir;
use trunkline_core::{
    Data, Event, EventStore, ExpectedVersion, Position, ReadAll, Recorded, Result, Topic,
};
use trunkline_sql::{SqliteConfig, SqliteStore};
use trunkline_testing::store::StoreLimits;
use trunkline_testing::{Check, Failure, Fixture, Suite};

fn config(limits: StoreLimits) -> SqliteConfig {
    SqliteConfig::default()
        .with_ttl(limits.ttl)
        .with_max_events_per_stream(limits.max_events_per_stream)
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder can be made")
}

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("events.db").display())
}

async fn in_a_file(limits: StoreLimits) -> Result<Fixture<SqliteStore>> {
    let folder = folder();
    let store = SqliteStore::open(&url(&folder), config(limits)).await?;
    Ok(Fixture::new(store).keep(folder))
}

async fn in_memory(limits: StoreLimits) -> Result<Fixture<SqliteStore>> {
    Ok(Fixture::new(SqliteStore::open("sqlite::memory:", config(limits)).await?))
}

fn event() -> Result<Event> {
    Event::from_data("OrderPlaced", Topic::from_static("orders"), Data::json("{}")).build()
}

fn holds(condition: bool, otherwise: impl Into<String>) -> Check {
    if condition { Ok(()) } else { Err(Failure::new(otherwise)) }
}

async fn log(store: &SqliteStore) -> Result<Vec<Recorded>> {
    let read = ReadAll::after(Position::START).with_limit(usize::MAX);
    Ok(store.read_all(&read).await?.events)
}

async fn events_survive_close_and_reopen() -> Check {
    let folder = folder();
    let store = SqliteStore::open(&url(&folder), SqliteConfig::default()).await?;
    let batch = [event()?, event()?, event()?];
    let first = store.append("s", ExpectedVersion::NoStream, &batch).await?;
    store.truncate_stream("s", 2).await?;
    let head = store.head().await?;
    store.close().await;

    let store = SqliteStore::open(&url(&folder), SqliteConfig::default()).await?;
    holds(store.head().await? == head, "the head is another after reopening")?;
    let log = log(&store).await?;
    let found: Vec<_> = log.iter().map(|r| (r.position, r.version, r.event.id())).collect();
    let places = first.iter().zip(&batch).skip(1);
    let wanted: Vec<_> = places.map(|(p, e)| (p.position, p.version, e.id())).collect();
    holds(found == wanted, format!("found {found:?} where {wanted:?} was written"))?;
    let again = store.append("s", ExpectedVersion::NoStream, &batch[1..]).await?;
    holds(again.iter().all(|place| place.known), "events are no longer known after reopening")?;
    let next = store.append("s", ExpectedVersion::Exact(3), &[event()?]).await?;
    holds(next[0].version == 4, "the stream does not go on after reopening")
}

async fn two_stores_on_one_file_see_each_other() -> Check {
    let folder = folder();
    let one = SqliteStore::open(&url(&folder), SqliteConfig::default()).await?;
    let other = SqliteStore::open(&url(&folder), SqliteConfig::default()).await?;
    for version in 0..20 {
        let writer = if version % 2 == 0 { &one } else { &other };
        writer.append("s", ExpectedVersion::Exact(version), &[event()?]).await?;
    }
    let head = one.head().await?;
    let (woken, appended) = tokio::join!(one.wait_for(head), async {
        other.append("s", ExpectedVersion::Any, &[event()?]).await
    });
    woken?;
    appended?;
    holds(log(&one).await?.len() == 21, "one store does not see what the other wrote")
}

fn main() -> ExitCode {
    if let Some(code) = crash::run_as_writer() {
        return code;
    }
    Suite::new()
        .store("sqlite/value", in_a_file)
        .store("sqlite/memory", in_memory)
        .case("sqlite/file/events_survive_close_and_reopen", events_survive_close_and_reopen)
        .case("sqlite/file/two_stores_see_each_other", two_stores_on_one_file_see_each_other)
        .case("sqlite/file/what_was_acknowledged_survives_kill_9", crash::survives_kill_9)
        .run()
}
