-- read_tasks: tasks with their state and latest progress.
-- $1 ids, $2 true to read what only a view of one task shows: payload, result, trace and card
WITH place AS MATERIALIZED (
    SELECT * FROM tasklease.task_place WHERE id = ANY ($1::uuid[])
),
-- The grants are read once for all ids, and not at all if none of the tasks runs. As a condition that may be null, the
-- ids are hashed; a join might compare each with each, because nothing is known of how many run.
granted AS MATERIALIZED (
    SELECT * FROM tasklease.task_grant
    WHERE EXISTS (SELECT FROM place WHERE state = 4 /* running */)
      AND (task_id IN (SELECT id FROM place WHERE state = 4 /* running */)) IS TRUE
)
SELECT p.id, q.namespace, q.name AS queue, l.task_type, p.lane, p.state, coalesce(p.attempt, g.attempt, 0) AS attempt,
       p.lease_token, p.cancel_requested, coalesce(n.name, p.worker) AS worker, p.error_type, p.error_message,
       CASE WHEN $2 THEN p.error_detail END AS error_detail, p.cancel_reason,
       coalesce(g.started_at, p.started_at) AS started_at,
       p.finished_at,
       p.due_at,
       t.created_at,
       t.rank, t.max_attempts, t.title, t.description, t.owner, t.labels::text AS labels, t.parent_id, t.retry_of,
       t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms, t.traceparent,
       CASE WHEN $2 THEN t.payload::text END AS payload,
       CASE WHEN $2 THEN p.result::text END AS result,
       e.percent, e.message AS progress_message,
       CASE WHEN $2 THEN e.card::text
            WHEN e.card ->> 'heading' <> '' THEN json_build_object('heading', e.card ->> 'heading')::text
       END AS progress_card,
       e.at AS progress_at,
       e.worker_at AS progress_worker_at
FROM place p
JOIN tasklease.task t ON t.id = p.id
JOIN tasklease.lane l ON l.id = p.lane
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN granted g ON g.task_id = p.id AND g.lease_token = p.lease_token AND p.state = 4 /* running */
LEFT JOIN tasklease.session n ON n.id = g.session_id
LEFT JOIN LATERAL (
    SELECT percent, message, card, at, worker_at FROM tasklease.task_event
    WHERE task_id = p.id AND kind = 1 /* progress */ AND lease_token = p.lease_token
    ORDER BY event_no DESC LIMIT 1
) e ON true
ORDER BY p.id DESC
