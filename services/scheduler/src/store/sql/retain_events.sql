-- retain_events: looks at the next events in task order and removes the old ones.
-- $1 above this task id, $2 up to this task id, $3 look at so many tasks at most, $4 keep (µs)
WITH page AS MATERIALIZED (
    SELECT id FROM tasklease.task WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
),
gone AS (
    DELETE FROM tasklease.task_event e USING page
    WHERE e.task_id = page.id AND e.at < now() - $4::bigint * interval '1 microsecond'
    RETURNING 1
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM gone) AS removed
