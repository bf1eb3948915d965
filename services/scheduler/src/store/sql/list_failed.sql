-- list_failed: like list_newest, for tasks that failed.
-- $1 below this id, $2 lanes or null for all, $3 look at so many at most
SELECT r.task_id AS id, $2::int[] IS NULL OR t.lane = ANY ($2::int[]) AS wanted
FROM tasklease.run r
JOIN tasklease.task t ON t.id = r.task_id
WHERE r.final AND r.outcome IN (2, 4, 5) AND r.task_id < $1
ORDER BY r.task_id DESC
LIMIT $3
