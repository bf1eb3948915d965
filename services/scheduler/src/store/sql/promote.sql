-- promote: moves tasks whose time has come to ready. Returns the lanes that got some.
-- $1 at most so many
WITH due AS MATERIALIZED (
    SELECT task_id FROM tasklease.scheduled
    WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT $1
    FOR UPDATE SKIP LOCKED
),
moved AS (
    DELETE FROM tasklease.scheduled s USING due WHERE s.task_id = due.task_id
    RETURNING s.task_id, s.lease_no, s.attempt
),
placed AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_no, attempt, task_ids)
    SELECT t.lane, t.rank, t.order_key, t.id, moved.lease_no, moved.attempt, ARRAY[t.id]
    FROM moved
    JOIN tasklease.task t ON t.id = moved.task_id
    RETURNING lane, rank, order_key, first_task
)
SELECT lane, rank, order_key, first_task FROM placed
