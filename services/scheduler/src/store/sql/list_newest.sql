-- list_newest: ids of tasks below a point, newest first; with how many rows were looked at.
-- $1 below this id, $2 lanes or null for all, $3 look at so many at most
SELECT id, $2::int[] IS NULL OR lane = ANY ($2::int[]) AS wanted
FROM tasklease.task
WHERE id < $1
ORDER BY id DESC
LIMIT $3
