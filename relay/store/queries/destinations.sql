-- Destinations made by API, and the health of all of them. :rows is a JSON array of objects.
--
-- "destination || ''" is no bare column, so that the index over the few rows that are open is taken instead of the one
-- over all rows of a destination.

-- name: upsert_destination
-- Add a destination, or replace what is changed of it.
INSERT INTO destinations (name, source, owner, options, sealed, created_at, changed_at, used_at)
VALUES (
    CAST(:name AS TEXT), CAST(:source AS TEXT), CAST(:owner AS TEXT), CAST(:options AS TEXT),
    CAST(:sealed AS TEXT), CAST(:created_at AS DOUBLE PRECISION), CAST(:changed_at AS DOUBLE PRECISION),
    CAST(:used_at AS DOUBLE PRECISION)
)
ON CONFLICT (name) DO UPDATE SET
    source = excluded.source,
    owner = excluded.owner,
    options = excluded.options,
    sealed = excluded.sealed,
    changed_at = excluded.changed_at,
    used_at = CASE WHEN destinations.used_at > excluded.used_at THEN destinations.used_at ELSE excluded.used_at END;

-- name: list_destinations
-- All of them, by name.
SELECT name, source, owner, options, sealed, created_at, changed_at, used_at FROM destinations ORDER BY name;

-- name: list_destination_names
-- Their names, and who made them: all that one who looks in from outside may see.
SELECT name, source FROM destinations ORDER BY name;

-- name: delete_destination
-- Forget one.
DELETE FROM destinations WHERE name = CAST(:name AS TEXT) RETURNING name;

-- name: delete_health
-- Forget how it went with these destinations.
DELETE FROM destination_health
WHERE destination IN (SELECT r.value->>'name' FROM json_each(CAST(:rows AS TEXT)) AS r);

-- name: find_destination
-- Whether one of that name is stored.
SELECT name FROM destinations WHERE name = CAST(:name AS TEXT);

-- name: touch_destinations
-- Note that these were named.
UPDATE destinations
SET used_at = CAST(:now AS DOUBLE PRECISION)
WHERE name IN (SELECT r.value->>'name' FROM json_each(CAST(:rows AS TEXT)) AS r)
    AND used_at < CAST(:now AS DOUBLE PRECISION);

-- name: purge_inline
-- Forget inline destinations that nobody named for long, that are owed nothing, and that no running task will owe.
DELETE FROM destinations
WHERE name IN (
    SELECT i.name FROM destinations AS i
    WHERE i.source = 'inline'
        AND i.used_at < CAST(:before AS DOUBLE PRECISION)
        AND NOT EXISTS (
            SELECT 1 FROM deliveries AS d
            WHERE d.destination = i.name AND d.state IN ('pending', 'sending', 'held')
        )
        AND i.name NOT IN (
            SELECT n.value
            FROM tasks AS t
            CROSS JOIN registrations AS g  -- in this order: few tasks run
            CROSS JOIN json_each(g.notify) AS n
            WHERE t.finished_at IS NULL AND g.task = t.id
        )
    ORDER BY i.used_at
    LIMIT CAST(:limit AS BIGINT)
)
RETURNING name;

-- name: list_healths
-- What is remembered of every destination, by name.
SELECT destination, version, paused_at, disabled_at, disabled_reason, failing_since, failing, warned, warned_at
FROM destination_health
ORDER BY destination;

-- name: upsert_healths
-- Remember how it goes with destinations, unless something newer is known; answers those that were written.
INSERT INTO destination_health (
    destination, version, paused_at, disabled_at, disabled_reason, failing_since, failing, warned, warned_at
)
SELECT
    r.value->>'destination', CAST(r.value->>'version' AS BIGINT),
    CAST(r.value->>'paused_at' AS DOUBLE PRECISION), CAST(r.value->>'disabled_at' AS DOUBLE PRECISION),
    r.value->>'disabled_reason', CAST(r.value->>'failing_since' AS DOUBLE PRECISION),
    r.value->>'failing', CAST(r.value->>'warned' AS BIGINT),
    CAST(r.value->>'warned_at' AS DOUBLE PRECISION)
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE TRUE
ON CONFLICT (destination) DO UPDATE SET
    version = excluded.version,
    paused_at = excluded.paused_at,
    disabled_at = excluded.disabled_at,
    disabled_reason = excluded.disabled_reason,
    failing_since = excluded.failing_since,
    failing = excluded.failing,
    warned = excluded.warned,
    warned_at = excluded.warned_at
