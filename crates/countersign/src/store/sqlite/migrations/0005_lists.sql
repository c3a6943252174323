-- Every list answered from an index, its deep pages and searches included.

-- The orders people can be sorted in.
CREATE INDEX users_by_email ON users (organisation, email_key, number);
CREATE INDEX users_by_given ON users (organisation, given_key, number);
CREATE INDEX users_by_family ON users (organisation, family_key, number);

-- A lock of one method is found without a look at those of others. The bits are those of the methods.
DROP INDEX users_locked;
CREATE INDEX users_locked_1 ON users (organisation, number) WHERE locked_methods & 1 <> 0;
CREATE INDEX users_locked_2 ON users (organisation, number) WHERE locked_methods & 2 <> 0;
CREATE INDEX users_locked_4 ON users (organisation, number) WHERE locked_methods & 4 <> 0;
CREATE INDEX users_locked_8 ON users (organisation, number) WHERE locked_methods & 8 <> 0;
CREATE INDEX users_locked_16 ON users (organisation, number) WHERE locked_methods & 16 <> 0;
CREATE INDEX users_locked_32 ON users (organisation, number) WHERE locked_methods & 32 <> 0;

-- How many people have a number in each block of 16384: where the page of an offset begins.
CREATE TABLE people_blocks (
    organisation BLOB    NOT NULL,
    block        INTEGER NOT NULL,
    people       INTEGER NOT NULL,
    PRIMARY KEY (organisation, block)
) STRICT, WITHOUT ROWID;

INSERT INTO people_blocks (organisation, block, people)
    SELECT organisation, number / 16384, count(*) FROM users GROUP BY organisation, number / 16384;

-- The parts of names. A row's number is the organisation's, and then the person's within 40 bits, so that a search goes by
-- number. It keeps no text, only who has which part.
CREATE VIRTUAL TABLE name_grams USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii'
);

INSERT INTO name_grams (rowid, words)
    SELECT organisations.pk << 40 | users.number, name_words(users.email_key, users.given_key, users.family_key)
    FROM organisations JOIN users ON users.organisation = organisations.id
    ORDER BY organisations.pk, users.number;
