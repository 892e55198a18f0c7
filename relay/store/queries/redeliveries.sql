-- Redeliveries: many deliveries told again. :rows is a JSON array of objects.
--
-- A scan walks the index that fits best from a position up. Filters that no index serves are put to what it found.

-- name: scan_deliveries
-- Positions of all deliveries after a position and before an instant, oldest first.
SELECT created_at, id
FROM deliveries
WHERE (created_at, id) > (CAST(:after_at AS DOUBLE PRECISION), CAST(:after_id AS TEXT))
    AND created_at < CAST(:until AS DOUBLE PRECISION)
ORDER BY created_at, id
LIMIT CAST(:limit AS BIGINT);

-- name: scan_open_deliveries
-- The same in one state that is not an end of the ordinary kind: few among many, so by their own index.
SELECT created_at, id
FROM deliveries
WHERE state = CAST(:state AS TEXT)
    AND state NOT IN ('delivered', 'superseded')
    AND (created_at, id) > (CAST(:after_at AS DOUBLE PRECISION), CAST(:after_id AS TEXT))
    AND created_at < CAST(:until AS DOUBLE PRECISION)
ORDER BY created_at, id
LIMIT CAST(:limit AS BIGINT);

-- name: scan_deliveries_of_destination
-- The same to one destination.
SELECT created_at, id
FROM deliveries
WHERE destination = CAST(:destination AS TEXT)
    AND (created_at, id) > (CAST(:after_at AS DOUBLE PRECISION), CAST(:after_id AS TEXT))
    AND created_at < CAST(:until AS DOUBLE PRECISION)
ORDER BY created_at, id
LIMIT CAST(:limit AS BIGINT);

-- name: scan_deliveries_of_task
-- The same of one task.
SELECT created_at, id
FROM deliveries
WHERE task = CAST(:task AS TEXT)
    AND (created_at, id) > (CAST(:after_at AS DOUBLE PRECISION), CAST(:after_id AS TEXT))
    AND created_at < CAST(:until AS DOUBLE PRECISION)
ORDER BY created_at, id
LIMIT CAST(:limit AS BIGINT);

-- name: insert_redelivery
-- Add a redelivery.
INSERT INTO redeliveries (
    id, state, selection, rate, count, done, skipped, position_at, position_id, paced_until,
    created_by, created_at, changed_at, finished_at
)
VALUES (
    CAST(:id AS TEXT), CAST(:state AS TEXT), CAST(:selection AS TEXT), CAST(:rate AS DOUBLE PRECISION),
    CAST(:count AS BIGINT), CAST(:done AS BIGINT), CAST(:skipped AS BIGINT),
    CAST(:position_at AS DOUBLE PRECISION), CAST(:position_id AS TEXT), CAST(:paced_until AS DOUBLE PRECISION),
    CAST(:created_by AS TEXT), CAST(:created_at AS DOUBLE PRECISION), CAST(:changed_at AS DOUBLE PRECISION),
    CAST(:finished_at AS DOUBLE PRECISION)
);

-- name: update_redelivery
-- How it stands now; what it was asked for never changes.
UPDATE redeliveries
SET
    state = CAST(:state AS TEXT),
    rate = CAST(:rate AS DOUBLE PRECISION),
    count = CAST(:count AS BIGINT),
    done = CAST(:done AS BIGINT),
    skipped = CAST(:skipped AS BIGINT),
    position_at = CAST(:position_at AS DOUBLE PRECISION),
    position_id = CAST(:position_id AS TEXT),
    paced_until = CAST(:paced_until AS DOUBLE PRECISION),
    changed_at = CAST(:changed_at AS DOUBLE PRECISION),
    finished_at = CAST(:finished_at AS DOUBLE PRECISION)
WHERE id = CAST(:id AS TEXT);

-- name: select_redelivery
-- One redelivery.
SELECT
    id, state, selection, rate, count, done, skipped, position_at, position_id, paced_until,
    created_by, created_at, changed_at, finished_at
FROM redeliveries
WHERE id = CAST(:id AS TEXT);

-- name: list_redeliveries
-- Redeliveries before a position, newest first.
SELECT
    id, state, selection, rate, count, done, skipped, position_at, position_id, paced_until,
    created_by, created_at, changed_at, finished_at
FROM redeliveries
WHERE (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: list_redeliveries_in_state
-- The same in one state.
SELECT
    id, state, selection, rate, count, done, skipped, position_at, position_id, paced_until,
    created_by, created_at, changed_at, finished_at
FROM redeliveries
WHERE state = CAST(:state AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: list_running_redeliveries
-- Those that are under way, oldest first.
SELECT
    id, state, selection, rate, count, done, skipped, position_at, position_id, paced_until,
    created_by, created_at, changed_at, finished_at
FROM redeliveries
WHERE state = 'running'
ORDER BY created_at, id;

-- name: count_redeliveries
-- How many there are in each state.
SELECT state, COUNT(*) FROM redeliveries GROUP BY state;

-- name: purge_previews
-- Delete redeliveries that nobody ran.
DELETE FROM redeliveries
WHERE id IN (
    SELECT p.id FROM redeliveries AS p
    WHERE p.state = 'preview' AND p.created_at < CAST(:before AS DOUBLE PRECISION)
    ORDER BY p.created_at
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING id;

-- name: purge_ended_redeliveries
-- Delete redeliveries that ended before an instant.
DELETE FROM redeliveries
WHERE id IN (
    SELECT e.id FROM redeliveries AS e
    WHERE e.state IN ('done', 'cancelled')
        AND e.created_at < CAST(:before AS DOUBLE PRECISION)
        AND e.finished_at < CAST(:before AS DOUBLE PRECISION)
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING id;