WHERE destination_health.version < excluded.version
RETURNING destination;

-- name: hold_pending
-- Hold what is pending for one destination; tests go on. (Every due time is greater; it is said for the planner.)
UPDATE deliveries
SET state = 'held', next_attempt_at = NULL, reason = CAST(:reason AS TEXT)
WHERE state = 'pending'
    AND destination = CAST(:destination AS TEXT)
    AND next_attempt_at >= -1e300
    AND type <> 'relay.test'
RETURNING id;

-- name: hold_otherwise
-- What is held for one destination is held for another reason.
UPDATE deliveries
SET reason = CAST(:reason AS TEXT)
WHERE state = 'held'
    AND state NOT IN ('delivered', 'superseded')
    AND destination || '' = CAST(:destination AS TEXT);

-- name: supersede_held
-- Of what is held for one destination, supersede all but the newest of each task. What happened at the same
-- moment is put in the order in which a task lives.
UPDATE deliveries
SET state = 'superseded', reason = CAST(:superseded AS TEXT)
FROM (
    SELECT
        id,
        ROW_NUMBER() OVER (
            PARTITION BY task
            ORDER BY
                created_at DESC,
                CASE type
                    WHEN 'task.queued' THEN 0
                    WHEN 'task.processing' THEN 1
                    WHEN 'task.stalled' THEN 2
                    ELSE 3
                END DESC,
                id
        ) AS place
    FROM deliveries
    WHERE state = 'held'
        AND state NOT IN ('delivered', 'superseded')
        AND destination || '' = CAST(:destination AS TEXT)
        AND task IS NOT NULL
) AS o
WHERE deliveries.id = o.id AND o.place > 1
RETURNING deliveries.id, deliveries.state, deliveries.attempts_made;

-- name: release_held
-- Owe again what is held for one destination, with a fresh budget, :pause seconds apart.
UPDATE deliveries
SET
    state = 'pending',
    next_attempt_at = CAST(:now AS DOUBLE PRECISION) + o.place * CAST(:pause AS DOUBLE PRECISION),
    attempts_base = deliveries.attempts_made,
    unknowns_made = 0,
    reason = NULL
FROM (
    SELECT id, ROW_NUMBER() OVER (ORDER BY created_at, id) - 1 AS place
    FROM deliveries
    WHERE state = 'held'
        AND state NOT IN ('delivered', 'superseded')
        AND destination || '' = CAST(:destination AS TEXT)
) AS o
WHERE deliveries.id = o.id
RETURNING id;

-- name: release_strays
-- Owe again what is held for one destination that takes everything, its budget as it is, :pause seconds apart.
UPDATE deliveries
SET
    state = 'pending',
    next_attempt_at = CAST(:now AS DOUBLE PRECISION) + o.place * CAST(:pause AS DOUBLE PRECISION),
    reason = NULL
FROM (
    SELECT id, ROW_NUMBER() OVER (ORDER BY created_at, id) - 1 AS place
    FROM deliveries
    WHERE state = 'held'
        AND state NOT IN ('delivered', 'superseded')
        AND destination || '' = CAST(:destination AS TEXT)
) AS o
WHERE deliveries.id = o.id
    AND NOT EXISTS (
        SELECT 1 FROM destination_health AS h
        WHERE h.destination = CAST(:destination AS TEXT)
            AND (h.paused_at IS NOT NULL OR h.disabled_at IS NOT NULL)
    )
RETURNING id;

-- name: drop_held
-- Give up what is held for one destination.
UPDATE deliveries
SET state = 'dead', reason = CAST(:dropped AS TEXT)
WHERE state = 'held'
    AND state NOT IN ('delivered', 'superseded')
    AND destination || '' = CAST(:destination AS TEXT)
RETURNING id, state, attempts_made;

-- name: select_canary
-- The token that shows whether a key opens what is sealed.
SELECT canary FROM sealing WHERE id = 1;

-- name: upsert_canary
-- Keep it.
INSERT INTO sealing (id, canary) VALUES (1, CAST(:canary AS TEXT))
ON CONFLICT (id) DO UPDATE SET canary = excluded.canary;

-- name: reseal_destinations
-- The same secrets under another key.
UPDATE destinations AS d
SET sealed = r.value->>'sealed'
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE d.name = r.value->>'name';
