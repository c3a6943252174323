-- People, organisations, their audit trail, and what the installation itself keeps.
--
-- All tables that hold documents are rowid tables with a key of their own: a change then rewrites one leaf of one
-- b-tree, and no index, because the columns it touches stand in none.

CREATE TABLE users (
    pk             INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL,
    organisation   BLOB    NOT NULL,
    number         INTEGER NOT NULL,
    username_key   TEXT    NOT NULL,
    email_key      TEXT,
    role           INTEGER NOT NULL,
    is_active      INTEGER NOT NULL,
    mfa_enabled    INTEGER NOT NULL,
    locked_methods INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    -- The newest of the person's audit rows; the ones before are found by walking back.
    audit_row      INTEGER,
    updated_at     INTEGER NOT NULL,
    body           BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX users_id ON users (id);
CREATE UNIQUE INDEX users_number ON users (organisation, number);
CREATE UNIQUE INDEX users_username ON users (organisation, username_key);
CREATE UNIQUE INDEX users_email ON users (organisation, email_key) WHERE email_key IS NOT NULL;
CREATE INDEX users_active ON users (organisation, is_active, number);
CREATE INDEX users_mfa ON users (organisation, mfa_enabled, number);
CREATE INDEX users_role ON users (organisation, role, number);
CREATE INDEX users_locked ON users (organisation, number, locked_methods) WHERE locked_methods <> 0;

-- Where the audit trail of a person begins who is no longer among the users.
CREATE TABLE departed (
    id           BLOB    NOT NULL PRIMARY KEY,
    organisation BLOB    NOT NULL,
    audit_row    INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE organisations (
    pk        INTEGER PRIMARY KEY,
    id        BLOB    NOT NULL,
    slug_key  TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    audit_row INTEGER,
    body      BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX organisations_id ON organisations (id);
CREATE UNIQUE INDEX organisations_slug ON organisations (slug_key);

-- Which organisation's document a client stands in.
CREATE TABLE clients (
    id           BLOB NOT NULL PRIMARY KEY,
    organisation BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Append-only. Both indexes grow at the right edge of an organisation's range, and end, as every index does, with the
-- row's number: the order of a page.
CREATE TABLE audit (
    row          INTEGER PRIMARY KEY,
    -- The row of the subject's event before this one.
    previous     INTEGER,
    organisation BLOB    NOT NULL,
    subject      BLOB    NOT NULL,
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    action       TEXT    NOT NULL,
    hash         BLOB    NOT NULL,
    body         BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_time ON audit (organisation, at);
CREATE INDEX audit_action ON audit (organisation, action, at);

CREATE TABLE checkpoints (
    seq INTEGER PRIMARY KEY,
    at  INTEGER NOT NULL,
    jws TEXT    NOT NULL
) STRICT;

CREATE TABLE revoked (
    token      BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revoked_expiry ON revoked (expires_at);

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row that a commit can rewrite when nothing of meaning is to change.
CREATE TABLE decoy (
    id    INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;

INSERT INTO decoy (id, count) VALUES (1, 0);
