-- settle: commits successes. The primary key of run is the fence: a row that is not returned lost the race.
-- A lease with an open cancel request ends CANCELLED instead.
-- $1 task ids, $2 lease numbers, $3 attempts, $4 start times (µs since 1970), $5 workers, $6 results (JSON text)
INSERT INTO tasklease.run AS r (task_id, lease_no, outcome, final, attempt, started_at, finished_at, worker, result)
SELECT u.task_id, u.lease_no, 1, true, u.attempt, to_timestamp(u.started_us / 1000000.0), now(), u.worker,
       u.result::json
FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::bigint[], $5::text[], $6::text[])
     AS u (task_id, lease_no, attempt, started_us, worker, result)
ON CONFLICT (task_id, lease_no) DO UPDATE
SET outcome = 3, final = true, started_at = excluded.started_at, finished_at = excluded.finished_at,
    worker = excluded.worker
WHERE r.outcome = 0
RETURNING task_id, lease_no, outcome
