-- end_sessions: removes sessions with their grants, and returns the leases that have no ended run,
-- with what the decision about each needs.
-- $1 session ids
WITH gone AS (
    DELETE FROM tasklease.session WHERE id = ANY ($1::uuid[]) RETURNING id, name, was_spared
),
held AS MATERIALIZED (
    SELECT session_id, grant_id, lease_token, attempt FROM tasklease.grant
    WHERE session_id = ANY ($1::uuid[])
    ORDER BY session_id, grant_id, lease_token, attempt
    FOR UPDATE
),
grants AS (
    DELETE FROM tasklease.grant l USING held
    WHERE (l.session_id, l.grant_id, l.lease_token, l.attempt)
          = (held.session_id, held.grant_id, held.lease_token, held.attempt)
    RETURNING l.session_id, l.grant_id, l.task_ids, l.lease_token, l.attempt, l.created_at
)
SELECT grants.session_id, gone.name AS worker, gone.was_spared, u.task_id, grants.grant_id, grants.lease_token,
       grants.attempt, t.lane, t.max_attempts,
       grants.created_at AS started_at,
       losses.before, losses.points_before
FROM grants
LEFT JOIN gone ON gone.id = grants.session_id
CROSS JOIN LATERAL unnest(grants.task_ids) AS u (task_id)
JOIN tasklease.task t ON t.id = u.task_id
CROSS JOIN LATERAL (
    SELECT count(r.blame)::int AS before, coalesce(sum(r.blame), 0)::int AS points_before
    FROM tasklease.run r WHERE r.task_id = u.task_id AND r.outcome = 5 /* lost */
) AS losses
WHERE NOT EXISTS (SELECT FROM tasklease.run r
                  WHERE r.task_id = u.task_id AND r.lease_token = grants.lease_token AND r.outcome <> 0 /* cancelling */)
