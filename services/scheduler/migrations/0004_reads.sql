-- Every read of a task is a lookup by key again, however many tasks share one start time, wait for a retry or run.

-- A retried task waits in line from the time it became due, not from the time it was submitted.
ALTER TABLE tasklease.run ADD next_order_key bigint;
COMMENT ON COLUMN tasklease.run.next_order_key IS
    'If the task goes on after this run: the order_key under which it waits in ready, now or once it is due. Null: that '
    'of the task.';

-- Tasks that are due at the same time are promoted in the order of their ids, so that their bundles do not overlap.
DROP INDEX tasklease.scheduled_due;
CREATE INDEX scheduled_due ON tasklease.scheduled (due_at, task_id);

-- Lists of cancelled tasks, like those of failed ones, look at nothing else.
CREATE INDEX run_cancelled ON tasklease.run (task_id) WHERE final AND outcome = 3;

-- The latest progress of a run is found without passing its log lines.
CREATE INDEX task_event_progress ON tasklease.task_event (task_id, lease_no, event_no) WHERE kind = 1;

-- When a worker logged a line or reported progress, beside when that was stored.
ALTER TABLE tasklease.task_event ADD worker_at timestamptz;
COMMENT ON COLUMN tasklease.task_event.worker_at IS 'By the worker''s clock; null if it said nothing plausible.';

-- The one place that turns rows into a state; the numbers are those of TaskState. What only the grant of a running task
-- knows is missing here: reads of many tasks join it once, from the view task_grant.
CREATE VIEW tasklease.task_place AS
SELECT t.id,
       t.lane,
       CASE
           WHEN r.final AND r.outcome = 1 THEN 5
           WHEN r.final AND r.outcome = 3 THEN 7
           WHEN r.final THEN 6
           WHEN s.task_id IS NOT NULL THEN 1
           WHEN d.first_task IS NOT NULL THEN 3
           ELSE 4
       END::smallint AS state,
       CASE
           WHEN r.final THEN r.attempt
           WHEN s.task_id IS NOT NULL THEN s.attempt - 1
           WHEN d.first_task IS NOT NULL THEN d.attempt - 1
       END::int AS attempt,
       CASE
           -- Ended while it waited: the lease that it would have had next was never made.
           WHEN r.final AND r.started_at IS NULL THEN r.lease_no - 1
           WHEN r.final OR r.outcome = 0 OR s.task_id IS NOT NULL OR d.first_task IS NOT NULL
               THEN coalesce(r.lease_no, 0)
           ELSE coalesce(r.lease_no, 0) + 1
       END::int AS lease_no,
       coalesce(r.outcome = 0, false) AS cancel_requested,
       r.worker,
       r.started_at,
       CASE WHEN r.final THEN r.finished_at END AS finished_at,
       s.due_at,
       r.result,
       r.error_type,
       r.error_message,
       r.error_detail,
       r.cancel_reason,
       d.rank,
       d.order_key,
       d.first_task
FROM tasklease.task t
LEFT JOIN LATERAL (
    SELECT * FROM tasklease.run WHERE run.task_id = t.id ORDER BY lease_no DESC LIMIT 1
) r ON true
LEFT JOIN tasklease.scheduled s ON s.task_id = t.id
LEFT JOIN LATERAL (
    -- The nearest bundle below a task is its own, unless bundles of one key overlap: two submits in one microsecond.
    SELECT b.attempt, b.rank, b.order_key, b.first_task
    FROM tasklease.ready b
    WHERE r.final IS NOT TRUE AND r.outcome IS DISTINCT FROM 0 AND s.task_id IS NULL
      AND b.lane = t.lane AND b.rank = t.rank AND b.order_key = coalesce(r.next_order_key, t.order_key)
      AND b.first_task <= t.id AND t.id = ANY (b.task_ids)
    ORDER BY b.first_task DESC
    LIMIT 1
) d ON true;
COMMENT ON VIEW tasklease.task_place IS 'Where every task stands; the only definition of a state.';

CREATE VIEW tasklease.task_grant AS
SELECT unnest(task_ids) AS task_id, lease_no, attempt, session_id, created_at AS started_at FROM tasklease.lease;
COMMENT ON VIEW tasklease.task_grant IS
    'Leases, one row for each: who runs which task, and those that ended in grants in which others still run.';

-- For one task, and for people; the columns that there were, so that older schedulers can go on reading.
CREATE OR REPLACE VIEW tasklease.task_now AS
SELECT p.id,
       q.namespace,
       q.name AS queue,
       l.task_type,
       p.lane,
       p.state,
       coalesce(p.attempt, g.attempt, 0) AS attempt,
       p.lease_no,
       p.cancel_requested,
       coalesce(g.worker, p.worker) AS worker,
       coalesce(g.started_at, p.started_at) AS started_at,
       p.finished_at,
       p.due_at,
       p.result,
       p.error_type,
       p.error_message,
       p.error_detail
FROM tasklease.task_place p
JOIN tasklease.lane l ON l.id = p.lane
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN LATERAL (
    SELECT g.attempt, n.name AS worker, g.created_at AS started_at
    FROM tasklease.lease g
    LEFT JOIN tasklease.session n ON n.id = g.session_id
    WHERE p.state = 4 AND g.lease_no = p.lease_no AND p.id = ANY (g.task_ids)
    LIMIT 1
) g ON true;
