-- The outbox: notifications, deliveries, attempts. :rows is a JSON array of objects.
--
-- "state NOT IN ('delivered', 'superseded')" beside a state says nothing new to the reader; it is what lets
-- the planner use the index over the few rows that are open.

-- name: insert_notifications
-- Add bodies that are not stored yet.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO notifications (id, format, type, body)
SELECT r.value->>'id', r.value->>'format', r.value->>'type', r.value->>'body'
FROM r
WHERE TRUE
ON CONFLICT (id) DO NOTHING;

-- name: insert_deliveries
-- Add deliveries whose id is not stored yet; answers those that were added.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO deliveries (
    id, task, destination, type, notification, state, fence, leased_until,
    attempts_made, attempts_base, unknowns_made, next_attempt_at, reason, created_at
)
SELECT
    r.value->>'id', r.value->>'task', r.value->>'destination', r.value->>'type', r.value->>'notification',
    r.value->>'state', CAST(r.value->>'fence' AS BIGINT),
    CAST(r.value->>'leased_until' AS DOUBLE PRECISION),
    0, 0, 0,
    CAST(r.value->>'next_attempt_at' AS DOUBLE PRECISION),
    r.value->>'reason',
    CAST(r.value->>'created_at' AS DOUBLE PRECISION)
FROM r
WHERE TRUE
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: supersede_deliveries
-- What is not told yet of the earlier changes of tasks that have ended. What is being sent cannot be called
-- back: the reason marks it, and should it not arrive it is not owed again.
UPDATE deliveries
SET
    state = CASE state WHEN 'sending' THEN 'sending' ELSE 'superseded' END,
    next_attempt_at = NULL,
    reason = CAST(:overtaken AS TEXT)
WHERE task IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r)
    AND state IN ('pending', 'sending', 'held')
    AND type IN ('task.queued', 'task.processing', 'task.stalled')
RETURNING id, state, attempts_made;

-- name: select_due
-- What may be claimed of one destination, oldest due first; costs no more than the limit.
SELECT
    d.id, d.destination, d.type, n.format, n.body, d.fence, d.attempts_made, d.attempts_base, d.unknowns_made,
    d.created_at, d.redelivered_at, t.task_id, t.upstream
FROM (
    SELECT * FROM deliveries
    WHERE state = 'pending'
        AND destination = CAST(:destination AS TEXT)
        AND next_attempt_at <= CAST(:now AS DOUBLE PRECISION)
    ORDER BY next_attempt_at, id
    LIMIT CAST(:limit AS BIGINT)
) AS d
JOIN notifications AS n ON n.id = d.notification
LEFT JOIN tasks AS t ON t.id = d.task
ORDER BY d.next_attempt_at, d.id;

-- name: select_due_fresh
-- The same of what was never attempted.
SELECT
    d.id, d.destination, d.type, n.format, n.body, d.fence, d.attempts_made, d.attempts_base, d.unknowns_made,
    d.created_at, d.redelivered_at, t.task_id, t.upstream
FROM (
    SELECT * FROM deliveries
    WHERE state = 'pending'
        AND attempts_made = 0
        AND destination = CAST(:destination AS TEXT)
        AND next_attempt_at <= CAST(:now AS DOUBLE PRECISION)
    ORDER BY next_attempt_at, id
    LIMIT CAST(:limit AS BIGINT)
) AS d
JOIN notifications AS n ON n.id = d.notification
LEFT JOIN tasks AS t ON t.id = d.task
ORDER BY d.next_attempt_at, d.id;

-- name: claim_deliveries
-- Lease what was selected in the same transaction.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
UPDATE deliveries AS d
SET
    state = 'sending',
    fence = CAST(r.value->>'fence' AS BIGINT),
    leased_until = CAST(:leased_until AS DOUBLE PRECISION),
    next_attempt_at = NULL
FROM r
WHERE d.id = r.value->>'id';

