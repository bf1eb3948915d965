-- ensure_lane: the lane of a queue and task type, made if it is new.
-- $1 queue, $2 task type
WITH q AS (
    INSERT INTO tasklease.queue (name) VALUES ($1)
    ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name
    RETURNING id, paused
),
ensured AS (
    INSERT INTO tasklease.lane (queue_id, task_type) SELECT id, $2 FROM q
    ON CONFLICT (queue_id, task_type) DO UPDATE SET task_type = excluded.task_type
    RETURNING id
)
SELECT ensured.id, q.paused FROM ensured, q
