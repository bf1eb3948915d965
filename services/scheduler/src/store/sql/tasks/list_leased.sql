-- list_leased: like list_newest, for tasks that some grant names: all that run, and some that just ended.
-- $1 and $2 ranges of ids, the highest first: from, and below; what is between them is listed, too; $3 lanes or null for all,
-- $4 look at no more rows than this, $5 return no more than this
-- Returns the ids, the last id that was looked at, and how many were.
WITH looked_at AS MATERIALIZED (
    SELECT g.task_id AS id,
           $3::int[] IS NULL
               OR (SELECT t.lane FROM tasklease.task t WHERE t.id = g.task_id) = ANY ($3::int[]) AS wanted
    FROM (SELECT DISTINCT task_id FROM tasklease.task_grant WHERE task_id >= ($1::uuid[])[cardinality($1::uuid[])] AND task_id < ($2::uuid[])[1] ORDER BY task_id DESC LIMIT $4) AS g
)
SELECT ARRAY(SELECT id FROM looked_at WHERE wanted ORDER BY id DESC LIMIT $5) AS ids,
       (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at
