//! The SQLite event store.

mod append;
mod attributes;
mod config;
mod connect;
mod error;
mod read;
mod remove;
mod row;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::watch;
use trunkline_core::{
    Appended, Event, EventStore, ExpectedVersion, Page, Position, ReadAll, ReadStream, Recorded,
    Result, StreamVersion,
};

use self::append::Batch;
use self::connect::Database;
use self::error::SqlError;

pub use self::config::{SqliteConfig, Synchronous};

/// Keeps events in a SQLite database.
///
/// An append is durable when it returns, in the sense of [`Synchronous`]. There is one writer at a
/// time, in this process and in others that have the same file open, so that positions come in the
/// order of commits and a reader skips nothing. Its tables begin with `trunkline_` and may share a
/// file with others: see [`SqliteStore::append_in`]. Events that a limit, a truncation or a deletion
/// removed are forgotten; appending one of them again records it anew.
///
/// ```
/// use trunkline_core::{Data, Event, EventStore, ExpectedVersion, ReadStream, Topic};
/// use trunkline_sql::{SqliteConfig, SqliteStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trunkline_core::Result<()> {
/// let store = SqliteStore::open("sqlite::memory:", SqliteConfig::default()).await?;
/// let placed = Event::from_data("OrderPlaced", Topic::from_static("orders"), Data::json("{}"));
/// store.append("order-7", ExpectedVersion::NoStream, &[placed.build()?]).await?;
/// let recorded = store.read_stream("order-7", &ReadStream::default()).await?;
/// assert_eq!(recorded[0].version, 1);
/// store.close().await;
/// # Ok(())
/// # }
/// ```
pub struct SqliteStore {
    config: SqliteConfig,
    database: Database,
    /// The newest position that this process has written; wakes those who wait.
    written: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens `url` and brings its tables up to date: `sqlite://path`, made where it is not there, or
    /// `sqlite::memory:`.
    ///
    /// # Errors
    /// `Config` when the URL is none of SQLite, when the file cannot be opened or made, is no
    /// database, or was written by a newer version; the message names the path and what to do.
    ///
    /// # Cancel safety
    /// Safe: tables are made in one transaction.
    pub async fn open(url: &str, config: SqliteConfig) -> Result<Self> {
        let database = Database::open(url, &config).await?;
        let store = Self { config, database, written: watch::Sender::new(0) };
        let head = store.head().await?;
        store.written.send_replace(head.to_raw());
        Ok(store)
    }

    /// Waits for what is running, then closes every connection; later calls return `Closed`.
    ///
    /// # Cancel safety
    /// The store is closed to new calls as soon as this is first polled.
    pub async fn close(&self) {
        let closing = self.database.close();
        // Who waits for an event is woken to find the store closed.
        self.written.send_modify(|_| {});
        closing.await;
    }

    /// Appends as [`EventStore::append`] does, inside the caller's transaction: the events are there
    /// when it commits, and only then.
    ///
    /// `connection` must be to the database that this store has open. Begin its transaction with
    /// `BEGIN IMMEDIATE`: SQLite refuses to let one that has read before become a writer once another
    /// has written. Followers see the events when they next look, after
    /// [`SqliteConfig::poll_interval`] at most.
    ///
    /// # Errors
    /// As [`EventStore::append`]; the transaction is then as it was before the call.
    ///
    /// # Cancel safety
    /// Safe: a dropped call has changed nothing in the transaction.
    pub async fn append_in(
        &self,
        connection: &mut SqliteConnection,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>> {
        let batch = Batch::new(stream, expected, events)?;
        let failed = |cause| SqlError::Run("append", cause);
        // Inside a transaction this is a savepoint.
        let mut scope = if connection.is_in_transaction() {
            connection.begin().await.map_err(failed)?
        } else {
            connection.begin_with(connect::WRITE).await.map_err(failed)?
        };
        let appended = batch.write(&mut scope, &self.config).await?;
        scope.commit().await.map_err(SqlError::Commit)?;
        Ok(appended)
    }

    /// What was recorded at this time or earlier has outlived its time to live.
    fn expired_at(&self) -> i64 {
        self.config.expired_at(Timestamp::now())
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn append(
        &self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>> {
        let batch = Batch::new(stream, expected, events)?;
        let mut transaction = self.database.write("append").await?;
        let appended = batch.write(&mut transaction, &self.config).await?;
        transaction.commit().await.map_err(SqlError::Commit)?;
        let last = appended.iter().map(|place| place.position.to_raw()).max();
        self.written.send_modify(|written| *written = (*written).max(last.unwrap_or(0)));
        Ok(appended)
    }

    async fn read_stream(&self, stream: &str, read: &ReadStream) -> Result<Vec<Recorded>> {
        let mut connection = self.database.read("read stream").await?;
        Ok(read::stream(&mut connection, stream, read, self.expired_at()).await?)
    }

    async fn read_all(&self, read: &ReadAll) -> Result<Page> {
        let mut connection = self.database.read("read all").await?;
        Ok(read::all(&mut connection, read, self.expired_at()).await?)
    }

    async fn head(&self) -> Result<Position> {
        let mut connection = self.database.read("head").await?;
        Ok(read::head(&mut connection).await?)
    }

    async fn truncate_stream(&self, stream: &str, before: StreamVersion) -> Result<u64> {
        let mut transaction = self.database.write("truncate").await?;
        let removed = remove::below(&mut transaction, stream, before).await?;
        transaction.commit().await.map_err(SqlError::Commit)?;
        Ok(removed)
    }

    async fn delete_stream(&self, stream: &str) -> Result<u64> {
        let mut transaction = self.database.write("delete stream").await?;
        let removed = remove::stream(&mut transaction, stream).await?;
        transaction.commit().await.map_err(SqlError::Commit)?;
        Ok(removed)
    }

    async fn wait_for(&self, position: Position) -> Result<()> {
        let mut written = self.written.subscribe();
        loop {
            // The database is asked and not only the channel: another process may write too.
            if self.head().await? > position {
                return Ok(());
            }
            let wake = tokio::time::timeout(self.config.poll_interval, written.changed());
            if let Ok(Err(gone)) = wake.await {
                return Err(SqlError::Gone(gone).into());
            }
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.database.path())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
