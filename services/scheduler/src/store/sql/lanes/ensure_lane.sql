-- ensure_lane: the lane of a queue and task type, made if it is new. No row if there are too many lanes to make another.
-- $1 namespace, $2 queue, $3 task type, $4 most lanes
WITH known AS (
    SELECT l.id, q.paused
    FROM tasklease.queue q
    JOIN tasklease.lane l ON l.queue_id = q.id
    WHERE q.namespace = $1 AND q.name = $2 AND l.task_type = $3
),
q AS (
    INSERT INTO tasklease.queue (namespace, name)
    SELECT $1, $2
    WHERE NOT EXISTS (SELECT FROM known) AND (SELECT count(*) FROM tasklease.lane) < $4
    ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name
    RETURNING id, paused
),
made AS (
    INSERT INTO tasklease.lane (queue_id, task_type) SELECT id, $3 FROM q
    ON CONFLICT (queue_id, task_type) DO UPDATE SET task_type = excluded.task_type
    RETURNING id
)
SELECT id, paused FROM known
UNION ALL
SELECT made.id, q.paused FROM made, q
