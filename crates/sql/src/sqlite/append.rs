//! Appending a batch in one transaction.

use jiff::Timestamp;
use smol_str::SmolStr;
use sqlx::SqliteConnection;
use trunkline_core::{
    AppendConflict, Appended, Event, ExpectedVersion, Position, Result, StreamVersion,
};

use super::config::SqliteConfig;
use super::error::SqlError;
use super::remove;
use super::row::{Row, id_text, natural, number};

/// What of a batch is stored already, found with one lookup for each event; the order is the batch's.
const KNOWN: &str = "\
    SELECT event.position, event.version \
    FROM json_each(?) AS asked \
    CROSS JOIN trunkline_events AS event \
        ON event.tenant = asked.value ->> 0 \
        AND event.source = asked.value ->> 1 \
        AND event.id = asked.value ->> 2 \
    ORDER BY asked.key";

const VERSION: &str = "SELECT version FROM trunkline_streams WHERE stream = ?";

const SET_VERSION: &str = "\
    INSERT INTO trunkline_streams (stream, version) VALUES (?, ?) \
    ON CONFLICT (stream) DO UPDATE SET version = excluded.version";

const INSERT: &str = "\
    INSERT INTO trunkline_events (stream, version, recorded_at, time, tenant, source, id, type, \
        topic, key, correlation, project, content_type, attributes, data) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Events that are encoded and wait for their transaction.
pub(super) struct Batch<'a> {
    stream: &'a str,
    expected: ExpectedVersion,
    rows: Vec<Row<'a>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        stream: &'a str,
        expected: ExpectedVersion,
        events: &'a [Event],
    ) -> Result<Self> {
        let rows = events.iter().map(Row::new).collect::<Result<_>>()?;
        Ok(Self { stream, expected, rows })
    }

    /// Writes the batch; whoever began the transaction rolls it back on an error.
    pub(super) async fn write(
        &self,
        connection: &mut SqliteConnection,
        config: &SqliteConfig,
    ) -> Result<Vec<Appended>, SqlError> {
        let now = Timestamp::now();
        if config.ttl.is_some() {
            remove::expired(connection, config.expired_at(now)).await?;
        }
        let known = self.known(connection).await?;
        if !known.is_empty() && known.len() == self.rows.len() {
            return Ok(known);
        }
        if !known.is_empty() {
            let (known, batch) = (known.len(), self.rows.len());
            return Err(self.refuse(AppendConflict::PartlyKnown { known, batch }));
        }
        let identities = self.rows.iter().map(|row| &row.identity);
        AppendConflict::check_distinct(identities).map_err(|why| self.refuse(why))?;
        let version = self.version(connection).await?;
        self.expected.check(version).map_err(|why| self.refuse(why))?;
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let appended = self.insert(connection, version, now.as_microsecond()).await?;
        self.set_version(connection, version + self.rows.len() as u64).await?;
        if let Some(max) = config.max_events_per_stream {
            let max = u64::try_from(max.max(1)).unwrap_or(u64::MAX);
            let before = (version + self.rows.len() as u64 + 1).saturating_sub(max);
            remove::below(connection, self.stream, before).await?;
        }
        Ok(appended)
    }

    async fn known(&self, connection: &mut SqliteConnection) -> Result<Vec<Appended>, SqlError> {
        let identities = self.rows.iter().map(|row| &row.identity);
        let asked: Vec<_> =
            identities.map(|asked| (&asked.tenant, &asked.source, &asked.id)).collect();
        let asked = serde_json::to_string(&asked).map_err(SqlError::Encode)?;
        let found = sqlx::query_as::<_, (i64, i64)>(KNOWN).bind(asked).fetch_all(connection);
        let found = found.await.map_err(failed)?;
        let known = |(position, version)| Appended {
            position: Position::from_raw(natural(position)),
            version: natural(version),
            known: true,
        };
        Ok(found.into_iter().map(known).collect())
    }

    async fn version(&self, connection: &mut SqliteConnection) -> Result<StreamVersion, SqlError> {
        let version = sqlx::query_scalar::<_, i64>(VERSION).bind(self.stream);
        let version = version.fetch_optional(connection).await.map_err(failed)?;
        Ok(version.map_or(0, natural))
    }

    fn refuse(&self, conflict: AppendConflict) -> SqlError {
        SqlError::Refused { stream: self.name(), conflict }
    }

    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        last: StreamVersion,
        recorded_at: i64,
    ) -> Result<Vec<Appended>, SqlError> {
        let mut appended = Vec::with_capacity(self.rows.len());
        for (row, version) in self.rows.iter().zip(last + 1..) {
            let attributes = row.event.attributes();
            let done = sqlx::query(INSERT)
                .bind(self.stream)
                .bind(number(version))
                .bind(recorded_at)
                .bind(attributes.time().map(Timestamp::as_microsecond))
                .bind(&*row.identity.tenant)
                .bind(&*row.identity.source)
                .bind(&*id_text(&row.identity.id))
                .bind(attributes.event_type())
                .bind(attributes.topic().as_str())
                .bind(attributes.key())
                .bind(attributes.correlation().map(id_text).as_deref())
                .bind(attributes.project())
                .bind(row.data.content_type.as_deref())
                .bind(&*row.attributes)
                .bind(row.data.bytes.as_deref())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            let position = Position::from_raw(natural(done.last_insert_rowid()));
            appended.push(Appended { position, version, known: false });
        }
        Ok(appended)
    }

    async fn set_version(
        &self,
        connection: &mut SqliteConnection,
        version: StreamVersion,
    ) -> Result<(), SqlError> {
        let set = sqlx::query(SET_VERSION).bind(self.stream).bind(number(version));
        set.execute(connection).await.map_err(failed)?;
        Ok(())
    }

    fn name(&self) -> SmolStr {
        SmolStr::new(self.stream)
    }
}

fn failed(cause: sqlx::Error) -> SqlError {
    SqlError::Run("append", cause)
}
