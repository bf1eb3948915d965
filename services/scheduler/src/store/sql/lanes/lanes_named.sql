-- lanes_named: the lanes that exist for any of some queues and task types.
-- $1 namespace, $2 queues, $3 task types
SELECT l.id, q.namespace, q.name AS queue, l.task_type, q.paused
FROM tasklease.queue q
JOIN tasklease.lane l ON l.queue_id = q.id
WHERE q.namespace = $1 AND q.name = ANY ($2::text[]) AND l.task_type = ANY ($3::text[])
