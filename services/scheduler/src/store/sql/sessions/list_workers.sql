-- list_workers: live sessions by id.
-- $1 after this id, $2 at most this many
SELECT s.id, s.name, s.incarnation, s.task_types, s.queues, s.labels::text, s.slots, s.scheduler,
       s.created_at, s.heartbeat_at,
       (SELECT count(*) FROM tasklease.grant g
        CROSS JOIN LATERAL unnest(g.task_ids) AS u (task_id)
        -- A task that ended and was deleted has no run any more.
        JOIN tasklease.task t ON t.id = u.task_id
        WHERE g.session_id = s.id
          AND NOT EXISTS (SELECT FROM tasklease.run r
                          WHERE r.task_id = u.task_id AND r.lease_token = g.lease_token
                            AND r.outcome <> 0 /* cancelling */))::int AS running
FROM tasklease.session s
WHERE s.id > $1 AND s.expires_at > now()
ORDER BY s.id
LIMIT $2
