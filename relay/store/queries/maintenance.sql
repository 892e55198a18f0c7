-- Keeping the database: probing, deleting what is past its time, migrating, isolating a bad row.

-- name: probe_write
-- A real small write.
UPDATE probe SET writes = writes + 1 WHERE id = 1;

-- name: probe_read
-- A real small read.
SELECT writes FROM probe WHERE id = 1;

-- name: purge_events
-- Look at the oldest events and delete those that are past their time.
DELETE FROM events
WHERE seq IN (
    SELECT oldest.seq
    FROM (SELECT seq, recorded_at FROM events ORDER BY seq LIMIT CAST(:limit AS BIGINT)) AS oldest
    WHERE oldest.recorded_at < CAST(:before AS DOUBLE PRECISION)
)
RETURNING seq;

-- name: purge_attempts
-- Delete the oldest attempts that are past their time. Numbers come from the delivery, so none repeats.
DELETE FROM attempts
WHERE (delivery_id, number) IN (
    SELECT a.delivery_id, a.number
    FROM attempts AS a
    WHERE a.started_at < CAST(:before AS DOUBLE PRECISION)
    ORDER BY a.started_at
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING number;

-- name: select_purgeable_finished
-- Tasks that ended before an instant and owe nothing.
SELECT t.id
FROM tasks AS t
WHERE t.finished_at IS NOT NULL
    AND t.finished_at < CAST(:before AS DOUBLE PRECISION)
    AND NOT EXISTS (
        SELECT 1 FROM deliveries AS d
        WHERE d.task = t.id AND d.state IN ('pending', 'sending', 'held')
    )
ORDER BY t.finished_at
LIMIT CAST(:limit AS BIGINT);

-- name: select_purgeable_unwatched
-- Tasks older than an instant that nobody is registered on and that owe nothing.
SELECT t.id
FROM tasks AS t
WHERE t.finished_at IS NULL
    AND t.created_at < CAST(:before AS DOUBLE PRECISION)
    AND NOT EXISTS (SELECT 1 FROM registrations AS g WHERE g.task = t.id)
    AND NOT EXISTS (
        SELECT 1 FROM deliveries AS d
        WHERE d.task = t.id AND d.state IN ('pending', 'sending', 'held')
    )
LIMIT CAST(:limit AS BIGINT);

-- name: delete_deliveries_of_tasks
-- Delete what these tasks told, attempts with it; answers the bodies that were sent.
DELETE FROM deliveries
WHERE task IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r)
RETURNING notification;

-- name: delete_tasks
-- Delete these tasks, registrations and events with them.
DELETE FROM tasks
WHERE id IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r);

-- name: purge_notices
-- Delete settled deliveries that belong to no task; answers the bodies that were sent.
DELETE FROM deliveries
WHERE id IN (
    SELECT d.id FROM deliveries AS d
    WHERE d.task IS NULL
        AND d.created_at < CAST(:before AS DOUBLE PRECISION)
        AND d.state IN ('delivered', 'dead', 'superseded')
    ORDER BY d.created_at
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING notification;

-- name: delete_orphaned_notifications
-- Delete those of these bodies that no delivery needs any more.
DELETE FROM notifications
WHERE id IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r)
    AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.notification = notifications.id);

-- name: purge_submissions
-- Delete submissions that are past their time and not waiting for an answer.
DELETE FROM submissions
WHERE id IN (
    SELECT s.id FROM submissions AS s
    WHERE s.state <> 'pending' AND s.created_at < CAST(:before AS DOUBLE PRECISION)
    ORDER BY s.created_at
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING id;

-- name: create_migrations
-- Make the table that remembers what was applied.
CREATE TABLE IF NOT EXISTS migrations (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL
);

-- name: list_migrations
-- What was applied, in order.
SELECT version, name, checksum FROM migrations ORDER BY version;

-- name: insert_migration
-- Remember one that was applied.
INSERT INTO migrations (version, name, checksum, applied_at)
VALUES (
    CAST(:version AS BIGINT), CAST(:name AS TEXT), CAST(:checksum AS TEXT),
    CAST(:applied_at AS DOUBLE PRECISION)
);

-- name: savepoint
-- Before one item that may be bad.
SAVEPOINT item;

-- name: rollback_to_savepoint
-- Undo that one item.
ROLLBACK TO SAVEPOINT item;

-- name: release_savepoint
-- Go on to the next item.
RELEASE SAVEPOINT item;
