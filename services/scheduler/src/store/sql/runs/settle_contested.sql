-- settle_contested: commits successes, of which some may have lost the race: those are not returned.
-- A lease with an open cancel request ends CANCELLED instead.
-- $1 task ids, $2 lease tokens, $3 attempts, $4 start times, $5 workers, $6 results
INSERT INTO tasklease.run AS r (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker, result)
SELECT u.task_id, u.lease_token, 1 /* succeeded */, true, u.attempt, u.started_at, now(), u.worker, u.result
FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::timestamptz[], $5::text[], $6::json[])
     AS u (task_id, lease_token, attempt, started_at, worker, result)
ON CONFLICT (task_id, lease_token) DO UPDATE
SET outcome = 3 /* cancelled */, final = true, started_at = excluded.started_at, finished_at = excluded.finished_at,
    worker = excluded.worker
WHERE r.outcome = 0 /* cancelling */
-- A task whose lease ends for good waits nowhere.
RETURNING task_id, lease_token, outcome, NULL::smallint AS rank, NULL::bigint AS order_key
