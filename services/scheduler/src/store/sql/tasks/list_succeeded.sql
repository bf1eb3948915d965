-- list_succeeded: like list_newest, for tasks that succeeded. Looks at runs, so at no task that waits for its first.
-- $1 and $2 ranges of ids, the highest first: from, and below; $3 lanes or null for all, $4 look at no more rows than this,
-- $5 return no more than this
-- Returns the ids, the last id that was looked at, and how many were.
WITH looked_at AS MATERIALIZED (
    SELECT found.id, found.outcome = 1 /* succeeded */
           AND ($3::int[] IS NULL
                OR (SELECT t.lane FROM tasklease.task t WHERE t.id = found.id) = ANY ($3::int[])) AS wanted
    FROM unnest($1::uuid[], $2::uuid[]) AS range (low, high),
         -- Read range by range and newest first, and no further than asked for.
         LATERAL (SELECT task_id AS id, outcome FROM tasklease.run
                  WHERE task_id >= range.low AND task_id < range.high
                  ORDER BY task_id DESC, lease_token DESC
                  LIMIT $4) AS found
    LIMIT $4
)
SELECT ARRAY(SELECT id FROM looked_at WHERE wanted ORDER BY id DESC LIMIT $5) AS ids,
       (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at
