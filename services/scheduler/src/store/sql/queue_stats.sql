-- queue_stats: counts by queue and task type. Counts of waiting tasks stop at a limit.
-- $1 queue or null, $2 limit
WITH scheduled AS MATERIALIZED (SELECT task_id FROM tasklease.scheduled LIMIT $2),
leased AS (
    SELECT t.lane, count(*) AS n
    FROM tasklease.grant g
    CROSS JOIN LATERAL unnest(g.task_ids) AS u (task_id)
    JOIN tasklease.task t ON t.id = u.task_id
    WHERE NOT EXISTS (SELECT FROM tasklease.run r
                      WHERE r.task_id = u.task_id AND r.lease_token = g.lease_token AND r.outcome <> 0)
    GROUP BY t.lane
),
waiting AS (
    SELECT t.lane, count(*) AS n
    FROM scheduled s
    JOIN tasklease.task t ON t.id = s.task_id
    GROUP BY t.lane
)
SELECT q.name AS queue, l.task_type, q.paused,
       (SELECT count(*) FROM tasklease.session s
        WHERE q.name = ANY (s.queues) AND l.task_type = ANY (s.task_types) AND s.expires_at > now())::int AS workers,
       coalesce(waiting.n, 0) AS scheduled,
       (SELECT least($2, coalesce(sum(size), 0)::bigint)
        FROM (SELECT cardinality(task_ids) AS size FROM tasklease.ready r WHERE r.lane = l.id LIMIT $2) AS bundles
       ) AS pending,
       coalesce(leased.n, 0) AS running,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 5), 0) AS succeeded,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 6), 0) AS failed,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 7), 0) AS cancelled,
       -- The limit of the scheduled ones is one for all lanes together.
       (SELECT count(*) FROM scheduled) < $2 AS all_scheduled
FROM tasklease.lane l
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN leased ON leased.lane = l.id
LEFT JOIN waiting ON waiting.lane = l.id
WHERE $1::text IS NULL OR q.name = $1
ORDER BY q.name, l.task_type
