-- Destinations made by API, what is remembered of all of them, and attempts that end in "disable".

-- options is JSON. sealed is the URL and the secrets, encrypted.
CREATE TABLE destinations (
    name TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    owner TEXT,
    options TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL,
    used_at DOUBLE PRECISION NOT NULL,
    CONSTRAINT destination_source_is_known CHECK (source IN ('api', 'inline')),
    CONSTRAINT destination_inline_has_an_owner CHECK ((source = 'inline') = (owner IS NOT NULL))
);

CREATE INDEX destinations_inline ON destinations (used_at) WHERE source = 'inline';

-- One row for each destination that has a history, configured ones too. failing is a JSON list of delivery ids.
CREATE TABLE destination_health (
    destination TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    paused_at DOUBLE PRECISION,
    disabled_at DOUBLE PRECISION,
    disabled_reason TEXT,
    failing_since DOUBLE PRECISION,
    failing TEXT NOT NULL,
    warned BIGINT NOT NULL,
    CONSTRAINT health_disabled_says_why CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);

-- The token that shows whether secret_key opens what is sealed.
CREATE TABLE sealing (
    id BIGINT NOT NULL PRIMARY KEY,
    canary TEXT NOT NULL,
    CONSTRAINT sealing_is_one_row CHECK (id = 1)
);

CREATE TABLE attempts_made (
    delivery_id TEXT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    status_code BIGINT,
    detail TEXT,
    PRIMARY KEY (delivery_id, number),
    CONSTRAINT attempt_counts_from_one CHECK (number >= 1),
    CONSTRAINT attempt_outcome_is_known CHECK (outcome IN ('delivered', 'retry', 'dead', 'unknown', 'disable')),
    CONSTRAINT attempt_takes_time CHECK (duration_ms >= 0)
);

INSERT INTO attempts_made (delivery_id, number, started_at, duration_ms, outcome, reason, status_code, detail)
SELECT delivery_id, number, started_at, duration_ms, outcome, reason, status_code, detail FROM attempts;

DROP TABLE attempts;

ALTER TABLE attempts_made RENAME TO attempts;

CREATE INDEX attempts_by_age ON attempts (started_at);
