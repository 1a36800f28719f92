//! Reading a stream, and the global order through filters.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use trunkline_core::{Direction, Page, Position, ReadAll, ReadStream, Recorded};

use super::error::SqlError;
use super::row::{event_columns, id_text, natural, number, recorded};

const FORWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM trunkline_events WHERE stream = ? AND version >= ? AND recorded_at > ? \
     ORDER BY version LIMIT ?"
);

const BACKWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM trunkline_events WHERE stream = ? AND version <= ? AND recorded_at > ? \
     ORDER BY version DESC LIMIT ?"
);

/// The last position given out: it stays when events go, and goes back only with a transaction that
/// nobody has seen.
const HEAD: &str = "SELECT seq FROM sqlite_sequence WHERE name = 'trunkline_events'";

pub(super) async fn stream(
    connection: &mut SqliteConnection,
    stream: &str,
    read: &ReadStream,
    expired_at: i64,
) -> Result<Vec<Recorded>, SqlError> {
    let (sql, end) = match read.direction {
        Direction::Forward => (FORWARD, 0),
        Direction::Backward => (BACKWARD, u64::MAX),
    };
    let from = read.from.unwrap_or(end);
    let query = sqlx::query(sql).bind(stream).bind(number(from)).bind(expired_at);
    let rows = query.bind(limit(read.limit)).fetch_all(connection).await;
    let rows = rows.map_err(|cause| SqlError::Run("read stream", cause))?;
    rows.iter().map(recorded).collect()
}

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Position, SqlError> {
    let head = sqlx::query_scalar::<_, i64>(HEAD).fetch_optional(connection).await;
    let head = head.map_err(|cause| SqlError::Run("head", cause))?;
    Ok(head.map_or(Position::START, |head| Position::from_raw(natural(head))))
}

pub(super) async fn all(
    connection: &mut SqliteConnection,
    read: &ReadAll,
    expired_at: i64,
) -> Result<Page, SqlError> {
    // The head comes first: everything up to it is committed, so the rows need not be of the same
    // moment.
    let head = head(connection).await?;
    let mut query = select(read, head, expired_at);
    let rows = query.build().fetch_all(connection).await;
    let rows = rows.map_err(|cause| SqlError::Run("read all", cause))?;
    let mut events = rows.iter().map(recorded).collect::<Result<Vec<_>, _>>()?;
    let full = events.len() == read.limit;
    let last = events.last().map_or(read.after, |last| last.position);
    // Columns hold microseconds; the attributes decide to the nanosecond.
    events.retain(|event| read.takes(&event.stream, event.event.attributes()));
    let (next, caught_up) = if full { (last, last >= head) } else { (head.max(read.after), true) };
    Ok(Page { events, next, caught_up })
}

pub(super) fn select(read: &ReadAll, head: Position, expired_at: i64) -> QueryBuilder<Sqlite> {
    let start = concat!("SELECT ", event_columns!(), " FROM trunkline_events WHERE position > ");
    let mut query = QueryBuilder::new(start);
    query.push_bind(number(read.after.to_raw()));
    query.push(" AND position <= ").push_bind(number(head.to_raw()));
    if expired_at > i64::MIN {
        query.push(" AND recorded_at > ").push_bind(expired_at);
    }
    push_types(&mut query, read);
    if let Some(correlation) = &read.correlation {
        query.push(" AND correlation = ").push_bind(id_text(correlation).to_string());
    }
    if let Some(tenant) = &read.tenant {
        // The second condition lets the partial index be used.
        query.push(" AND tenant = ").push_bind(tenant.to_string()).push(" AND tenant <> ''");
    }
    if let Some(project) = &read.project {
        query.push(" AND project = ").push_bind(project.to_string());
    }
    if let Some(prefix) = &read.stream_prefix {
        query.push(" AND instr(stream, ").push_bind(prefix.to_string()).push(") = 1");
    }
    if let Some(since) = read.since {
        query.push(" AND time >= ").push_bind(Timestamp::as_microsecond(since));
    }
    if let Some(until) = read.until {
        query.push(" AND time <= ").push_bind(Timestamp::as_microsecond(until));
    }
    query.push(" ORDER BY position LIMIT ").push_bind(limit(read.limit));
    query
}

fn push_types(query: &mut QueryBuilder<Sqlite>, read: &ReadAll) {
    match read.types.as_slice() {
        [] => {}
        [one] => {
            query.push(" AND type = ").push_bind(one.to_string());
        }
        several => {
            // The plus keeps the index out: it would have to sort all that follows for every page.
            query.push(" AND +type IN (");
            let mut list = query.separated(", ");
            for one in several {
                list.push_bind(one.to_string());
            }
            query.push(")");
        }
    }
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
