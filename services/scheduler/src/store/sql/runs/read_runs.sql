-- read_runs: the ended runs of a task, newest first. A cancel while the task waited ended no run.
-- $1 task id, $2 at most this many
SELECT lease_token, outcome, attempt, worker, error_type, error_message, error_detail, cancel_reason,
       started_at, finished_at
FROM tasklease.run
WHERE task_id = $1 AND outcome <> 0 /* cancelling */ AND started_at IS NOT NULL
ORDER BY lease_token DESC
LIMIT $2
