-- Who made a submission's key (0: the client, 1: relay), whether its request is stored as it is sent, and lists.

ALTER TABLE submissions ADD COLUMN key_made BIGINT NOT NULL DEFAULT 0 CHECK (key_made IN (0, 1));

ALTER TABLE submissions ADD COLUMN request_whole BIGINT NOT NULL DEFAULT 1 CHECK (request_whole IN (0, 1));

-- Keys that relay made so far looked like this.
UPDATE submissions SET key_made = 1 WHERE client_key LIKE 'relay-sub~_%' ESCAPE '~';

DROP INDEX submissions_settled;

DROP INDEX submissions_pending;

CREATE INDEX submissions_by_age ON submissions (created_at, id);

CREATE INDEX submissions_by_state ON submissions (state, created_at, id);
