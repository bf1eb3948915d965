-- end_runs: commits every outcome but success, and puts tasks that go on into their next place.
-- Like settle, the primary key of run is the fence, and an open cancel request turns the outcome into CANCELLED.
-- $1 task ids, $2 lease tokens, $3 attempts, $4 start times, $5 workers,
-- $6 outcomes, $7 final, $8 error types, $9 error messages, $10 error details,
-- $11 delays before the next run (zero: at once; null where final), $12 attempt of the next run,
-- $13 of lost runs: points against their tasks, or null, $14 tasks that they made suspects, or null
-- Returns what won, with the place of tasks that may run again at once: rank and order key.
WITH ended AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::timestamptz[], $5::text[], $6::smallint[],
                         $7::boolean[], $8::text[], $9::text[], $10::text[], $11::interval[], $12::smallint[],
                         $13::smallint[], $14::uuid[])
         AS u (task_id, lease_token, attempt, started_at, worker, outcome, final, error_type, error_message,
               error_detail, delay, next_attempt, blame, suspect)
),
won AS (
    INSERT INTO tasklease.run AS r (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker,
                                    error_type, error_message, error_detail, blame, suspect, next_order_key)
    SELECT task_id, lease_token, outcome, final, attempt, started_at, now(), worker,
           error_type, error_message, error_detail, blame, suspect,
           -- A task that is handed back at once (6: released) keeps its place in line; any other takes its place by the
           -- time at which it may run again.
           CASE WHEN NOT final AND (outcome <> 6 /* released */ OR delay > interval '0')
                THEN tasklease.micros(now() + delay) END
    FROM ended
    ON CONFLICT (task_id, lease_token) DO UPDATE
    SET outcome = 3 /* cancelled */, final = true, started_at = excluded.started_at, finished_at = excluded.finished_at,
        worker = excluded.worker, error_type = excluded.error_type, error_message = excluded.error_message,
        error_detail = excluded.error_detail
    WHERE r.outcome = 0 /* cancelling */
    RETURNING task_id, lease_token, outcome, final, next_order_key
),
at_once AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT t.lane, t.rank, coalesce(won.next_order_key, t.order_key), t.id, won.lease_token + 1, ended.next_attempt,
           ARRAY[t.id]
    FROM won
    JOIN ended USING (task_id, lease_token)
    JOIN tasklease.task t ON t.id = won.task_id
    WHERE NOT won.final AND ended.delay = interval '0'
    RETURNING first_task, rank, order_key
),
later AS (
    INSERT INTO tasklease.scheduled (task_id, due_at, lease_token, attempt)
    SELECT won.task_id, now() + ended.delay, won.lease_token + 1, ended.next_attempt
    FROM won
    JOIN ended USING (task_id, lease_token)
    WHERE NOT won.final AND ended.delay > interval '0'
)
SELECT won.task_id, won.lease_token, won.outcome, at_once.rank, at_once.order_key
FROM won
LEFT JOIN at_once ON at_once.first_task = won.task_id
