-- retain_tasks: looks at the next tasks in id order and removes those that ended long enough ago.
-- $1 above this id, $2 up to this id, $3 look at so many at most,
-- $4 keep succeeded and cancelled ones (µs), $5 keep failed ones (µs)
WITH page AS MATERIALIZED (
    SELECT id FROM tasklease.task WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
),
old AS MATERIALIZED (
    SELECT r.task_id AS id FROM page JOIN tasklease.run r ON r.task_id = page.id
    WHERE r.final AND r.finished_at < now() - interval '1 microsecond'
          * CASE WHEN r.outcome IN (1, 3) THEN $4::bigint ELSE $5::bigint END
),
events AS (DELETE FROM tasklease.task_event e USING old WHERE e.task_id = old.id),
runs AS (DELETE FROM tasklease.run r USING old WHERE r.task_id = old.id),
tasks AS (DELETE FROM tasklease.task t USING old WHERE t.id = old.id)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM old) AS removed
