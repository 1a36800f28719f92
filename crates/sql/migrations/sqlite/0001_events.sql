-- A row per stream: its version survives the removal of its events.
CREATE TABLE trunkline_streams (
    stream  TEXT    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a position is never given out twice, also after its event is removed. There is one
-- writer at a time, so the order of positions is the order of commits.
CREATE TABLE trunkline_events (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    stream       TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    -- Microseconds since 1970; the event's own time is exact among the attributes.
    recorded_at  INTEGER NOT NULL,
    time         INTEGER,
    -- Empty when the event has no tenant: an absent value would make every such event unique.
    tenant       TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    key          TEXT,
    correlation  TEXT,
    project      TEXT,
    content_type TEXT,
    -- A JSON object of the attributes that have no column, in their order.
    attributes   TEXT    NOT NULL,
    -- Absent when the event has no data, which is not the same as empty data.
    data         BLOB,
    UNIQUE (stream, version),
    UNIQUE (tenant, source, id)
) STRICT;

-- Every index ends with the position, so that one filter is read in global order without sorting.
CREATE INDEX trunkline_events_by_type ON trunkline_events (type);
CREATE INDEX trunkline_events_by_correlation ON trunkline_events (correlation)
    WHERE correlation IS NOT NULL;
CREATE INDEX trunkline_events_by_tenant ON trunkline_events (tenant) WHERE tenant <> '';
CREATE INDEX trunkline_events_by_project ON trunkline_events (project) WHERE project IS NOT NULL;
CREATE INDEX trunkline_events_by_time ON trunkline_events (time) WHERE time IS NOT NULL;
