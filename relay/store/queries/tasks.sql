-- Tasks, registrations and events. :rows is a JSON array of objects wherever it appears.
--
-- MATERIALIZED where a statement takes many members of a row: otherwise SQLite writes the row out as text
-- again for each of them. (A sixth of what the statements of a recorded task and its delivery cost.)

-- name: insert_tasks
-- Add tasks that are not known yet; answers those that were added.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO tasks (
    id, upstream, task_id, version, request_id, model, status, verdict, cost_estimate, cost_actual,
    output, error, prompt, cursor, created_at, submitted_at, stalled_at, finished_at
)
SELECT
    r.value->>'id', r.value->>'upstream', r.value->>'task_id', CAST(r.value->>'version' AS BIGINT),
    r.value->>'request_id', r.value->>'model', r.value->>'status', r.value->>'verdict',
    r.value->>'cost_estimate', r.value->>'cost_actual', r.value->>'output', r.value->>'error',
    r.value->>'prompt', r.value->>'cursor',
    CAST(r.value->>'created_at' AS DOUBLE PRECISION),
    CAST(r.value->>'submitted_at' AS DOUBLE PRECISION),
    CAST(r.value->>'stalled_at' AS DOUBLE PRECISION),
    CAST(r.value->>'finished_at' AS DOUBLE PRECISION)
FROM r
WHERE TRUE
ON CONFLICT DO NOTHING
RETURNING id;

-- name: update_tasks
-- Compare and set: replace tasks whose version is the one they were made from; answers the winners.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
UPDATE tasks
SET
    version = CAST(r.value->>'version' AS BIGINT),
    request_id = r.value->>'request_id',
    model = r.value->>'model',
    status = r.value->>'status',
    verdict = r.value->>'verdict',
    cost_estimate = r.value->>'cost_estimate',
    cost_actual = r.value->>'cost_actual',
    output = r.value->>'output',
    error = r.value->>'error',
    prompt = r.value->>'prompt',
    cursor = r.value->>'cursor',
    submitted_at = CAST(r.value->>'submitted_at' AS DOUBLE PRECISION),
    stalled_at = CAST(r.value->>'stalled_at' AS DOUBLE PRECISION),
    finished_at = CAST(r.value->>'finished_at' AS DOUBLE PRECISION)
FROM r
WHERE tasks.id = r.value->>'id' AND tasks.version = CAST(r.value->>'expected_version' AS BIGINT)
RETURNING id;

-- name: insert_events
-- Add events whose key their task does not have yet.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO events (task, key, type, status, timestamp, data, recorded_at)
SELECT
    r.value->>'task', r.value->>'key', r.value->>'type', r.value->>'status',
    CAST(r.value->>'timestamp' AS DOUBLE PRECISION), r.value->>'data',
    CAST(r.value->>'recorded_at' AS DOUBLE PRECISION)
FROM r
WHERE TRUE
ON CONFLICT (task, key) DO NOTHING;

-- name: upsert_registrations
-- Add registrations, or replace what their key had registered on the task.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO registrations (task, key_id, notify, statuses, metadata, created_at, task_created_at)
SELECT
    r.value->>'task', r.value->>'key_id', r.value->>'notify', r.value->>'statuses', r.value->>'metadata',
    CAST(r.value->>'created_at' AS DOUBLE PRECISION), t.created_at
FROM r
JOIN tasks AS t ON t.id = r.value->>'task'
WHERE TRUE
ON CONFLICT (task, key_id) DO UPDATE SET
    notify = excluded.notify,
    statuses = excluded.statuses,
    metadata = excluded.metadata,
    created_at = excluded.created_at;

-- name: delete_registrations
-- Drop the registrations of (task, key) pairs.
DELETE FROM registrations
WHERE (task, key_id) IN (
    SELECT r.value->>'task', r.value->>'key_id' FROM json_each(CAST(:rows AS TEXT)) AS r
);

-- name: select_watches
-- The tasks named by (upstream, task id), one row per registration.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN tasks AS t ON t.upstream = r.value->>'upstream' AND t.task_id = r.value->>'task_id'
LEFT JOIN registrations AS g ON g.task = t.id;

-- name: select_running
-- Tasks to be watched after an id, one row per registration.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at
FROM (
    SELECT * FROM tasks
    WHERE finished_at IS NULL
        AND id > CAST(:after AS TEXT)
        AND EXISTS (SELECT 1 FROM registrations WHERE registrations.task = tasks.id)
    ORDER BY id
    LIMIT CAST(:limit AS BIGINT)
) AS t
JOIN registrations AS g ON g.task = t.id
ORDER BY t.id;

-- name: select_task
-- One task with the number of its events, one row per registration.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at,
    (SELECT COUNT(*) FROM events AS e WHERE e.task = t.id)
FROM tasks AS t
LEFT JOIN registrations AS g ON g.task = t.id
WHERE t.upstream = CAST(:upstream AS TEXT) AND t.task_id = CAST(:task_id AS TEXT);

