-- Everything: people, organisations, their audit trail, messages, and what the installation itself keeps.
--
-- Each table that a verification touches has a primary key that begins with the person, and nothing refers to another
-- person's rows: the tables can be spread over many machines by that key. Texts are compared byte by byte, so that lists
-- have the same order everywhere.

-- A change that touches no index column stays on its page: there is room for it, and no index to follow. Documents stay in
-- their rows as long as a page has room.
CREATE TABLE users (
    id             uuid     NOT NULL PRIMARY KEY,
    organisation   uuid     NOT NULL,
    number         bigint   NOT NULL,
    username_key   text     COLLATE "C" NOT NULL,
    email_key      text     COLLATE "C",
    given_key      text     COLLATE "C",
    family_key     text     COLLATE "C",
    role           smallint NOT NULL,
    is_active      boolean  NOT NULL,
    mfa_enabled    boolean  NOT NULL,
    locked_methods smallint NOT NULL,
    -- The order in which people were created.
    place          bigint   NOT NULL,
    version        bigint   NOT NULL,
    -- The number of the newest of the person's audit rows: the next one gets a higher one, whichever node writes it.
    audit_row      bigint   NOT NULL,
    updated_at     bigint   NOT NULL,
    body           bytea    NOT NULL
) WITH (fillfactor = 70, toast_tuple_target = 8160);

CREATE INDEX users_number ON users (organisation, number);
CREATE INDEX users_username ON users (organisation, username_key);
CREATE INDEX users_email ON users (email_key, organisation) WHERE email_key IS NOT NULL;
CREATE INDEX users_active ON users (organisation, is_active, number);
CREATE INDEX users_mfa ON users (organisation, mfa_enabled, number);
CREATE INDEX users_role ON users (organisation, role, number);
-- A lock of one method is found without a look at those of others. The bits are those of the methods.
CREATE INDEX users_locked_1 ON users (organisation, number) WHERE locked_methods & 1 <> 0;
CREATE INDEX users_locked_2 ON users (organisation, number) WHERE locked_methods & 2 <> 0;
CREATE INDEX users_locked_4 ON users (organisation, number) WHERE locked_methods & 4 <> 0;
CREATE INDEX users_locked_8 ON users (organisation, number) WHERE locked_methods & 8 <> 0;
CREATE INDEX users_locked_16 ON users (organisation, number) WHERE locked_methods & 16 <> 0;
CREATE INDEX users_locked_32 ON users (organisation, number) WHERE locked_methods & 32 <> 0;
-- Few, in whichever organisation they are. 4 is the rank of an owner.
CREATE INDEX users_owners ON users (place) WHERE role = 4;
CREATE INDEX users_place ON users (place);

-- The names people are searched and sorted by. Apart from their documents, so that a verification has nothing to do with it.
CREATE TABLE people_names (
    organisation uuid   NOT NULL,
    number       bigint NOT NULL,
    id           uuid   NOT NULL,
    email_key    text   COLLATE "C",
    given_key    text   COLLATE "C",
    family_key   text   COLLATE "C",
    PRIMARY KEY (organisation, number, id)
);

-- Who has no name comes first.
CREATE INDEX people_by_email ON people_names (organisation, email_key NULLS FIRST, number);
CREATE INDEX people_by_given ON people_names (organisation, given_key NULLS FIRST, number);
CREATE INDEX people_by_family ON people_names (organisation, family_key NULLS FIRST, number);

-- A part of a name in a block of numbers: a search goes from block to block, and looks at nobody in those without the part.
CREATE FUNCTION name_word(organisation uuid, block bigint, word text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN hashtextextended(word COLLATE "C", uuid_hash_extended(organisation, block));

-- The parts of one, two and three characters, each with the letter of the name it stands in.
CREATE FUNCTION name_words(organisation uuid, number bigint, email text, given text, family text) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT array_agg(DISTINCT name_word(organisation, number / 16384, letter || substr(name, place, length)))
        FROM (VALUES ('e', email), ('g', given), ('f', family)) AS names (letter, name),
            generate_series(1, 3) AS length, generate_series(1, char_length(name) - length + 1) AS place
    );

-- Entries go to their place at once: each block that a search asks would read all that waits.
CREATE INDEX people_names_words ON people_names
    USING gin (name_words(organisation, number, email_key, given_key, family_key)) WITH (fastupdate = off);

-- How many people have a number in each block of 16384: where the page of an offset begins.
CREATE TABLE people_blocks (
    organisation uuid   NOT NULL,
    block        bigint NOT NULL,
    people       bigint NOT NULL,
    PRIMARY KEY (organisation, block)
) WITH (fillfactor = 50);

-- What must be had by one only: usernames (1), addresses (2) and numbers (3) of an organisation, slugs of organisations (4).
CREATE TABLE names (
    organisation uuid     NOT NULL,
    kind         smallint NOT NULL,
    key          text     COLLATE "C" NOT NULL,
    holder       uuid     NOT NULL,
    PRIMARY KEY (organisation, kind, key)
);