-- name: settle_deliveries
-- Apply outcomes: a success whatever the lease, others under their own fence; answers the numbers. What was
-- overtaken meanwhile is not tried again.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
UPDATE deliveries
SET
    state = CASE WHEN deliveries.reason = CAST(:overtaken AS TEXT) AND r.value->>'state' IN ('pending', 'held')
        THEN 'superseded' ELSE r.value->>'state' END,
    leased_until = NULL,
    attempts_made = deliveries.attempts_made + 1,
    unknowns_made = deliveries.unknowns_made + CAST(r.value->>'unknowns' AS BIGINT),
    next_attempt_at = CASE WHEN deliveries.reason = CAST(:overtaken AS TEXT) THEN NULL
        ELSE CAST(r.value->>'next_attempt_at' AS DOUBLE PRECISION) END,
    reason = CASE WHEN deliveries.reason = CAST(:overtaken AS TEXT) AND r.value->>'state' IN ('pending', 'held')
        THEN deliveries.reason ELSE r.value->>'reason' END,
    delivered_at = CASE WHEN r.value->>'state' = 'delivered'
        THEN COALESCE(deliveries.delivered_at, CAST(r.value->>'ended_at' AS DOUBLE PRECISION)) END
FROM r
WHERE deliveries.id = r.value->>'delivery_id'
    AND (
        r.value->>'outcome' = 'delivered'
        OR (deliveries.state = 'sending' AND deliveries.fence = CAST(r.value->>'fence' AS BIGINT))
    )
RETURNING id, state, attempts_made;

-- name: insert_attempts
-- Keep the outcomes that were applied, under the numbers they got.
WITH r AS MATERIALIZED (SELECT value FROM json_each(CAST(:rows AS TEXT)))
INSERT INTO attempts (delivery_id, number, started_at, duration_ms, outcome, reason, status_code, detail)
SELECT
    r.value->>'delivery_id', CAST(r.value->>'number' AS BIGINT),
    CAST(r.value->>'started_at' AS DOUBLE PRECISION), CAST(r.value->>'duration_ms' AS DOUBLE PRECISION),
    r.value->>'outcome', r.value->>'reason', CAST(r.value->>'status_code' AS BIGINT), r.value->>'detail'
FROM r;

-- name: restore_delivered
-- What an order to send again that was withdrawn leaves behind: a delivery that arrived before is delivered, as it was.
-- One whose attempts were deleted meanwhile stays as it is.
UPDATE deliveries
SET state = 'delivered', delivered_at = o.arrived_at, reason = NULL
FROM (
    SELECT
        r.value->>'id' AS id,
        (
            SELECT a.started_at + a.duration_ms / 1000.0 FROM attempts AS a
            WHERE a.delivery_id = r.value->>'id' AND a.outcome = 'delivered'
            ORDER BY a.number DESC LIMIT 1
        ) AS arrived_at
    FROM json_each(CAST(:rows AS TEXT)) AS r
) AS o
WHERE deliveries.id = o.id
    AND deliveries.state IN ('dead', 'superseded')
    AND o.arrived_at IS NOT NULL
RETURNING id;

-- name: release_leases
-- Give back leases that were not used; what was overtaken meanwhile is not owed again, here and below.
UPDATE deliveries
SET
    state = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN 'superseded' ELSE 'pending' END,
    leased_until = NULL,
    next_attempt_at = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN NULL
        ELSE CAST(:now AS DOUBLE PRECISION) END
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE deliveries.id = r.value->>'id'
    AND deliveries.state = 'sending'
    AND deliveries.fence = CAST(r.value->>'fence' AS BIGINT)
RETURNING id, state, attempts_made;

-- name: give_up_leases
-- End leases that were not used.
UPDATE deliveries
SET state = 'dead', leased_until = NULL, reason = CAST(:reason AS TEXT)
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE deliveries.id = r.value->>'id'
    AND deliveries.state = 'sending'
    AND deliveries.fence = CAST(r.value->>'fence' AS BIGINT)
RETURNING id, state, attempts_made, attempts_base;

-- name: void_leases
-- Take every lease back.
UPDATE deliveries
SET
    state = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN 'superseded' ELSE 'pending' END,
    leased_until = NULL,
    next_attempt_at = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN NULL
        ELSE CAST(:now AS DOUBLE PRECISION) END
