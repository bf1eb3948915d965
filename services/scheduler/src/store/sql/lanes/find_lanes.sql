-- find_lanes: lanes that match a filter.
-- $1 namespace, $2 queue or null, $3 task type or null
SELECT l.id
FROM tasklease.lane l
JOIN tasklease.queue q ON q.id = l.queue_id
WHERE q.namespace = $1 AND ($2::text IS NULL OR q.name = $2) AND ($3::text IS NULL OR l.task_type = $3)
