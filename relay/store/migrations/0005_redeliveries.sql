-- Many deliveries told again, as one piece of work. selection is JSON: which ones.

CREATE TABLE redeliveries (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    selection TEXT NOT NULL,
    rate DOUBLE PRECISION NOT NULL,
    count BIGINT NOT NULL,
    done BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    position_at DOUBLE PRECISION,
    position_id TEXT,
    paced_until DOUBLE PRECISION,
    created_by TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL,
    finished_at DOUBLE PRECISION,
    CONSTRAINT redelivery_state_is_known
        CHECK (state IN ('preview', 'running', 'paused', 'done', 'cancelled')),
    CONSTRAINT redelivery_finished_says_when
        CHECK ((state IN ('done', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT redelivery_preview_moved_nothing
        CHECK (state <> 'preview' OR (done = 0 AND skipped = 0 AND position_at IS NULL AND paced_until IS NULL)),
    CONSTRAINT redelivery_done_looked_at_all CHECK (state <> 'done' OR done + skipped = count),
    CONSTRAINT redelivery_position_is_whole CHECK ((position_at IS NULL) = (position_id IS NULL)),
    CONSTRAINT redelivery_counts_up CHECK (count >= 0 AND done >= 0 AND skipped >= 0),
    CONSTRAINT redelivery_has_a_rate CHECK (rate > 0)
);

CREATE INDEX redeliveries_by_age ON redeliveries (created_at, id);

CREATE INDEX redeliveries_by_state ON redeliveries (state, created_at, id);
