-- find_lanes: lanes that match a filter.
-- $1 queue or null, $2 task type or null
SELECT l.id
FROM tasklease.lane l
JOIN tasklease.queue q ON q.id = l.queue_id
WHERE ($1::text IS NULL OR q.name = $1) AND ($2::text IS NULL OR l.task_type = $2)
