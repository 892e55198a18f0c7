-- Tasks, registrations and events. :rows is a JSON array of objects wherever it appears.

-- name: insert_tasks
-- Add tasks that are not known yet; answers those that were added.
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
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE TRUE
ON CONFLICT DO NOTHING
RETURNING id;

-- name: update_tasks
-- Compare and set: replace tasks whose version is the one they were made from; answers the winners.
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
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE tasks.id = r.value->>'id' AND tasks.version = CAST(r.value->>'expected_version' AS BIGINT)
RETURNING id;

-- name: insert_events
-- Add events whose key their task does not have yet.
INSERT INTO events (task, key, type, status, timestamp, data, recorded_at)
SELECT
    r.value->>'task', r.value->>'key', r.value->>'type', r.value->>'status',
    CAST(r.value->>'timestamp' AS DOUBLE PRECISION), r.value->>'data',
    CAST(r.value->>'recorded_at' AS DOUBLE PRECISION)
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE TRUE
ON CONFLICT (task, key) DO NOTHING;

-- name: upsert_registrations
-- Add registrations, or replace what their key had registered on the task.
INSERT INTO registrations (task, key_id, notify, statuses, metadata, created_at, task_created_at)
SELECT
    r.value->>'task', r.value->>'key_id', r.value->>'notify', r.value->>'statuses', r.value->>'metadata',
    CAST(r.value->>'created_at' AS DOUBLE PRECISION), t.created_at
FROM json_each(CAST(:rows AS TEXT)) AS r
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

-- name: list_tasks
-- A page of all tasks, newest first, with the number of their events, one row per registration.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at,
    (SELECT COUNT(*) FROM events AS e WHERE e.task = t.id)
FROM (
    SELECT * FROM tasks
    WHERE (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
        AND (CAST(:upstream AS TEXT) IS NULL OR upstream = CAST(:upstream AS TEXT))
        AND (CAST(:status AS TEXT) IS NULL OR status = CAST(:status AS TEXT))
        AND (CAST(:verdict AS TEXT) IS NULL OR verdict = CAST(:verdict AS TEXT))
    ORDER BY created_at DESC, id DESC
    LIMIT CAST(:limit AS BIGINT)
) AS t
LEFT JOIN registrations AS g ON g.task = t.id
ORDER BY t.created_at DESC, t.id DESC;

-- name: list_tasks_of_key
-- The same of the tasks that one key registered, in the order of its own index.
SELECT
    t.id, t.upstream, t.task_id, t.version, t.request_id, t.model, t.status, t.verdict,
    t.cost_estimate, t.cost_actual, t.output, t.error, t.prompt, t.cursor,
    t.created_at, t.submitted_at, t.stalled_at, t.finished_at,
    g.key_id, g.notify, g.statuses, g.metadata, g.created_at,
    (SELECT COUNT(*) FROM events AS e WHERE e.task = t.id)
FROM (
    SELECT tasks.* FROM registrations AS mine
    JOIN tasks ON tasks.id = mine.task
    WHERE mine.key_id = CAST(:key_id AS TEXT)
        AND (mine.task_created_at, mine.task)
            < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
        AND (CAST(:upstream AS TEXT) IS NULL OR tasks.upstream = CAST(:upstream AS TEXT))
        AND (CAST(:status AS TEXT) IS NULL OR tasks.status = CAST(:status AS TEXT))
        AND (CAST(:verdict AS TEXT) IS NULL OR tasks.verdict = CAST(:verdict AS TEXT))
    ORDER BY mine.task_created_at DESC, mine.task DESC
    LIMIT CAST(:limit AS BIGINT)
) AS t
LEFT JOIN registrations AS g ON g.task = t.id
ORDER BY t.created_at DESC, t.id DESC;

-- name: list_events
-- Events of a task after a sequence number, in order.
SELECT seq, task, key, type, status, timestamp, data, recorded_at
FROM events
WHERE task = CAST(:task AS TEXT) AND seq > CAST(:after AS BIGINT)
ORDER BY seq
LIMIT CAST(:limit AS BIGINT);
