-- read_claimed: what a worker gets of tasks that were leased.
-- $1 ids
SELECT id, payload, max_attempts, initial_backoff_ms, max_backoff_ms, run_timeout_ms, traceparent
FROM tasklease.task
WHERE id = ANY ($1::uuid[])
