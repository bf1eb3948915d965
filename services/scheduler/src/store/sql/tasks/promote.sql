-- promote: moves tasks whose time has come to ready. Returns the bundles that they form there.
-- $1 at most this many, $2 tasks in a bundle at most
WITH due AS MATERIALIZED (
    SELECT task_id FROM tasklease.scheduled
    -- As a subquery it is read once, so that the index stops where the time has not come.
    WHERE due_at <= (SELECT clock_timestamp()) ORDER BY due_at, task_id LIMIT $1
    FOR UPDATE SKIP LOCKED
),
moved AS (
    DELETE FROM tasklease.scheduled s USING due WHERE s.task_id = due.task_id
    RETURNING s.task_id, s.lease_token, s.attempt
),
placed AS (
    -- A task that ran before takes its place in line by the time at which it may run again, as the end of its run said.
    SELECT t.lane, t.rank, moved.lease_token, moved.attempt, t.id,
           coalesce(CASE WHEN moved.lease_token > 1
                         THEN (SELECT r.next_order_key FROM tasklease.run r
                               WHERE r.task_id = t.id ORDER BY r.lease_token DESC LIMIT 1) END,
                    t.order_key) AS order_key
    FROM moved
    JOIN tasklease.task t ON t.id = moved.task_id
),
alike AS (
    SELECT lane, rank, order_key, lease_token, attempt, id,
           (row_number() OVER (PARTITION BY lane, rank, order_key, lease_token, attempt
                               ORDER BY id) - 1) / $2::bigint AS bundle
    FROM placed
)
INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
SELECT lane, rank, order_key, (array_agg(id ORDER BY id))[1], lease_token, attempt, array_agg(id ORDER BY id)
FROM alike
GROUP BY lane, rank, order_key, lease_token, attempt, bundle
RETURNING lane, rank, order_key, task_ids
