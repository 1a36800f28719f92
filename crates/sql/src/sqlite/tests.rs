//! What only SQLite promises; the rest is in the conformance suite.

use std::time::Duration;

use sqlx::{Connection, Execute as _, Row as _, SqliteConnection};
use tempfile::TempDir;
use trunkline_core::{
    Data, ErrorKind, Event, EventStore, ExpectedVersion, Position, ReadAll, ReadStream, RetryClass,
    Topic,
};

use super::{SqliteConfig, SqliteStore, connect, read};

fn event() -> Event {
    let data = Data::json("{}");
    Event::from_data("OrderPlaced", Topic::from_static("orders"), data).build().unwrap()
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|_| event()).collect()
}

fn url(folder: &TempDir, name: &str) -> String {
    format!("sqlite://{}", folder.path().join(name).display())
}

async fn open(url: &str) -> SqliteStore {
    SqliteStore::open(url, SqliteConfig::default()).await.unwrap()
}

async fn open_error(url: &str) -> trunkline_core::Error {
    SqliteStore::open(url, SqliteConfig::default()).await.unwrap_err()
}

async fn count(store: &SqliteStore) -> usize {
    let read = ReadAll::after(Position::START).with_limit(usize::MAX);
    store.read_all(&read).await.unwrap().events.len()
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "these are notes and no database\n".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = open_error(&url(&folder, "notes.txt")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    assert!(message.contains("is no SQLite database: name another file"), "{message}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let error = open_error(&url(&folder, "missing/events.db")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains("missing/events.db` cannot be opened: make its folder"), "{message}");
}

#[tokio::test]
async fn a_url_of_something_else_is_refused_without_its_password() {
    let error = open_error("postgres://me:secret@host/db").await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = format!("{error} {error:?}");
    assert!(message.contains("sqlite://<path>") && message.contains("postgres"), "{message}");
    assert!(!message.contains("secret") && !message.contains("host"), "{message}");
    let misspelt = open_error("sqlite://events.db?mode=never").await;
    assert_eq!(misspelt.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "events.db");
    open(&url).await.close().await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let newer = "INSERT INTO trunkline_migrations \
                 SELECT 999, 'newer', installed_on, 1, checksum, 0 FROM trunkline_migrations";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let error = open_error(&url).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn events_join_the_transaction_of_the_caller() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "service.db");
    let store = open(&url).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&mut connection).await.unwrap();

    let mut transaction = connection.begin_with(connect::WRITE).await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(&mut *transaction).await.unwrap();
    let batch = events(2);
    let appended = store.append_in(&mut transaction, "s", ExpectedVersion::NoStream, &batch).await;
    assert_eq!(appended.unwrap().len(), 2);
    assert_eq!(count(&store).await, 0, "they are there only when the caller commits");
    transaction.rollback().await.unwrap();
    assert_eq!(count(&store).await, 0);

    let mut transaction = connection.begin_with(connect::WRITE).await.unwrap();
    let exact = ExpectedVersion::Exact(5);
    let refused = store.append_in(&mut transaction, "s", exact, &events(1)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    // The caller's transaction goes on after a conflict.
    sqlx::query("INSERT INTO orders VALUES (2)").execute(&mut *transaction).await.unwrap();
    store.append_in(&mut transaction, "s", ExpectedVersion::NoStream, &batch).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&store).await, 2);
    let orders: i64 =
        sqlx::query_scalar("SELECT id FROM orders").fetch_one(&mut connection).await.unwrap();
    assert_eq!(orders, 2);

    // Without a transaction it is one of its own.
    store.append_in(&mut connection, "s", ExpectedVersion::Exact(2), &events(1)).await.unwrap();
    assert_eq!(count(&store).await, 3);
}

#[tokio::test]
async fn a_follower_sees_what_joined_a_transaction() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "service.db");
    let store = open(&url).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let batch = events(1);
    let (woken, appended) = tokio::join!(
        store.wait_for(Position::START),
        store.append_in(&mut connection, "s", ExpectedVersion::Any, &batch)
    );
    woken.unwrap();
    appended.unwrap();
}

#[tokio::test]
async fn an_append_that_is_given_up_happens_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let store = open(&url(&folder, "events.db")).await;
    for patience in 0..60 {
        let batch = events(3);
        let append = store.append("s", ExpectedVersion::Any, &batch);
        // Whether it was given up or not is what the next lines must not depend on.
        let given_up = tokio::time::timeout(Duration::from_micros(patience * 20), append).await;
        drop(given_up);
        assert_eq!(count(&store).await % 3, 0);
    }
    let before = count(&store).await;
    store.append("s", ExpectedVersion::Any, &events(3)).await.unwrap();
    let after = store.read_stream("s", &ReadStream::default()).await.unwrap();
    assert_eq!(after.len() % 3, 0);
    assert!(after.len() >= before + 3);
    assert!(after.iter().zip(1..).all(|(recorded, version)| recorded.version == version));
}

#[tokio::test]
async fn a_closed_store_says_so_and_wakes_who_waits() {
    let folder = TempDir::new().unwrap();
    for url in [url(&folder, "events.db"), "sqlite::memory:".to_owned()] {
        let store = open(&url).await;
        let (woken, ()) = tokio::join!(store.wait_for(Position::START), store.close());
        assert_eq!(woken.unwrap_err().kind(), ErrorKind::Closed);
        let error = store.append("s", ExpectedVersion::Any, &[event()]).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Closed, RetryClass::Closed));
        assert_eq!(store.head().await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn what_has_outlived_its_ttl_is_gone_and_may_come_again() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "events.db");
    let hour = SqliteConfig::default().with_ttl(Duration::from_secs(3600));
    let store = SqliteStore::open(&url, hour).await.unwrap();
    let old = events(2);
    store.append("s", ExpectedVersion::Any, &old).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let age = "UPDATE trunkline_events SET recorded_at = recorded_at - 3600000000";
    sqlx::query(age).execute(&mut connection).await.unwrap();
    assert_eq!(count(&store).await, 0);
    // Hidden until the next append, which removes them.
    let rows = "SELECT count(*) FROM trunkline_events";
    let left: i64 = sqlx::query_scalar(rows).fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 2);
    let again = store.append("s", ExpectedVersion::Exact(2), &old[..1]).await.unwrap();
    assert!(!again[0].known && again[0].version == 3 && again[0].position.to_raw() == 3);
    let left: i64 = sqlx::query_scalar(rows).fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_damaged_event_is_an_error_that_names_its_position() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "events.db");
    let store = open(&url).await;
    store.append("s", ExpectedVersion::Any, &events(2)).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for damage in [
        "UPDATE trunkline_events SET attributes = '{\"time\":' WHERE position = 2",
        "UPDATE trunkline_events SET attributes = '{\"free\":[1]}' WHERE position = 2",
        "UPDATE trunkline_events SET attributes = '{}', topic = 'no topic' WHERE position = 2",
    ] {
        sqlx::query(damage).execute(&mut connection).await.unwrap();
        let error = store.read_stream("s", &ReadStream::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.context("position"), Some("2"), "{error}");
    }
}

#[tokio::test]
async fn each_filter_is_read_by_its_index_in_global_order() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder, "events.db");
    let store = open(&url).await;
    store.append("s", ExpectedVersion::Any, &events(1)).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let all = || ReadAll::after(Position::START);
    for (filter, index) in [
        (all(), "INTEGER PRIMARY KEY"),
        (all().with_types(["T"]), "trunkline_events_by_type"),
        (all().with_types(["T", "U"]), "INTEGER PRIMARY KEY"),
        (all().with_correlation("c"), "trunkline_events_by_correlation"),
        (all().with_tenant("t"), "trunkline_events_by_tenant"),
        (all().with_project("p"), "trunkline_events_by_project"),
    ] {
        let plan = plan(&mut connection, &filter).await;
        assert!(plan.contains(index), "{filter:?} is read by {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{filter:?} is sorted: {plan}");
    }
}

async fn plan(connection: &mut SqliteConnection, filter: &ReadAll) -> String {
    let mut query = read::select(filter, Position::from_raw(1_000_000), i64::MIN);
    let sql = format!("EXPLAIN QUERY PLAN {}", query.build().sql().as_str());
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
}
