-- read_events: progress and log lines of a task after a point, oldest first.
-- $1 task id, $2 lease number, $3 event number, $4 at most so many
SELECT lease_no, event_no, (extract(epoch FROM at) * 1000000)::bigint AS at_us, kind, percent, message, level,
       card::text
FROM tasklease.task_event
WHERE task_id = $1 AND (lease_no, event_no) > ($2::int, $3::bigint)
ORDER BY lease_no, event_no
LIMIT $4
