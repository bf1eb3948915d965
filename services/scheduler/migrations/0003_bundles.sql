-- Tasks that wait, and leases, lie in rows for many: what every one of them has in common is written once.

DROP VIEW tasklease.task_now;

-- Each row becomes a bundle of one. Changing the type, if only from itself to itself, writes the table once and leaves
-- no dead rows behind, as an update would.
ALTER TABLE tasklease.ready RENAME task_id TO first_task;
ALTER TABLE tasklease.ready ADD task_ids uuid[];
ALTER TABLE tasklease.ready ALTER task_ids TYPE uuid[] USING ARRAY[first_task];
ALTER TABLE tasklease.ready
    ALTER task_ids SET NOT NULL,
    ADD CHECK (cardinality(task_ids) > 0 AND task_ids[1] = first_task);
COMMENT ON TABLE tasklease.ready IS
    'Bundles of tasks that may run now (PENDING), became ready together and may be leased together.';
COMMENT ON COLUMN tasklease.ready.first_task IS 'The first of task_ids; completes the key.';
COMMENT ON COLUMN tasklease.ready.task_ids IS 'The tasks, in ascending order; each is in one bundle only.';
COMMENT ON COLUMN tasklease.ready.lease_no IS 'The lease token that the next claim will hand out for each.';
COMMENT ON COLUMN tasklease.ready.attempt IS 'The number that the next run of each bears if it is counted.';

CREATE TEMPORARY TABLE granted ON COMMIT DROP AS
SELECT g.session_id, g.grant_id, u.lease_no, u.attempt, g.created_at, array_agg(u.task_id) AS task_ids
FROM tasklease.lease g
CROSS JOIN LATERAL unnest(g.task_ids, g.lease_nos, g.attempts) AS u (task_id, lease_no, attempt)
GROUP BY g.session_id, g.grant_id, u.lease_no, u.attempt, g.created_at;
TRUNCATE tasklease.lease;
ALTER TABLE tasklease.lease
    DROP CONSTRAINT lease_pkey,
    DROP lease_nos,
    DROP attempts,
    ADD lease_no int NOT NULL CHECK (lease_no > 0),
    ADD attempt smallint NOT NULL CHECK (attempt > 0),
    ADD PRIMARY KEY (session_id, grant_id, lease_no, attempt);
INSERT INTO tasklease.lease (session_id, grant_id, lease_no, attempt, created_at, task_ids)
SELECT session_id, grant_id, lease_no, attempt, created_at, task_ids FROM granted;
COMMENT ON TABLE tasklease.lease IS
    'Grants: tasks handed to a session together (RUNNING until each has an ended run), a row for those that also have '
    'lease number and attempt in common.';

-- The one place that turns rows into a state. The numbers are those of TaskState.
CREATE VIEW tasklease.task_now AS
SELECT t.id,
       q.namespace,
       q.name AS queue,
       l.task_type,
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
           ELSE coalesce(g.attempt, 0)
       END::int AS attempt,
       CASE
           -- Ended while it waited: the lease that it would have had next was never made.
           WHEN r.final AND r.started_at IS NULL THEN r.lease_no - 1
           WHEN r.final OR r.outcome = 0 OR s.task_id IS NOT NULL OR d.first_task IS NOT NULL
               THEN coalesce(r.lease_no, 0)
           ELSE coalesce(r.lease_no, 0) + 1
       END::int AS lease_no,
       coalesce(r.outcome = 0, false) AS cancel_requested,
       coalesce(g.worker, r.worker) AS worker,
       coalesce(g.started_at, r.started_at) AS started_at,
       CASE WHEN r.final THEN r.finished_at END AS finished_at,
       s.due_at,
       r.result,
       r.error_type,
       r.error_message,
       r.error_detail
FROM tasklease.task t
JOIN tasklease.lane l ON l.id = t.lane
JOIN tasklease.queue q ON q.id = l.queue_id
LEFT JOIN LATERAL (
    SELECT * FROM tasklease.run WHERE run.task_id = t.id ORDER BY lease_no DESC LIMIT 1
) r ON true
LEFT JOIN tasklease.scheduled s ON s.task_id = t.id
LEFT JOIN tasklease.ready d
       ON d.lane = t.lane AND d.rank = t.rank AND d.order_key = t.order_key
          AND d.first_task <= t.id AND t.id = ANY (d.task_ids) AND r.final IS NOT TRUE AND s.task_id IS NULL
LEFT JOIN LATERAL (
    SELECT g.attempt, n.name AS worker, g.created_at AS started_at
    FROM tasklease.lease g
    LEFT JOIN tasklease.session n ON n.id = g.session_id
    WHERE r.final IS NOT TRUE AND s.task_id IS NULL AND d.first_task IS NULL
      AND t.id = ANY (g.task_ids)
    ORDER BY g.lease_no DESC
    LIMIT 1
) g ON true;
COMMENT ON VIEW tasklease.task_now IS 'Where every task stands; the only definition of a state.';
