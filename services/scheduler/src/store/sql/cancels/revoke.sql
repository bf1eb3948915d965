-- revoke: ends runs whose grace period after a cancel is over. Like all statements that end runs, it locks them in the
-- order of their keys.
WITH due AS MATERIALIZED (
    SELECT task_id, lease_token FROM tasklease.run
    WHERE outcome = 0 /* cancelling */ AND cancel_deadline < clock_timestamp()
    ORDER BY task_id, lease_token
    FOR UPDATE
)
UPDATE tasklease.run r
SET outcome = 3 /* cancelled */, final = true, finished_at = now(), error_type = 'REVOKED',
    error_message = 'the code did not stop within the grace period'
FROM due, tasklease.task t
WHERE r.task_id = due.task_id AND r.lease_token = due.lease_token AND t.id = due.task_id
RETURNING r.task_id, r.lease_token, t.lane
