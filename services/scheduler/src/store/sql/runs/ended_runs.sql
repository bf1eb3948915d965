-- ended_runs: how leases ended, to answer reports that come again or too late.
-- $1 task ids, $2 lease tokens
SELECT r.task_id, r.lease_token, nullif(r.outcome, 0 /* cancelling */) AS outcome, r.worker
FROM unnest($1::uuid[], $2::int[]) AS u (task_id, lease_token)
JOIN tasklease.run r ON r.task_id = u.task_id AND r.lease_token = u.lease_token
