-- queue_stats: counts by queue and task type. Counts of waiting tasks stop at a limit.
-- $1 namespace, $2 queue or null, $3 limit
WITH scheduled AS MATERIALIZED (SELECT task_id FROM tasklease.scheduled LIMIT $3),
leased AS (
    SELECT t.lane, count(*) AS n
    FROM tasklease.grant g
    CROSS JOIN LATERAL unnest(g.task_ids) AS u (task_id)
    JOIN tasklease.task t ON t.id = u.task_id
    WHERE NOT EXISTS (SELECT FROM tasklease.run r
                      WHERE r.task_id = u.task_id AND r.lease_token = g.lease_token AND r.outcome <> 0 /* cancelling */)
    GROUP BY t.lane
),
waiting AS (
    SELECT t.lane, count(*) AS n
    FROM scheduled s
    JOIN tasklease.task t ON t.id = s.task_id
    GROUP BY t.lane
)
SELECT q.namespace, q.name AS queue, l.task_type, q.paused,
       (SELECT count(*) FROM tasklease.session s
        WHERE q.name = ANY (s.queues) AND l.task_type = ANY (s.task_types) AND s.expires_at > now())::int AS workers,
       coalesce(waiting.n, 0) AS scheduled,
       (SELECT least($3, coalesce(sum(size), 0)::bigint)
        FROM (SELECT cardinality(task_ids) AS size FROM tasklease.ready r WHERE r.lane = l.id LIMIT $3) AS bundles
       ) AS pending,
       coalesce(leased.n, 0) AS running,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 5 /* succeeded */), 0)
           AS succeeded,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 6 /* failed */), 0)
           AS failed,
       coalesce((SELECT tasks FROM tasklease.ended_count e WHERE e.lane = l.id AND e.state = 7 /* cancelled */), 0)
           AS cancelled,
       -- The limit of the scheduled ones is one for all lanes together.
       (SELECT count(*) FROM scheduled) < $3 AS all_scheduled
FROM tasklease.lane l
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN leased ON leased.lane = l.id
LEFT JOIN waiting ON waiting.lane = l.id
WHERE q.namespace = $1 AND ($2::text IS NULL OR q.name = $2)
ORDER BY q.name, l.task_type
