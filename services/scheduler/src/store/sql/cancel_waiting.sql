-- cancel_waiting: ends a task that waits. No row if it does not wait.
-- $1 task id, $2 reason; returns the lane
WITH t AS (SELECT id, lane, rank, order_key FROM tasklease.task WHERE id = $1),
from_ready AS (
    DELETE FROM tasklease.ready r USING t
    WHERE r.lane = t.lane AND r.rank = t.rank AND r.order_key = t.order_key AND r.task_id = t.id
    RETURNING r.lease_no, r.attempt
),
from_scheduled AS (
    DELETE FROM tasklease.scheduled s WHERE s.task_id = $1 RETURNING s.lease_no, s.attempt
)
INSERT INTO tasklease.run (task_id, lease_no, outcome, final, attempt, finished_at, cancel_reason)
SELECT $1, lease_no, 3, true, attempt - 1, now(), $2
FROM (SELECT * FROM from_ready UNION ALL SELECT * FROM from_scheduled) AS waiting
RETURNING (SELECT lane FROM t)
