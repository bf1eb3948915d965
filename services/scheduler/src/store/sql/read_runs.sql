-- read_runs: the ended runs of a task, newest first.
-- $1 task id, $2 at most so many
SELECT lease_no, outcome, attempt, worker, error_type, error_message, error_detail,
       (extract(epoch FROM started_at) * 1000000)::bigint AS started_us,
       (extract(epoch FROM finished_at) * 1000000)::bigint AS finished_us
FROM tasklease.run
WHERE task_id = $1 AND outcome <> 0
ORDER BY lease_no DESC
LIMIT $2