WHERE state = 'sending' AND state NOT IN ('delivered', 'superseded')
RETURNING id, state, attempts_made;

-- name: expire_leases
-- Take back leases that are past, but for those of the given deliveries.
UPDATE deliveries
SET
    state = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN 'superseded' ELSE 'pending' END,
    leased_until = NULL,
    next_attempt_at = CASE WHEN reason = CAST(:overtaken AS TEXT) THEN NULL
        ELSE CAST(:now AS DOUBLE PRECISION) END
WHERE state = 'sending'
    AND state NOT IN ('delivered', 'superseded')
    AND leased_until <= CAST(:now AS DOUBLE PRECISION)
    AND id NOT IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r)
RETURNING id, state, attempts_made;

-- name: shift_due
-- Bring due times and leases forward by as much as the clock was set back.
UPDATE deliveries
SET
    next_attempt_at = next_attempt_at - CAST(:seconds AS DOUBLE PRECISION),
    leased_until = leased_until - CAST(:seconds AS DOUBLE PRECISION)
WHERE state IN ('pending', 'sending') AND state NOT IN ('delivered', 'superseded')
RETURNING id;

-- name: select_due_destinations
-- The earliest due time of each destination that has one; one index probe each, however many rows.
WITH RECURSIVE waiting (destination) AS (
    SELECT (
        SELECT destination FROM deliveries WHERE state = 'pending' ORDER BY destination LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT d.destination FROM deliveries AS d
        WHERE d.state = 'pending' AND d.destination > waiting.destination
        ORDER BY d.destination LIMIT 1
    )
    FROM waiting
    WHERE waiting.destination IS NOT NULL
)
SELECT
    w.destination,
    (
        SELECT d.next_attempt_at FROM deliveries AS d
        WHERE d.state = 'pending' AND d.destination = w.destination
        ORDER BY d.next_attempt_at LIMIT 1
    )
FROM waiting AS w
WHERE w.destination IS NOT NULL;

-- name: hold_deliveries
-- Hold what is owed to destinations that are not configured.
UPDATE deliveries
SET state = 'held', next_attempt_at = NULL, reason = CAST(:reason AS TEXT)
WHERE state = 'pending'
    AND destination NOT IN (SELECT r.value->>'name' FROM json_each(CAST(:rows AS TEXT)) AS r)
RETURNING id;

-- name: select_addressed
-- Whether anything was ever owed to a destination.
SELECT 1 FROM deliveries WHERE destination = CAST(:destination AS TEXT) LIMIT 1;

-- name: unhold_deliveries
-- Owe again what was held for that reason and whose destination is back, :pause seconds apart.
UPDATE deliveries
SET
    state = 'pending',
    next_attempt_at = CAST(:now AS DOUBLE PRECISION) + o.place * CAST(:pause AS DOUBLE PRECISION),
    reason = NULL
FROM (
    SELECT id, ROW_NUMBER() OVER (PARTITION BY destination ORDER BY created_at, id) - 1 AS place
    FROM deliveries
    WHERE state = 'held'
        AND state NOT IN ('delivered', 'superseded')
        AND reason = CAST(:reason AS TEXT)
        AND destination IN (SELECT r.value->>'name' FROM json_each(CAST(:rows AS TEXT)) AS r)
) AS o
WHERE deliveries.id = o.id
RETURNING id;

-- name: redeliver
-- Owe deliveries again with a fresh budget, unless they are being sent. Where the destination takes nothing they are
-- held. With a :state only those in it are touched, and what is held for its destination already stays as it is.
UPDATE deliveries
SET
    state = CASE WHEN o.hold IS NULL THEN 'pending' ELSE 'held' END,
    next_attempt_at = CASE WHEN o.hold IS NULL THEN o.due END,
    reason = o.hold,
    attempts_base = deliveries.attempts_made,
    unknowns_made = 0,
    delivered_at = NULL,
    redelivered_at = o.due
