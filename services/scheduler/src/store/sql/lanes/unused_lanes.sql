-- unused_lanes: lanes that have no span and no task. Tasks that were stored without their span, by an older scheduler,
-- get it now, so that no lane goes that still has a task.
-- $1 at most this many
WITH candidates AS MATERIALIZED (
    SELECT l.id FROM tasklease.lane l
    WHERE NOT EXISTS (SELECT FROM tasklease.lane_span s WHERE s.lane = l.id)
    ORDER BY l.id
    LIMIT $1
),
-- There is no index for this. It is read only if a lane may go, which is seldom.
used AS MATERIALIZED (
    SELECT DISTINCT t.lane, ('x' || left(t.id::text, 8))::bit(32)::bigint AS span
    -- What a deleted task leaves names its lane, too.
    FROM (SELECT id, CASE WHEN lane = 0 THEN (payload ->> 'lane')::int ELSE lane END AS lane
          FROM tasklease.task
          WHERE EXISTS (SELECT FROM candidates)) AS t
    WHERE t.lane = ANY (ARRAY(SELECT id FROM candidates))
),
noted AS (INSERT INTO tasklease.lane_span (lane, span) SELECT lane, span FROM used ON CONFLICT DO NOTHING)
SELECT id FROM candidates WHERE id NOT IN (SELECT lane FROM used)
