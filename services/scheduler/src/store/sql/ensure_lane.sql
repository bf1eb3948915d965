-- ensure_lane: the lane of a queue and task type, made if it is new. No row if there are too many lanes to make another.
-- $1 queue, $2 task type, $3 most lanes
WITH known AS (
    SELECT l.id, q.paused
    FROM tasklease.queue q
    JOIN tasklease.lane l ON l.queue_id = q.id
    WHERE q.name = $1 AND l.task_type = $2
),
q AS (
    INSERT INTO tasklease.queue (name)
    SELECT $1
    WHERE NOT EXISTS (SELECT FROM known) AND (SELECT count(*) FROM tasklease.lane) < $3
    ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name
    RETURNING id, paused
),
made AS (
    INSERT INTO tasklease.lane (queue_id, task_type) SELECT id, $2 FROM q
    ON CONFLICT (queue_id, task_type) DO UPDATE SET task_type = excluded.task_type
    RETURNING id
)
SELECT id, paused FROM known
UNION ALL
SELECT made.id, q.paused FROM made, q
