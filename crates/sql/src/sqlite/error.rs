//! What can go wrong with SQLite, and the words for it.

use std::path::{Path, PathBuf};

use smol_str::SmolStr;
use sqlx::migrate::MigrateError;
use tokio::sync::watch::error::RecvError;
use trunkline_core::{AppendConflict, Error, ErrorKind, RetryClass};

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) enum SqlError {
    /// The URL is of something else.
    Scheme(String),
    /// The URL does not parse.
    Url(sqlx::Error),
    /// The file does not open.
    Open { path: PathBuf, cause: sqlx::Error },
    /// The tables cannot be brought up to date.
    Migrate { path: PathBuf, cause: MigrateError },
    /// A statement failed during an operation.
    Run(&'static str, sqlx::Error),
    /// The end of a transaction failed: it may have happened.
    Commit(sqlx::Error),
    /// The attributes do not become JSON.
    Encode(serde_json::Error),
    /// The contract refuses the append.
    Refused { stream: SmolStr, conflict: AppendConflict },
    /// A row is no event.
    Damaged { position: i64, cause: Cause },
    /// The store went while somebody waited on it.
    Gone(RecvError),
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Scheme(found) => {
                let message = "the URL of a SQLite store is `sqlite://<path>` or `sqlite::memory:`";
                Error::new(ErrorKind::Config, "open", message).with("scheme", found)
            }
            SqlError::Url(cause) => {
                let message = "the URL of the SQLite store does not parse";
                Error::new(ErrorKind::Config, "open", message).because(cause)
            }
            SqlError::Open { path, cause } => open_error(&path, cause),
            SqlError::Migrate { path, cause } => migrate_error(&path, cause),
            SqlError::Run(operation, cause) => run_error(operation, cause),
            SqlError::Commit(cause) => run_error("commit", cause).with_retry(RetryClass::Ambiguous),
            SqlError::Encode(cause) => {
                let message = "the attributes of the event do not become JSON";
                Error::new(ErrorKind::Encode, "append", message).because(cause)
            }
            SqlError::Refused { stream, conflict } => conflict.into_error(&stream),
            SqlError::Damaged { position, cause } => {
                let message = "a stored event is damaged: restore it from a backup, or remove it";
                let error = Error::new(ErrorKind::Decode, "read", message);
                error.with("position", position).because(cause)
            }
            SqlError::Gone(cause) => {
                Error::new(ErrorKind::Closed, "wait", "the store is gone").because(cause)
            }
        }
    }
}

/// The result codes of SQLite that a person can do something about.
///
/// Source: <https://www.sqlite.org/rescode.html>; the low byte of an extended code.
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const READ_ONLY: u32 = 8;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANNOT_OPEN: u32 = 14;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const NOT_A_DATABASE: u32 = 26;
}

fn code_of(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn open_error(path: &Path, cause: sqlx::Error) -> Error {
    let path = path.display();
    let (kind, message) = match code_of(&cause) {
        Some(code::NOT_A_DATABASE) => (
            ErrorKind::Config,
            format!(
                "`{path}` is no SQLite database: name another file in the store's `url`, or move \
                 this one away"
            ),
        ),
        Some(code::CANNOT_OPEN) => (
            ErrorKind::Config,
            format!(
                "`{path}` cannot be opened: make its folder, let this user write there, or name \
                 another file in the store's `url`"
            ),
        ),
        Some(code::READ_ONLY) => (
            ErrorKind::Config,
            format!("`{path}` cannot be written: let this user write to the file and its folder"),
        ),
        Some(code::BUSY | code::LOCKED) => (
            ErrorKind::Disconnected,
            format!("`{path}` is locked by another process: stop it, or raise `busy_timeout`"),
        ),
        _ => (ErrorKind::Backend, format!("`{path}` does not open as a SQLite database")),
    };
    Error::new(kind, "open", message).because(cause)
}

fn migrate_error(path: &Path, cause: MigrateError) -> Error {
    let name = path.display();
    match cause {
        MigrateError::Execute(cause) => open_error(path, cause),
        MigrateError::VersionMissing(_) => {
            let message = format!("`{name}` was written by a newer version: use that, or newer");
            Error::new(ErrorKind::Config, "open", message).because(cause)
        }
        cause => {
            let message = format!(
                "the tables in `{name}` cannot be brought up to date: restore the file from a \
                 backup, or name another in the store's `url`"
            );
            Error::new(ErrorKind::Backend, "open", message).because(cause)
        }
    }
}

fn run_error(operation: &'static str, cause: sqlx::Error) -> Error {
    let (kind, retry, message) = match (&cause, code_of(&cause)) {
        (sqlx::Error::PoolClosed, _) => {
            (ErrorKind::Closed, RetryClass::Closed, "the store is closed")
        }
        (sqlx::Error::PoolTimedOut, _) => (
            ErrorKind::Disconnected,
            RetryClass::Transient,
            "no connection came free in time: too much is asked of the store at once",
        ),
        (sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed, _) => {
            (ErrorKind::Disconnected, RetryClass::Ambiguous, "the connection to the database broke")
        }
        (_, Some(code::BUSY | code::LOCKED)) => (
            ErrorKind::Disconnected,
            RetryClass::Transient,
            "another process keeps the database locked: stop it, or raise `busy_timeout`",
        ),
        (_, Some(code::FULL)) => (
            ErrorKind::Backend,
            RetryClass::Transient,
            "the disk is full: make room where the database lies",
        ),
        (_, Some(code::READ_ONLY)) => (
            ErrorKind::Backend,
            RetryClass::Permanent,
            "the database cannot be written: let this user write to the file and its folder",
        ),
        (_, Some(code::CONSTRAINT)) => (
            ErrorKind::Conflict,
            RetryClass::Permanent,
            "the database refused the events: another writer has their places",
        ),
        (_, Some(code::CORRUPT | code::NOT_A_DATABASE)) => (
            ErrorKind::Backend,
            RetryClass::Permanent,
            "the database file is damaged: restore it from a backup",
        ),
        _ => (ErrorKind::Backend, RetryClass::Permanent, "the database reported a failure"),
    };
    Error::new(kind, operation, message).with_retry(retry).because(cause)
}
