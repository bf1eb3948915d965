-- cancel_running: opens the run row of the current lease as a cancel request, which only lets it end CANCELLED.
-- No row if the task waits, has ended, or changed while this ran: look again.
-- $1 task id, $2 reason, $3 grace
INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, worker, cancel_reason,
                           cancel_deadline)
SELECT n.id, n.lease_token, 0 /* cancelling */, false, n.attempt, n.started_at, n.worker, $2,
       clock_timestamp() + $3::interval
FROM tasklease.task_now n
WHERE n.id = $1 AND n.state = 4 /* running */ AND NOT n.cancel_requested
ON CONFLICT (task_id, lease_token) DO NOTHING
RETURNING lease_token
