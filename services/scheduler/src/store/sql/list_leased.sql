-- list_leased: like list_newest, for tasks that some grant names: all that run, and some that just ended.
-- $1 below this id, $2 lanes or null for all, $3 look at so many at most, $4 return so many at most
-- Returns the ids, the last id that was looked at, and how many were.
WITH looked_at AS MATERIALIZED (
    SELECT g.task_id AS id,
           $2::int[] IS NULL
               OR (SELECT t.lane FROM tasklease.task t WHERE t.id = g.task_id) = ANY ($2::int[]) AS wanted
    FROM (SELECT DISTINCT task_id FROM tasklease.task_grant WHERE task_id < $1 ORDER BY task_id DESC LIMIT $3) AS g
)
SELECT ARRAY(SELECT id FROM looked_at WHERE wanted ORDER BY id DESC LIMIT $4) AS ids,
       (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at
