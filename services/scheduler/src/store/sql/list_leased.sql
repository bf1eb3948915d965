-- list_leased: like list_newest, for tasks that some grant names.
-- $1 below this id, $2 lanes or null for all, $3 look at so many at most
SELECT t.id, $2::int[] IS NULL OR t.lane = ANY ($2::int[]) AS wanted
FROM (SELECT DISTINCT unnest(task_ids) AS id FROM tasklease.lease) AS leased
JOIN tasklease.task t USING (id)
WHERE t.id < $1
ORDER BY t.id DESC
LIMIT $3
