-- session_leases: the leases of sessions that have no ended run yet.
-- $1 session ids, $2 null, or tasks: then only whole grants that hold one of them
SELECT g.session_id, g.grant_id, u.task_id, g.lease_token, g.attempt,
       g.created_at AS started_at,
       t.lane, t.max_attempts, t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms,
       clock_timestamp() - g.created_at AS age
FROM tasklease.grant g
CROSS JOIN LATERAL unnest(g.task_ids) AS u (task_id)
JOIN tasklease.task t ON t.id = u.task_id
-- One look by key for each, whatever is known of the size of the tables.
LEFT JOIN LATERAL (
    SELECT true AS ended FROM tasklease.run r
    WHERE r.task_id = u.task_id AND r.lease_token = g.lease_token AND r.outcome <> 0 /* cancelling */
    LIMIT 1
) AS e ON true
WHERE g.session_id = ANY ($1::uuid[])
  AND ($2::uuid[] IS NULL
       OR (g.session_id, g.grant_id) IN (SELECT h.session_id, h.grant_id FROM tasklease.grant h
                                         WHERE h.session_id = ANY ($1::uuid[]) AND h.task_ids && $2::uuid[]))
  AND e.ended IS NULL
