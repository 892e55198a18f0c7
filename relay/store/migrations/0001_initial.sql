-- The first schema. Statements end with a semicolon at the end of a line, and nothing else does.
-- Times are epoch seconds, money and JSON are text, flags are 0 or 1.

CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    upstream TEXT NOT NULL,
    task_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    request_id TEXT,
    model TEXT,
    status TEXT NOT NULL,
    verdict TEXT NOT NULL,
    cost_estimate TEXT,
    cost_actual TEXT,
    output TEXT,
    error TEXT,
    prompt TEXT,
    cursor TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    submitted_at DOUBLE PRECISION,
    stalled_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    CONSTRAINT task_is_unique UNIQUE (upstream, task_id),
    CONSTRAINT task_status_is_known
        CHECK (status IN ('queued', 'processing', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT task_verdict_is_known CHECK (verdict IN ('running', 'ended', 'stalled', 'lost')),
    CONSTRAINT task_is_finished_when_final CHECK ((verdict IN ('ended', 'lost')) = (finished_at IS NOT NULL)),
    CONSTRAINT task_ended_has_an_end
        CHECK (verdict <> 'ended' OR status IN ('succeeded', 'failed', 'cancelled')),
    CONSTRAINT task_stalled_says_when CHECK (verdict <> 'stalled' OR stalled_at IS NOT NULL),
    CONSTRAINT task_version_counts_up CHECK (version >= 0)
);

CREATE INDEX tasks_by_age ON tasks (created_at, id);

CREATE INDEX tasks_running ON tasks (id) WHERE finished_at IS NULL;

CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- task_created_at repeats tasks.created_at, which never changes, so that a key's list is read in order.
CREATE TABLE registrations (
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    notify TEXT NOT NULL,
    statuses TEXT,
    metadata TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    task_created_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (task, key_id)
);

CREATE INDEX registrations_by_key ON registrations (key_id, task_created_at, task);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT,
    timestamp DOUBLE PRECISION,
    data TEXT,
    recorded_at DOUBLE PRECISION NOT NULL,
    CONSTRAINT event_is_unique UNIQUE (task, key),
    CONSTRAINT event_status_is_known
        CHECK (status IN ('queued', 'processing', 'succeeded', 'failed', 'cancelled'))
);

CREATE INDEX events_by_task ON events (task, seq);

CREATE TABLE notifications (
    id TEXT NOT NULL PRIMARY KEY,
    format TEXT NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT notification_format_is_known CHECK (format IN ('webhook', 'chat'))
);

CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    task TEXT REFERENCES tasks (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    type TEXT NOT NULL,
    notification TEXT NOT NULL REFERENCES notifications (id),
    state TEXT NOT NULL,
    fence BIGINT NOT NULL,
    leased_until DOUBLE PRECISION,
    attempts_made BIGINT NOT NULL,
    attempts_base BIGINT NOT NULL,
    unknowns_made BIGINT NOT NULL,
    next_attempt_at DOUBLE PRECISION,
    reason TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    delivered_at DOUBLE PRECISION,
    CONSTRAINT delivery_state_is_known
        CHECK (state IN ('pending', 'sending', 'held', 'delivered', 'dead', 'superseded')),
    CONSTRAINT delivery_pending_is_due CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT delivery_sending_is_leased CHECK ((state = 'sending') = (leased_until IS NOT NULL)),
    CONSTRAINT delivery_sending_is_fenced CHECK (state <> 'sending' OR fence >= 1),
    CONSTRAINT delivery_delivered_says_when CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT delivery_budget_is_within_attempts
        CHECK (attempts_base >= 0 AND attempts_base <= attempts_made),
    CONSTRAINT delivery_unknowns_are_within_budget
        CHECK (unknowns_made >= 0 AND unknowns_made <= attempts_made - attempts_base)
);

CREATE INDEX deliveries_due ON deliveries (destination, next_attempt_at, id) WHERE state = 'pending';

CREATE INDEX deliveries_by_age ON deliveries (created_at, id);

CREATE INDEX deliveries_by_task ON deliveries (task, created_at, id);

CREATE INDEX deliveries_by_notification ON deliveries (notification);

CREATE INDEX deliveries_open ON deliveries (state, created_at, id, destination)
    WHERE state NOT IN ('delivered', 'superseded');

CREATE TABLE attempts (
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
    CONSTRAINT attempt_outcome_is_known CHECK (outcome IN ('delivered', 'retry', 'dead', 'unknown')),
    CONSTRAINT attempt_takes_time CHECK (duration_ms >= 0)
);

CREATE INDEX attempts_by_age ON attempts (started_at);

-- secret_hash is hexadecimal.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    secret_hash TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    last_used_at DOUBLE PRECISION,
    CONSTRAINT key_role_is_known CHECK (role IN ('admin', 'client')),
    CONSTRAINT key_is_enabled_or_not CHECK (enabled IN (0, 1))
);

CREATE TABLE submissions (
    id TEXT NOT NULL PRIMARY KEY,
    key_id TEXT NOT NULL,
    client_key TEXT,
    upstream TEXT NOT NULL,
    upstream_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    notify TEXT NOT NULL,
    statuses TEXT,
    metadata TEXT,
    state TEXT NOT NULL,
    answer TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    rejected_at DOUBLE PRECISION,
    CONSTRAINT submission_state_is_known
        CHECK (state IN ('pending', 'succeeded', 'rejected', 'unresolved')),
    CONSTRAINT submission_succeeded_has_an_answer CHECK ((state = 'succeeded') = (answer IS NOT NULL)),
    CONSTRAINT submission_rejected_says_when CHECK ((state = 'rejected') = (rejected_at IS NOT NULL))
);

CREATE UNIQUE INDEX submissions_by_client_key ON submissions (key_id, client_key) WHERE state <> 'rejected';

CREATE INDEX submissions_pending ON submissions (created_at, id) WHERE state = 'pending';

CREATE INDEX submissions_settled ON submissions (created_at) WHERE state <> 'pending';

-- One row that the readiness check writes to.
CREATE TABLE probe (
    id BIGINT NOT NULL PRIMARY KEY,
    writes BIGINT NOT NULL,
    CONSTRAINT probe_is_one_row CHECK (id = 1)
);

INSERT INTO probe (id, writes) VALUES (1, 0);
