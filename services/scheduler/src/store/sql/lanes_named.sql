-- lanes_named: the lanes that exist for any of some queues and task types.
-- $1 queues, $2 task types
SELECT l.id, q.name AS queue, l.task_type, q.paused
FROM tasklease.queue q
JOIN tasklease.lane l ON l.queue_id = q.id
WHERE q.name = ANY ($1::text[]) AND l.task_type = ANY ($2::text[])
