-- Messages on their way, and how often each destination was written to.

CREATE TABLE deliveries (
    pk           INTEGER PRIMARY KEY,
    organisation BLOB    NOT NULL,
    -- A UUIDv7: the order of a list, newest first.
    id           BLOB    NOT NULL,
    user         BLOB,
    challenge    BLOB,
    channel      TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    masked       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    -- When it is to be sent, or when the claim of whoever sends it runs out.
    due_at       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- Attempts nobody knows the end of.
    interrupted  INTEGER NOT NULL DEFAULT 0,
    -- Drawn by whoever sends it now.
    claim        BLOB,
    settled_at   INTEGER,
    provider     TEXT,
    reference    TEXT,
    -- What the provider said later of what it took.
    report       TEXT,
    reason       TEXT,
    -- The sealed letter, until nobody needs it any more.
    body         TEXT
) STRICT;

CREATE UNIQUE INDEX deliveries_id ON deliveries (organisation, id);
CREATE INDEX deliveries_state ON deliveries (organisation, state, id);
CREATE INDEX deliveries_channel ON deliveries (organisation, channel, id);
CREATE INDEX deliveries_user ON deliveries (organisation, user, id) WHERE user IS NOT NULL;
CREATE INDEX deliveries_challenge ON deliveries (organisation, challenge, id) WHERE challenge IS NOT NULL;
-- As large as what waits, not as what was sent.
CREATE INDEX deliveries_due ON deliveries (channel, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_waiting ON deliveries (channel, created_at) WHERE state = 'queued';
CREATE INDEX deliveries_reference ON deliveries (reference, provider) WHERE reference IS NOT NULL;
CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE settled_at IS NOT NULL;

-- By a keyed hash: the table names nobody.
CREATE TABLE destinations (
    key     TEXT    NOT NULL PRIMARY KEY,
    last_at INTEGER NOT NULL,
    sent    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX destinations_last ON destinations (last_at);
