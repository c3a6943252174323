-- People found over the whole installation, counted, and searched.

ALTER TABLE users ADD COLUMN given_key TEXT;
ALTER TABLE users ADD COLUMN family_key TEXT;

-- The address first: it then also finds who has it in any organisation.
DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (email_key, organisation) WHERE email_key IS NOT NULL;

-- What a search reads and a list is sorted by: a walk through it touches no document.
CREATE INDEX users_names ON users (organisation, number, email_key, given_key, family_key);

-- Few, in whichever organisation they are. 4 is the rank of an owner.
CREATE INDEX users_owners ON users (role) WHERE role = 4;

-- How many people an organisation has, so that nobody needs to count them.
ALTER TABLE organisations ADD COLUMN people INTEGER NOT NULL DEFAULT 0;
UPDATE organisations SET people = (SELECT count(*) FROM users WHERE users.organisation = organisations.id);
