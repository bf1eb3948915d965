-- revoke: ends runs whose grace period after a cancel is over.
UPDATE tasklease.run r
SET outcome = 3, final = true, finished_at = now(), error_type = 'REVOKED',
    error_message = 'the code did not stop within the grace period'
FROM tasklease.task t
WHERE t.id = r.task_id AND r.outcome = 0 AND r.cancel_deadline < clock_timestamp()
RETURNING r.task_id, r.lease_no, t.lane
