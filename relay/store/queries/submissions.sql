-- Creates forwarded to an upstream. :rows is a JSON array of objects.

-- name: insert_submission
-- Add a submission unless its caller has one under the same client key; answers its id if added.
INSERT INTO submissions (
    id, key_id, client_key, upstream, upstream_key, fingerprint, model, request,
    notify, statuses, metadata, state, answer, created_at, key_made, request_whole
)
VALUES (
    CAST(:id AS TEXT), CAST(:key_id AS TEXT), CAST(:client_key AS TEXT), CAST(:upstream AS TEXT),
    CAST(:upstream_key AS TEXT), CAST(:fingerprint AS TEXT), CAST(:model AS TEXT),
    CAST(:request AS TEXT), CAST(:notify AS TEXT), CAST(:statuses AS TEXT), CAST(:metadata AS TEXT),
    CAST(:state AS TEXT), CAST(:answer AS TEXT), CAST(:created_at AS DOUBLE PRECISION),
    CAST(:key_made AS BIGINT), CAST(:request_whole AS BIGINT)
)
ON CONFLICT (key_id, client_key) WHERE state <> 'rejected' DO NOTHING
RETURNING id;

-- name: select_submission_by_client_key
-- The submission that holds a caller's client key.
SELECT
    id, key_id, client_key, upstream, upstream_key, fingerprint, model, request,
    notify, statuses, metadata, state, answer, created_at, key_made, request_whole
FROM submissions
WHERE key_id = CAST(:key_id AS TEXT) AND client_key = CAST(:client_key AS TEXT) AND state <> 'rejected';

-- name: select_submission
-- One submission.
SELECT
    id, key_id, client_key, upstream, upstream_key, fingerprint, model, request,
    notify, statuses, metadata, state, answer, created_at, key_made, request_whole
FROM submissions
WHERE id = CAST(:id AS TEXT);

-- name: list_pending_submissions
-- Those whose answer is not known yet, oldest first.
SELECT
    id, key_id, client_key, upstream, upstream_key, fingerprint, model, request,
    notify, statuses, metadata, state, answer, created_at, key_made, request_whole
FROM submissions
WHERE state = 'pending'
ORDER BY created_at, id;

-- name: list_submissions
-- A page of all submissions, newest first, without their requests and answers.
SELECT id, key_id, client_key, key_made, upstream, upstream_key, model, state, created_at
FROM submissions
WHERE (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: list_submissions_in_state
-- The same of those in one state.
SELECT id, key_id, client_key, key_made, upstream, upstream_key, model, state, created_at
FROM submissions
WHERE state = CAST(:state AS TEXT)
    AND (created_at, id) < (CAST(:before_at AS DOUBLE PRECISION), CAST(:before_id AS TEXT))
ORDER BY created_at DESC, id DESC
LIMIT CAST(:limit AS BIGINT);

-- name: resolve_submissions
-- Mark submissions as succeeded with their answers, and keep of their requests what is to be kept.
UPDATE submissions AS s
SET
    state = 'succeeded',
    answer = r.value->>'answer',
    request = COALESCE(r.value->>'request', s.request),
    request_whole = CASE WHEN r.value->>'request' IS NULL THEN s.request_whole ELSE 0 END
FROM json_each(CAST(:rows AS TEXT)) AS r
WHERE s.id = r.value->>'id' AND s.state IN ('pending', 'unresolved');

-- name: reject_submission
-- Mark one as refused, which frees its client key, and keep of its request what is to be kept.
UPDATE submissions
SET
    state = 'rejected',
    rejected_at = CAST(:now AS DOUBLE PRECISION),
    request = COALESCE(CAST(:request AS TEXT), request),
    request_whole = CASE WHEN CAST(:request AS TEXT) IS NULL THEN request_whole ELSE 0 END
WHERE id = CAST(:id AS TEXT) AND state IN ('pending', 'unresolved');

-- name: leave_unresolved
-- Mark those that relay stopped asking about.
UPDATE submissions
SET state = 'unresolved'
WHERE state = 'pending'
    AND id IN (SELECT r.value->>'id' FROM json_each(CAST(:rows AS TEXT)) AS r);
