-- list_newest: ids of tasks in some ranges, newest first.
-- $1 and $2 ranges of ids, the highest first: from, and below; $3 lanes or null for all, $4 look at no more rows than this,
-- $5 return no more than this
-- Returns the ids, the last id that was looked at, and how many were.
WITH looked_at AS MATERIALIZED (
    SELECT found.id, $3::int[] IS NULL OR found.lane = ANY ($3::int[]) AS wanted
    FROM unnest($1::uuid[], $2::uuid[]) AS range (low, high),
         -- Read range by range and newest first, and no further than asked for.
         LATERAL (SELECT id, lane FROM tasklease.task
                  WHERE id >= range.low AND id < range.high
                  ORDER BY id DESC
                  LIMIT $4) AS found
    LIMIT $4
)
SELECT ARRAY(SELECT id FROM looked_at WHERE wanted ORDER BY id DESC LIMIT $5) AS ids,
       (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at
