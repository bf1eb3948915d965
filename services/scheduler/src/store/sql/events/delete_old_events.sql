-- delete_old_events: looks at the events of the next tasks in id order and removes the old ones.
-- $1 above this task id, $2 up to this task id, $3 look at no more tasks than this, $4 keep,
-- $5 remove at most this many events; if there were more, the same page comes again
WITH page AS MATERIALIZED (
    SELECT id FROM tasklease.task WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
),
old_events AS MATERIALIZED (
    SELECT ctid AS place FROM tasklease.task_event
    WHERE task_id = ANY (ARRAY(SELECT id FROM page)) AND at < now() - $4::interval
    LIMIT $5
),
gone AS (DELETE FROM tasklease.task_event WHERE ctid = ANY (ARRAY(SELECT place FROM old_events)) RETURNING 1)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM gone) AS removed, (SELECT count(*) FROM old_events) < $5 AS done