CREATE TABLE organisations (
    id        uuid   NOT NULL PRIMARY KEY,
    place     bigint NOT NULL,
    version   bigint NOT NULL,
    audit_row bigint NOT NULL,
    people    bigint NOT NULL DEFAULT 0,
    body      bytea  NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX organisations_place ON organisations (place);

-- Which organisation's document a client stands in.
CREATE TABLE clients (
    id           uuid NOT NULL PRIMARY KEY,
    organisation uuid NOT NULL
);

-- Rows are added, and the oldest may be pruned.
CREATE TABLE audit (
    subject      uuid   NOT NULL,
    seq          bigint NOT NULL,
    -- The order of commits as far as there is one: the database's time, the node, and a count.
    "row"        bigint NOT NULL,
    organisation uuid   NOT NULL,
    at           bigint NOT NULL,
    action       text   COLLATE "C" NOT NULL,
    hash         bytea  NOT NULL,
    body         bytea  NOT NULL,
    PRIMARY KEY (subject, seq)
);

CREATE INDEX audit_row ON audit ("row");
CREATE INDEX audit_time ON audit (organisation, at, "row");
CREATE INDEX audit_action ON audit (organisation, action, at, "row");

-- Where the pruned parts of audit chains end. How far the trail was pruned stands in meta.
CREATE TABLE anchors (
    subject uuid   NOT NULL PRIMARY KEY,
    -- The place of the newest event that was pruned; 0 if none was.
    seq     bigint NOT NULL,
    body    bytea  NOT NULL
);

CREATE TABLE checkpoints (
    seq bigint NOT NULL PRIMARY KEY,
    at  bigint NOT NULL,
    jws text   NOT NULL
);

CREATE TABLE revoked (
    token      uuid   NOT NULL PRIMARY KEY,
    expires_at bigint NOT NULL,
    -- By the database's clock, for those who ask what is new.
    revoked_at bigint NOT NULL
);

CREATE INDEX revoked_expiry ON revoked (expires_at);
CREATE INDEX revoked_since ON revoked (revoked_at);

CREATE TABLE deliveries (
    -- The person it goes to, else the organisation: it lies where their document does.
    owner        uuid   NOT NULL,
    -- A UUIDv7: the order of a list, newest first.
    id           uuid   NOT NULL,
    organisation uuid   NOT NULL,
    "user"       uuid,
    challenge    uuid,
    channel      text   COLLATE "C" NOT NULL,
    subject      text   NOT NULL,
    masked       text   NOT NULL,
    state        text   COLLATE "C" NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL,
    -- When it is to be sent, or when the claim of whoever sends it runs out.
    due_at       bigint NOT NULL,
    attempts     bigint NOT NULL DEFAULT 0,
    -- Attempts nobody knows the end of.
    interrupted  bigint NOT NULL DEFAULT 0,
    -- Drawn by whoever sends it now, and the node they are.
    claim        uuid,
    claimed_by   uuid,
    settled_at   bigint,
    provider     text   COLLATE "C",
    reference    text   COLLATE "C",
    -- What the provider said later of what it took.
    report       text,
    reason       text,
    -- The sealed letter, until nobody needs it any more.
    body         text,
    PRIMARY KEY (owner, id)
) WITH (fillfactor = 80);

CREATE INDEX deliveries_id ON deliveries (organisation, id);
CREATE INDEX deliveries_state ON deliveries (organisation, state, id);
CREATE INDEX deliveries_channel ON deliveries (organisation, channel, id);
CREATE INDEX deliveries_user ON deliveries (organisation, "user", id) WHERE "user" IS NOT NULL;
CREATE INDEX deliveries_challenge ON deliveries (organisation, challenge, id) WHERE challenge IS NOT NULL;
-- As large as what waits, not as what was sent.
CREATE INDEX deliveries_due ON deliveries (channel, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_waiting ON deliveries (channel, created_at) WHERE state = 'queued';
CREATE INDEX deliveries_reference ON deliveries (reference, provider) WHERE reference IS NOT NULL;
CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE settled_at IS NOT NULL;

-- By a keyed hash: the table names nobody.
CREATE TABLE destinations (
    key     text   COLLATE "C" NOT NULL PRIMARY KEY,
    last_at bigint NOT NULL,
    sent    text   NOT NULL
);

CREATE INDEX destinations_last ON destinations (last_at);

CREATE TABLE meta (
    name  text  COLLATE "C" NOT NULL PRIMARY KEY,
    value bytea NOT NULL
);

-- Rows that a commit can rewrite when nothing of meaning is to change; several, so that nobody waits for another.
CREATE TABLE decoy (
    id    smallint NOT NULL PRIMARY KEY,
    count bigint   NOT NULL
) WITH (fillfactor = 10);

INSERT INTO decoy (id, count) SELECT id, 0 FROM generate_series(0, 63) AS id;

-- The nodes that are at work: a node's number is part of the numbers it gives to audit rows.
CREATE TABLE nodes (
    number     smallint    NOT NULL PRIMARY KEY,
    process    uuid        NOT NULL,
    version    text        NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Jobs that one node does at a time, and until when its turn lasts, by the database's clock in milliseconds.
CREATE TABLE turns (
    job   text   COLLATE "C" NOT NULL PRIMARY KEY,
    until bigint NOT NULL
);

-- The timelines of the database that were seen, and since when.
CREATE TABLE timelines (
    name    text   NOT NULL PRIMARY KEY,
    -- Milliseconds since 1970; 0 for the one the installation began on.
    seen_at bigint NOT NULL,
    -- Whether whoever saw it first found that no commit was lost on the way.
    is_lossless boolean NOT NULL
);

-- The documents as SQL can read them, for reports.
CREATE VIEW people AS
    SELECT id, organisation, number, role, is_active, mfa_enabled, locked_methods, version,
        convert_from(body, 'UTF8')::jsonb AS document
    FROM users;