-- name: page_tasks
-- Positions of all tasks before a position and not before an instant, newest first.
SELECT created_at, id
FROM tasks
WHERE (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_tasks_of_key
-- The same of the tasks that one key registered.
SELECT task_created_at, task
FROM registrations
WHERE key_id = CAST(:key_id AS TEXT)
    AND (task_created_at, task) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND task_created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY task_created_at DESC, task DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_tasks_in_status
-- The same of the tasks in one status.
SELECT created_at, id
FROM tasks
WHERE status = CAST(:status AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_tasks_of_verdict
-- The same of the tasks that relay concludes this of.
SELECT created_at, id
FROM tasks
WHERE verdict = CAST(:verdict AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_tasks_of_model
-- The same of the tasks of one model.
SELECT created_at, id
FROM tasks
WHERE model = CAST(:model AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_tasks_of_upstream
-- The same of the tasks of one upstream.
SELECT created_at, id
FROM tasks
WHERE upstream = CAST(:upstream AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: match_tasks
-- Those of the given tasks that pass every filter; one that is NULL lets all through. A registration's
-- member is compared as JSON text; :metadata lists name and the texts that it may have.
SELECT t.id
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN tasks AS t ON t.id = r.value->>'id'
WHERE (CAST(:status AS TEXT) IS NULL OR t.status = CAST(:status AS TEXT))
    AND (CAST(:verdict AS TEXT) IS NULL OR t.verdict = CAST(:verdict AS TEXT))
    AND (CAST(:upstream AS TEXT) IS NULL OR t.upstream = CAST(:upstream AS TEXT))
    AND (CAST(:model AS TEXT) IS NULL OR t.model = CAST(:model AS TEXT))
    AND (
        CAST(:model_prefix AS TEXT) IS NULL
        OR SUBSTR(t.model, 1, LENGTH(CAST(:model_prefix AS TEXT))) = CAST(:model_prefix AS TEXT)
    )
    AND (
        CAST(:pattern AS TEXT) IS NULL
        OR LOWER(t.task_id) LIKE LOWER(CAST(:pattern AS TEXT)) ESCAPE '~'
        OR LOWER(t.request_id) LIKE LOWER(CAST(:pattern AS TEXT)) ESCAPE '~'
        OR LOWER(t.model) LIKE LOWER(CAST(:pattern AS TEXT)) ESCAPE '~'
        OR LOWER(t.prompt) LIKE LOWER(CAST(:pattern AS TEXT)) ESCAPE '~'
    )
    AND (
        CAST(:metadata AS TEXT) IS NULL
        OR EXISTS (
            SELECT 1 FROM registrations AS g
            WHERE g.task = t.id
                AND (CAST(:key_id AS TEXT) IS NULL OR g.key_id = CAST(:key_id AS TEXT))
                AND NOT EXISTS (
                    SELECT 1 FROM json_each(CAST(:metadata AS TEXT)) AS f
                    WHERE NOT EXISTS (
                        SELECT 1 FROM json_each('[' || g.metadata || ']') AS m
                        WHERE CAST(m.value->(f.value->>'name') AS TEXT)
                            IN (f.value->>'text', f.value->>'other')
                    )
                )
        )
    );

-- name: select_views
-- The given tasks with the number of their events, one row per registration, in any order.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at,
    (SELECT COUNT(*) FROM events AS e WHERE e.task = t.id)
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN tasks AS t ON t.id = r.value->>'id'
LEFT JOIN registrations AS g ON g.task = t.id;

-- name: list_events
-- Events of a task after a sequence number, in order.
SELECT seq, task, key, type, status, timestamp, data, recorded_at
FROM events
WHERE task = CAST(:task AS TEXT) AND seq > CAST(:after AS BIGINT)
ORDER BY seq
LIMIT CAST(:limit AS BIGINT);

-- name: select_last_event
-- The sequence number of the latest event.
SELECT MAX(seq) FROM events;

-- name: list_changes
-- Events of all tasks between two sequence numbers, in order, with their task's names.
SELECT
    e.seq, e.task, e.key, e.type, e.status, e.timestamp, e.data, e.recorded_at, t.upstream, t.task_id
FROM events AS e
JOIN tasks AS t ON t.id = e.task
WHERE e.seq > CAST(:after AS BIGINT)
    AND e.seq <= CAST(:upto AS BIGINT)
    AND (
        CAST(:key_id AS TEXT) IS NULL
        OR EXISTS (
            SELECT 1 FROM registrations AS g WHERE g.task = e.task AND g.key_id = CAST(:key_id AS TEXT)
        )
    )
ORDER BY e.seq
LIMIT CAST(:limit AS BIGINT);

-- name: list_changes_of_task
-- The same of one task.
SELECT
    e.seq, e.task, e.key, e.type, e.status, e.timestamp, e.data, e.recorded_at, t.upstream, t.task_id
FROM events AS e
JOIN tasks AS t ON t.id = e.task
WHERE e.task = CAST(:task AS TEXT)
    AND e.seq > CAST(:after AS BIGINT)
    AND e.seq <= CAST(:upto AS BIGINT)
    AND (
        CAST(:key_id AS TEXT) IS NULL
        OR EXISTS (
            SELECT 1 FROM registrations AS g WHERE g.task = e.task AND g.key_id = CAST(:key_id AS TEXT)
        )
    )
ORDER BY e.seq
LIMIT CAST(:limit AS BIGINT);

-- name: list_watchers
-- Which keys are registered on the given tasks.
SELECT g.task, g.key_id
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN registrations AS g ON g.task = r.value->>'id';
