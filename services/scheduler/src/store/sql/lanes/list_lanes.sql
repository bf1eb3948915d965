-- list_lanes: lanes by id, or all of them.
-- $1 ids or null
SELECT l.id, q.namespace, q.name AS queue, l.task_type, q.paused
FROM tasklease.lane l
JOIN tasklease.queue q ON q.id = l.queue_id
WHERE $1::int[] IS NULL OR l.id = ANY ($1::int[])
