//! An event as a row, and back.

use jiff::Timestamp;
use smol_str::SmolStr;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};
use trunkline_core::{
    Attributes, Data, Error, Event, EventId, Identity, Position, Recorded, StreamVersion, Topic,
};

use super::attributes;
use super::error::SqlError;

/// The columns of an event, in the order of the table.
macro_rules! event_columns {
    () => {
        "position, stream, version, recorded_at, time, tenant, source, id, type, topic, key, \
         correlation, project, content_type, attributes, data"
    };
}

pub(super) use event_columns;

/// What is encoded of an event before a connection is taken.
pub(super) struct Row<'a> {
    pub(super) event: &'a Event,
    pub(super) identity: Identity,
    pub(super) attributes: String,
    pub(super) data: Data,
}

impl<'a> Row<'a> {
    pub(super) fn new(event: &'a Event) -> Result<Self, Error> {
        let identity = event.attributes().identity();
        let attributes = attributes::to_json(event.attributes()).map_err(SqlError::Encode)?;
        Ok(Self { event, identity, attributes, data: event.data()? })
    }
}

/// A version or position as SQLite has it; beyond its range nothing is stored.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A version or position from its column, where it is never negative.
pub(super) fn natural(number: i64) -> u64 {
    number.max(0).cast_unsigned()
}

pub(super) fn id_text(id: &EventId) -> SmolStr {
    SmolStr::from(id.clone())
}

pub(super) fn recorded(row: &SqliteRow) -> Result<Recorded, SqlError> {
    let position = column::<i64>(row, 0, "position")?;
    let damaged = |cause| SqlError::Damaged { position, cause };
    let recorded_at = Timestamp::from_microsecond(column(row, position, "recorded_at")?);
    Ok(Recorded {
        position: Position::from_raw(natural(position)),
        stream: SmolStr::new(column::<&str>(row, position, "stream")?),
        version: version(column(row, position, "version")?),
        recorded_at: recorded_at.map_err(|cause| damaged(Box::new(cause)))?,
        event: Event::from_parts(
            attributes_of(row, position)?,
            Data {
                bytes: column::<Option<Vec<u8>>>(row, position, "data")?.map(Into::into),
                content_type: text(row, position, "content_type")?,
            },
        ),
    })
}

fn version(number: i64) -> StreamVersion {
    natural(number)
}

fn attributes_of(row: &SqliteRow, position: i64) -> Result<Attributes, SqlError> {
    let topic = column::<&str>(row, position, "topic")?;
    let id = EventId::from(column::<&str>(row, position, "id")?);
    let source = column::<&str>(row, position, "source")?;
    let event_type = column::<&str>(row, position, "type")?;
    let tenant = text(row, position, "tenant")?.filter(|tenant| !tenant.is_empty());
    let key = text(row, position, "key")?;
    let correlation = text(row, position, "correlation")?.map(EventId::from);
    let project = text(row, position, "project")?;
    let json = column::<&str>(row, position, "attributes")?;
    let build = || {
        let mut attributes = Attributes::new(id, source, event_type, Topic::new(topic)?)?;
        attributes.set_time(None);
        attributes.set_tenant(tenant)?;
        attributes.set_key(key)?;
        attributes.set_correlation(correlation);
        attributes.set_project(project)?;
        attributes::set_from_json(&mut attributes, json)?;
        Ok(attributes)
    };
    build().map_err(|cause: Error| SqlError::Damaged { position, cause: Box::new(cause) })
}

fn text(row: &SqliteRow, position: i64, name: &str) -> Result<Option<SmolStr>, SqlError> {
    Ok(column::<Option<&str>>(row, position, name)?.map(SmolStr::new))
}

fn column<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    position: i64,
    name: &str,
) -> Result<T, SqlError> {
    let value = row.try_get(name);
    value.map_err(|cause| SqlError::Damaged { position, cause: Box::new(cause) })
}