FROM (
    SELECT
        d.id,
        CAST(r.value->>'due' AS DOUBLE PRECISION) AS due,
        CASE
            WHEN CAST(:known AS TEXT) IS NOT NULL
                AND d.destination NOT IN (SELECT k.value->>'name' FROM json_each(CAST(:known AS TEXT)) AS k)
                THEN 'destination_missing'
            WHEN h.disabled_at IS NOT NULL THEN 'disabled'
            WHEN h.paused_at IS NOT NULL THEN 'paused'
        END AS hold
    FROM json_each(CAST(:rows AS TEXT)) AS r
    JOIN deliveries AS d ON d.id = r.value->>'id'
    LEFT JOIN destination_health AS h ON h.destination = d.destination
) AS o
WHERE deliveries.id = o.id
    AND deliveries.state <> 'sending'
    AND (
        CAST(:state AS TEXT) IS NULL
        OR (deliveries.state = CAST(:state AS TEXT) AND (deliveries.state <> 'held' OR o.hold IS NULL))
    )
RETURNING deliveries.id, deliveries.destination, deliveries.next_attempt_at;

-- name: select_delivery
-- One delivery with its task's names.
SELECT
    d.id, d.task, t.task_id, t.upstream, d.destination, d.type, d.state, d.attempts_made,
    d.attempts_base, d.unknowns_made, d.next_attempt_at, d.reason, d.created_at, d.delivered_at
FROM deliveries AS d
LEFT JOIN tasks AS t ON t.id = d.task
WHERE d.id = CAST(:id AS TEXT);

-- name: list_attempts
-- Attempts of a delivery, first to last.
SELECT delivery_id, number, started_at, duration_ms, outcome, reason, status_code, detail
FROM attempts
WHERE delivery_id = CAST(:id AS TEXT)
ORDER BY number;

-- name: page_deliveries
-- Positions of all deliveries before a position and not before an instant, newest first.
SELECT created_at, id
FROM deliveries
WHERE (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_open_deliveries
-- The same in one state that is not an end of the ordinary kind: few among many, so by their own index.
SELECT created_at, id
FROM deliveries
WHERE state = CAST(:state AS TEXT)
    AND state NOT IN ('delivered', 'superseded')
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_deliveries_of_destination
-- The same to one destination.
SELECT created_at, id
FROM deliveries
WHERE destination = CAST(:destination AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: page_deliveries_of_task
-- The same of one task.
SELECT created_at, id
FROM deliveries
WHERE task = CAST(:task AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
    AND created_at >= CAST(:since AS DOUBLE PRECISION)
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: match_deliveries
-- Those of the given deliveries that pass every filter; one that is NULL lets all through.
SELECT d.id
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN deliveries AS d ON d.id = r.value->>'id'
WHERE (CAST(:state AS TEXT) IS NULL OR d.state = CAST(:state AS TEXT))
    AND (CAST(:destination AS TEXT) IS NULL OR d.destination = CAST(:destination AS TEXT))
    AND (CAST(:type AS TEXT) IS NULL OR d.type = CAST(:type AS TEXT))
    AND (CAST(:reason AS TEXT) IS NULL OR d.reason = CAST(:reason AS TEXT))
    AND (
        CAST(:key_id AS TEXT) IS NULL
        OR EXISTS (
            SELECT 1 FROM registrations AS g WHERE g.task = d.task AND g.key_id = CAST(:key_id AS TEXT)
        )
    );

-- name: select_deliveries
-- The given deliveries with their tasks' names, in any order.
SELECT
    d.id, d.task, t.task_id, t.upstream, d.destination, d.type, d.state, d.attempts_made,
    d.attempts_base, d.unknowns_made, d.next_attempt_at, d.reason, d.created_at, d.delivered_at
FROM json_each(CAST(:rows AS TEXT)) AS r
JOIN deliveries AS d ON d.id = r.value->>'id'
LEFT JOIN tasks AS t ON t.id = d.task;

-- name: count_open_deliveries
-- How many rows each destination has in each state that is not an end of the ordinary kind.
-- (The name is no bare column, so that no index over all rows looks like a way to group by it.)
SELECT o.destination, o.state, COUNT(*)
FROM (
    SELECT destination || '' AS destination, state
    FROM deliveries
    WHERE state NOT IN ('delivered', 'superseded')
) AS o
GROUP BY o.destination, o.state;
