-- add_ended: adds to the counts of ended tasks.
-- $1 lanes, $2 states, $3 counts
INSERT INTO tasklease.ended_count AS c (lane, state, tasks)
SELECT * FROM unnest($1::int[], $2::smallint[], $3::bigint[])
ORDER BY 1, 2
ON CONFLICT (lane, state) DO UPDATE SET tasks = c.tasks + excluded.tasks
