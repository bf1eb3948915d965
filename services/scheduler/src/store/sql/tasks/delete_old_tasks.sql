-- delete_old_tasks: looks at the next tasks in id order and removes those that ended long enough ago.
-- $1 above this id, $2 up to this id, $3 look at no more rows than this,
-- $4 keep succeeded and cancelled ones, $5 keep failed ones, $6 remove at most this many events
-- Tasks go once their events fit into one statement; until then only events go, and the same page comes again.
-- Ids travel as arrays, so that each table is searched by its key, whatever is known of its size.
WITH page AS MATERIALIZED (
    SELECT id FROM tasklease.task WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
),
ended AS MATERIALIZED (
    SELECT task_id FROM tasklease.run
    WHERE task_id = ANY (ARRAY(SELECT id FROM page)) AND final
      AND finished_at < now() - CASE WHEN outcome IN (1, 3) /* succeeded, cancelled */
                                     THEN $4::interval ELSE $5::interval END
),
-- Another replica that is at the same page has the others.
old AS MATERIALIZED (
    SELECT id FROM tasklease.task WHERE id = ANY (ARRAY(SELECT task_id FROM ended)) ORDER BY id FOR UPDATE SKIP LOCKED
),
old_events AS MATERIALIZED (
    SELECT ctid AS place FROM tasklease.task_event WHERE task_id = ANY (ARRAY(SELECT id FROM old)) LIMIT $6
),
whole AS MATERIALIZED (SELECT count(*) < $6 AS fits FROM old_events),
events AS (DELETE FROM tasklease.task_event WHERE ctid = ANY (ARRAY(SELECT place FROM old_events))),
runs AS (
    DELETE FROM tasklease.run WHERE task_id = ANY (ARRAY(SELECT id FROM old WHERE (SELECT fits FROM whole)))
),
tasks AS (
    DELETE FROM tasklease.task WHERE id = ANY (ARRAY(SELECT id FROM old WHERE (SELECT fits FROM whole))) RETURNING 1
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM tasks) AS removed, (SELECT fits FROM whole) AS done
