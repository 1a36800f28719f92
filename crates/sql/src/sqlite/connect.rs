//! Connections: one that writes, several that read, and the tables they find.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr, Sqlite, SqlitePool, Transaction};

use super::config::{SqliteConfig, Synchronous};
use super::error::SqlError;

/// How every writing transaction begins: one that reads first and writes then fails when another
/// process wrote in between, and no time-out helps it.
pub(super) const WRITE: &str = "BEGIN IMMEDIATE";

/// The tables, in the order in which they came to be; a file here is never changed again.
const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "events", include_str!("../../migrations/sqlite/0001_events.sql"))];

/// The connections to one database.
pub(super) struct Database {
    path: PathBuf,
    /// One connection: SQLite has one writer, and waiting for it here is fair.
    writer: SqlitePool,
    /// The writer itself for a database in memory, which lives in its one connection.
    readers: SqlitePool,
}

impl Database {
    pub(super) async fn open(url: &str, config: &SqliteConfig) -> Result<Self, SqlError> {
        let options = options(url, config)?;
        let path = options.get_filename().to_path_buf();
        let failed = |cause| SqlError::Open { path: path.clone(), cause };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        migrate(&writer, &path).await?;
        let readers = if lives_in_memory(url) {
            writer.clone()
        } else {
            let options = options.pragma("query_only", "ON");
            pool(config.readers.max(1)).connect_with(options).await.map_err(failed)?
        };
        Ok(Self { path, writer, readers })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn write(
        &self,
        operation: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, SqlError> {
        let begun = self.writer.begin_with(WRITE).await;
        begun.map_err(|cause| SqlError::Run(operation, cause))
    }

    pub(super) async fn read(
        &self,
        operation: &'static str,
    ) -> Result<PoolConnection<Sqlite>, SqlError> {
        self.readers.acquire().await.map_err(|cause| SqlError::Run(operation, cause))
    }

    /// Closed to new work when this returns, and altogether when the future has ended.
    pub(super) fn close(&self) -> impl Future<Output = ()> + '_ {
        let (readers, writer) = (self.readers.close(), self.writer.close());
        async {
            // The writer goes last: the last connection to leave tidies the write-ahead log.
            readers.await;
            writer.await;
        }
    }
}

fn options(url: &str, config: &SqliteConfig) -> Result<SqliteConnectOptions, SqlError> {
    if !url.starts_with("sqlite:") {
        // Only the scheme is shown: what follows may hold a password.
        let scheme = url.split(':').next().unwrap_or_default();
        return Err(SqlError::Scheme(scheme.to_owned()));
    }
    let synchronous = match config.synchronous {
        Synchronous::Full => SqliteSynchronous::Full,
        Synchronous::Normal => SqliteSynchronous::Normal,
    };
    let options = SqliteConnectOptions::from_str(url).map_err(SqlError::Url)?;
    Ok(options
        .create_if_missing(true)
        // Readers and the writer do not wait for each other.
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(config.busy_timeout)
        .disable_statement_logging())
}

fn lives_in_memory(url: &str) -> bool {
    url.starts_with("sqlite::memory:")
        || url.starts_with("sqlite://:memory:")
        || url.contains("mode=memory")
}

/// Connections stay: a database in memory would be lost with its last one.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file does not go away as a server does.
        .test_before_acquire(false)
}

/// In one writing transaction, so that of two processes that open a new file one waits.
async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), SqlError> {
    let failed = |cause| SqlError::Open { path: path.to_path_buf(), cause };
    let mut transaction = writer.begin_with(WRITE).await.map_err(failed)?;
    // `run` makes a future of which the compiler cannot tell that it may change threads.
    let migrated = migrator().run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|cause| SqlError::Migrate { path: path.to_path_buf(), cause })?;
    transaction.commit().await.map_err(failed)
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect());
    // A service that shares its file with us has migrations of its own; the name is fixed for ever.
    migrator.dangerous_set_table_name("trunkline_migrations");
    migrator
}
