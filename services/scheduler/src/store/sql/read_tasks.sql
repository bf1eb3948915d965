-- read_tasks: tasks with their state and latest progress.
-- $1 ids, $2 true to read what only a view of one task shows: payload, result, trace and card
WITH place AS MATERIALIZED (
    SELECT * FROM tasklease.task_place WHERE id = ANY ($1::uuid[])
),
-- The grants are read once for all ids, and not at all if none of the tasks runs. As a condition that may be null, the
-- ids are hashed; a join might compare each with each, because nothing is known of how many run.
granted AS MATERIALIZED (
    SELECT * FROM tasklease.task_grant
    WHERE EXISTS (SELECT FROM place WHERE state = 4)
      AND (task_id IN (SELECT id FROM place WHERE state = 4)) IS TRUE
)
SELECT p.id, q.namespace, q.name AS queue, l.task_type, p.lane, p.state, coalesce(p.attempt, g.attempt, 0) AS attempt,
       p.lease_token, p.cancel_requested, coalesce(n.name, p.worker) AS worker, p.error_type, p.error_message,
       CASE WHEN $2 THEN p.error_detail END AS error_detail, p.cancel_reason,
       (extract(epoch FROM coalesce(g.started_at, p.started_at)) * 1000000)::bigint AS started_us,
       (extract(epoch FROM p.finished_at) * 1000000)::bigint AS finished_us,
       (extract(epoch FROM p.due_at) * 1000000)::bigint AS due_us,
       (extract(epoch FROM t.created_at) * 1000000)::bigint AS created_us,
       t.rank, t.max_attempts, t.title, t.description, t.owner, t.labels::text, t.parent_id, t.retry_of,
       t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms, t.traceparent,
       CASE WHEN $2 THEN t.payload::text END AS payload,
       CASE WHEN $2 THEN p.result::text END AS result,
       e.percent, e.message AS progress_message,
       CASE WHEN $2 THEN e.card::text
            WHEN e.card ->> 'heading' <> '' THEN json_build_object('heading', e.card ->> 'heading')::text
       END AS progress_card,
       (extract(epoch FROM e.at) * 1000000)::bigint AS progress_us,
       (extract(epoch FROM e.worker_at) * 1000000)::bigint AS progress_worker_us
FROM place p
JOIN tasklease.task t ON t.id = p.id
JOIN tasklease.lane l ON l.id = p.lane
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN granted g ON g.task_id = p.id AND g.lease_token = p.lease_token AND p.state = 4
LEFT JOIN tasklease.session n ON n.id = g.session_id
LEFT JOIN LATERAL (
    SELECT percent, message, card, at, worker_at FROM tasklease.task_event
    WHERE task_id = p.id AND kind = 1 AND lease_token = p.lease_token
    ORDER BY event_no DESC LIMIT 1
) e ON true
ORDER BY p.id DESC
