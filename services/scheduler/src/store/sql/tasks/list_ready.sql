-- list_ready: like list_newest, for tasks that may run now. Most of them are mostly the newest tasks; if too few of those
-- are, all that wait are read, and the search is over.
-- $1 and $2 ranges of ids, the highest first: from, and below; $3 lanes or null for all,
-- $4 look at no more of the newest tasks than this, $5 return no more than this
-- Returns the ids, the last id that was looked at, and how many were.
WITH newest AS MATERIALIZED (
    SELECT found.id, $3::int[] IS NULL OR found.lane = ANY ($3::int[]) AS wanted
    FROM unnest($1::uuid[], $2::uuid[]) AS range (low, high),
         LATERAL (SELECT id, lane FROM tasklease.task
                  WHERE id >= range.low AND id < range.high
                  ORDER BY id DESC
                  LIMIT $4) AS found
    LIMIT $4
),
among_newest AS MATERIALIZED (
    SELECT p.id
    FROM newest,
         -- Kept apart, so that each is looked up by its key.
         LATERAL (SELECT id, state FROM tasklease.task_place WHERE task_place.id = newest.id OFFSET 0) AS p
    WHERE newest.wanted AND p.state = 3 /* pending */
    ORDER BY p.id DESC
    LIMIT $5
),
-- The highest ids below the point are in the bundles whose highest one below it is among the highest.
bundles AS MATERIALIZED (
    SELECT task_ids
    FROM tasklease.ready
    WHERE (SELECT count(*) FROM among_newest) < $5
      AND ($3::int[] IS NULL OR lane = ANY ($3::int[])) AND first_task < ($2::uuid[])[1]
    ORDER BY CASE WHEN task_ids[cardinality(task_ids)] < ($2::uuid[])[1] THEN task_ids[cardinality(task_ids)]
                  ELSE (SELECT u.id FROM unnest(task_ids) AS u (id) WHERE u.id < ($2::uuid[])[1] ORDER BY u.id DESC LIMIT 1)
             END DESC
    LIMIT $5
),
found AS MATERIALIZED (
    SELECT id FROM among_newest WHERE (SELECT count(*) FROM among_newest) >= $5
    UNION ALL
    SELECT id FROM (SELECT unnest(task_ids) AS id FROM bundles) AS waiting WHERE id < ($2::uuid[])[1]
)
SELECT ARRAY(SELECT id FROM found ORDER BY id DESC LIMIT $5) AS ids, NULL::uuid AS last, 0::bigint AS looked_at
