-- end_sessions: removes sessions with their grants, and returns the leases that have no ended run,
-- with what the decision about each needs.
-- $1 session ids
WITH gone AS (
    DELETE FROM tasklease.session WHERE id = ANY ($1::uuid[]) RETURNING id, name
),
grants AS (
    DELETE FROM tasklease.lease WHERE session_id = ANY ($1::uuid[])
    RETURNING session_id, task_ids, lease_no, attempt, created_at
)
SELECT grants.session_id, gone.name AS worker, u.task_id, grants.lease_no, grants.attempt, t.lane, t.max_attempts,
       (extract(epoch FROM grants.created_at) * 1000000)::bigint AS started_us,
       (SELECT count(*) FROM tasklease.run r WHERE r.task_id = u.task_id AND r.outcome = 5)::int AS losses
FROM grants
LEFT JOIN gone ON gone.id = grants.session_id
CROSS JOIN LATERAL unnest(grants.task_ids) AS u (task_id)
JOIN tasklease.task t ON t.id = u.task_id
WHERE NOT EXISTS (SELECT FROM tasklease.run r
                  WHERE r.task_id = u.task_id AND r.lease_no = grants.lease_no AND r.outcome <> 0)
