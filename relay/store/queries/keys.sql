-- API keys.

-- name: insert_key
-- Add a key with the hash of its secret.
INSERT INTO api_keys (id, name, role, enabled, secret_hash, created_at, last_used_at)
VALUES (
    CAST(:id AS TEXT), CAST(:name AS TEXT), CAST(:role AS TEXT), CAST(:enabled AS BIGINT),
    CAST(:secret_hash AS TEXT), CAST(:created_at AS DOUBLE PRECISION),
    CAST(:last_used_at AS DOUBLE PRECISION)
);

-- name: select_key
-- One key with the hash of its secret.
SELECT id, name, role, enabled, created_at, last_used_at, secret_hash
FROM api_keys
WHERE id = CAST(:id AS TEXT);

-- name: list_keys
-- All keys, oldest first.
SELECT id, name, role, enabled, created_at, last_used_at
FROM api_keys
ORDER BY created_at, id;

-- name: enable_key
-- Enable or disable one key; answers it as it is now.
UPDATE api_keys
SET enabled = CAST(:enabled AS BIGINT)
WHERE id = CAST(:id AS TEXT)
RETURNING id, name, role, enabled, created_at, last_used_at;

-- name: delete_key
-- Delete one key; answers its id if it was there.
DELETE FROM api_keys
WHERE id = CAST(:id AS TEXT)
RETURNING id;

-- name: touch_keys
-- Move last uses forward.
UPDATE api_keys AS k
SET last_used_at = CAST(r.value->>'used_at' AS DOUBLE PRECISION)
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE k.id = r.value->>'id'
    AND (k.last_used_at IS NULL OR k.last_used_at < CAST(r.value->>'used_at' AS DOUBLE PRECISION));
