-- list_cancelled: like list_newest, for tasks that were cancelled.
-- $1 below this id, $2 lanes or null for all, $3 look at so many at most, $4 return so many at most
-- Returns the ids, the last id that was looked at, and how many were.
WITH looked_at AS MATERIALIZED (
    SELECT r.task_id AS id,
           $2::int[] IS NULL
               OR (SELECT t.lane FROM tasklease.task t WHERE t.id = r.task_id) = ANY ($2::int[]) AS wanted
    FROM tasklease.run r
    WHERE r.final AND r.outcome = 3 AND r.task_id < $1
    ORDER BY r.task_id DESC
    LIMIT $3
)
SELECT ARRAY(SELECT id FROM looked_at WHERE wanted ORDER BY id DESC LIMIT $4) AS ids,
       (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at
