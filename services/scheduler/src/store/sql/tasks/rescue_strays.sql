-- rescue_strays: looks at the next tasks, newest first, and puts those that are in no place back in line.
-- All moves are atomic, so one snapshot shows every task in its place. The lease that a stray may have had ends as lost
-- (5), uncounted, and its token is not used again.
-- $1 below this id, $2 look at no more rows than this, $3 least age
-- Returns a row for each rescued task, or one of nulls; with the last id looked at, or null if there was no other.
WITH page AS MATERIALIZED (
    SELECT id, lane, rank, order_key, created_at
    FROM tasklease.task WHERE id < $1 ORDER BY id DESC LIMIT $2
),
unfinished AS MATERIALIZED (
    SELECT page.id, page.lane, page.rank, r.lease_token, r.outcome, coalesce(r.attempt, 1) AS attempt,
           coalesce(r.next_order_key, page.order_key) AS order_key
    FROM page
    LEFT JOIN LATERAL (SELECT * FROM tasklease.run WHERE run.task_id = page.id ORDER BY lease_token DESC LIMIT 1) r
           ON true
    WHERE r.final IS NOT TRUE AND page.created_at < now() - $3::interval
      -- Lane 0: the id of a deleted task.
      AND page.lane <> 0
),
leased AS MATERIALIZED (
    SELECT DISTINCT unnest(task_ids) AS id FROM tasklease.grant WHERE EXISTS (SELECT FROM unfinished)
),
strays AS (
    SELECT u.*
    FROM unfinished u
    WHERE NOT EXISTS (SELECT FROM tasklease.scheduled s WHERE s.task_id = u.id)
      AND NOT EXISTS (SELECT FROM leased WHERE leased.id = u.id)
      -- Back from the nearest bundle, where it nearly always is: many tasks may share one order key.
      AND (SELECT true FROM tasklease.ready d
           WHERE d.lane = u.lane AND d.rank = u.rank AND d.order_key = u.order_key
             AND d.first_task <= u.id AND u.id = ANY (d.task_ids)
           ORDER BY d.lane DESC, d.rank DESC, d.order_key DESC, d.first_task DESC LIMIT 1) IS NULL
),
ended AS (
    -- An open cancel request (0) is honoured: nobody is left who could end the run.
    INSERT INTO tasklease.run AS r (task_id, lease_token, outcome, final, attempt, finished_at, error_type, error_message,
                                    next_order_key)
    SELECT id, CASE WHEN outcome = 0 /* cancelling */ THEN lease_token ELSE coalesce(lease_token, 0) + 1 END,
           5 /* lost */, false, attempt, now(),
           'STRAY', 'the task was found in no place', order_key
    FROM strays
    ORDER BY id
    ON CONFLICT (task_id, lease_token) DO UPDATE
    SET outcome = 3 /* cancelled */, final = true, finished_at = now(), error_type = 'STRAY', next_order_key = NULL
    WHERE r.outcome = 0 /* cancelling */
    RETURNING task_id, lease_token, final
),
rescued AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT s.lane, s.rank, s.order_key, s.id, ended.lease_token + 1,
           s.attempt + CASE WHEN s.outcome IN (2, 4, 5) /* failed, timed out, lost */ THEN 1 ELSE 0 END, ARRAY[s.id]
    FROM ended
    JOIN strays s ON s.id = ended.task_id
    WHERE NOT ended.final
    RETURNING first_task AS task_id, lane, rank, order_key
)
SELECT rescued.*, more.last
FROM (SELECT (SELECT id FROM page ORDER BY id LIMIT 1) AS last) AS more
LEFT JOIN rescued ON true
