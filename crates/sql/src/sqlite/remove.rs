//! Removing events: by version, by stream, by age.

use sqlx::SqliteConnection;
use trunkline_core::StreamVersion;

use super::error::SqlError;
use super::row::number;

const BELOW: &str = "DELETE FROM trunkline_events WHERE stream = ? AND version < ?";

const EVENTS: &str = "DELETE FROM trunkline_events WHERE stream = ?";

const HEAD: &str = "DELETE FROM trunkline_streams WHERE stream = ?";

/// From the oldest event up to the first that is young enough. There is no index on the age: the
/// order of positions is as good, and what has not expired is not looked at.
const EXPIRED: &str = "\
    DELETE FROM trunkline_events WHERE position < coalesce( \
        (SELECT position FROM trunkline_events WHERE recorded_at > ? ORDER BY position LIMIT 1), \
        9223372036854775807)";

/// Removes the events of a stream below a version; its head row stays.
pub(super) async fn below(
    connection: &mut SqliteConnection,
    stream: &str,
    before: StreamVersion,
) -> Result<u64, SqlError> {
    let delete = sqlx::query(BELOW).bind(stream).bind(number(before));
    let done = delete.execute(connection).await;
    done.map(|done| done.rows_affected()).map_err(|cause| SqlError::Run("truncate", cause))
}

/// Removes a stream and its head row.
pub(super) async fn stream(
    connection: &mut SqliteConnection,
    stream: &str,
) -> Result<u64, SqlError> {
    let failed = |cause| SqlError::Run("delete stream", cause);
    let done = sqlx::query(EVENTS).bind(stream).execute(&mut *connection).await.map_err(failed)?;
    sqlx::query(HEAD).bind(stream).execute(connection).await.map_err(failed)?;
    Ok(done.rows_affected())
}

/// Removes what was recorded at `expired_at` or earlier.
pub(super) async fn expired(
    connection: &mut SqliteConnection,
    expired_at: i64,
) -> Result<(), SqlError> {
    let done = sqlx::query(EXPIRED).bind(expired_at).execute(connection).await;
    done.map(drop).map_err(|cause| SqlError::Run("expire", cause))
}
