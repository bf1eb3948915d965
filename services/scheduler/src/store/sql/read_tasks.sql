-- read_tasks: tasks with their state and latest progress.
-- $1 ids, $2 true to read payloads and results as well
SELECT n.id, n.namespace, n.queue, n.task_type, n.lane, n.state, n.attempt, n.lease_no, n.cancel_requested,
       n.worker, n.error_type, n.error_message, n.error_detail,
       (extract(epoch FROM n.started_at) * 1000000)::bigint AS started_us,
       (extract(epoch FROM n.finished_at) * 1000000)::bigint AS finished_us,
       (extract(epoch FROM n.due_at) * 1000000)::bigint AS due_us,
       (extract(epoch FROM t.created_at) * 1000000)::bigint AS created_us,
       t.rank, t.max_attempts, t.title, t.description, t.owner, t.labels::text, t.parent_id, t.retry_of,
       t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms, t.traceparent,
       CASE WHEN $2 THEN t.payload::text END AS payload,
       CASE WHEN $2 THEN n.result::text END AS result,
       e.percent, e.message AS progress_message, e.card::text AS progress_card,
       (extract(epoch FROM e.at) * 1000000)::bigint AS progress_us
FROM tasklease.task_now n
JOIN tasklease.task t ON t.id = n.id
LEFT JOIN LATERAL (
    SELECT percent, message, card, at FROM tasklease.task_event
    WHERE task_id = n.id AND kind = 1 AND lease_no = n.lease_no
    ORDER BY event_no DESC LIMIT 1
) e ON true
WHERE n.id = ANY ($1::uuid[])
ORDER BY n.id DESC
