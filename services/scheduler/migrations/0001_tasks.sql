-- Tasks and the places they wait in. A task's state is the table that holds its row:
-- see docs/task-lifecycle.md.

CREATE TABLE tasklease.queue (
    id         int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    namespace  text NOT NULL DEFAULT 'default',
    name       text NOT NULL,
    paused     boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace, name)
);
COMMENT ON TABLE tasklease.queue IS 'A named stream of tasks.';
COMMENT ON COLUMN tasklease.queue.paused IS 'True while its tasks are not handed out.';

CREATE TABLE tasklease.lane (
    id        int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    queue_id  int NOT NULL REFERENCES tasklease.queue (id),
    task_type text NOT NULL,
    UNIQUE (queue_id, task_type)
);
COMMENT ON TABLE tasklease.lane IS 'A (queue, task type) pair; what a claim reads from.';

CREATE TABLE tasklease.task (
    id                 uuid PRIMARY KEY,
    lane               int NOT NULL,
    rank               smallint NOT NULL CHECK (rank BETWEEN -100 AND 100),
    max_attempts       smallint NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    order_key          bigint NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    payload            json NOT NULL,
    title              text,
    description        text,
    owner              text,
    labels             json,
    parent_id          uuid,
    retry_of           uuid,
    initial_backoff_ms bigint,
    max_backoff_ms     bigint,
    run_timeout_ms     bigint,
    traceparent        text
);
COMMENT ON TABLE tasklease.task IS 'What was submitted; never updated.';
COMMENT ON COLUMN tasklease.task.rank IS 'Minus the priority, so that the key of ready sorts ascending.';
COMMENT ON COLUMN tasklease.task.order_key IS
    'Microseconds since 1970 of the earliest start; orders tasks of one rank.';

CREATE TABLE tasklease.ready (
    lane      int NOT NULL,
    rank      smallint NOT NULL,
    order_key bigint NOT NULL,
    task_id   uuid NOT NULL,
    lease_no  int NOT NULL CHECK (lease_no > 0),
    attempt   smallint NOT NULL CHECK (attempt > 0),
    PRIMARY KEY (lane, rank, order_key, task_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasklease.ready IS 'Tasks that may run now (PENDING).';
COMMENT ON COLUMN tasklease.ready.lease_no IS 'The lease token that the next claim will hand out.';
COMMENT ON COLUMN tasklease.ready.attempt IS 'The number that the next run bears if it is counted.';

CREATE TABLE tasklease.scheduled (
    task_id  uuid PRIMARY KEY,
    due_at   timestamptz NOT NULL,
    lease_no int NOT NULL CHECK (lease_no > 0),
    attempt  smallint NOT NULL CHECK (attempt > 0)
);
CREATE INDEX scheduled_due ON tasklease.scheduled (due_at);
COMMENT ON TABLE tasklease.scheduled IS 'Tasks that wait for a time (SCHEDULED).';

CREATE TABLE tasklease.session (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    incarnation  text NOT NULL,
    task_types   text[] NOT NULL,
    queues       text[] NOT NULL,
    labels       json NOT NULL,
    slots        int NOT NULL,
    scheduler    text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE tasklease.session IS 'Live workers; expires_at is the end of all their leases.';

CREATE TABLE tasklease.lease (
    session_id uuid NOT NULL,
    grant_id   bigint NOT NULL,
    task_ids   uuid[] NOT NULL,
    lease_nos  int[] NOT NULL,
    attempts   smallint[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, grant_id)
);
COMMENT ON TABLE tasklease.lease IS
    'Grants: tasks handed to a session together (RUNNING until each has an ended run).';

CREATE TABLE tasklease.run (
    task_id         uuid NOT NULL,
    lease_no        int NOT NULL,
    outcome         smallint NOT NULL CHECK (outcome BETWEEN 0 AND 6),
    final           boolean NOT NULL,
    attempt         smallint NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz,
    worker          text,
    result          json,
    error_type      text,
    error_message   text,
    error_detail    text,
    cancel_reason   text,
    cancel_deadline timestamptz,
    PRIMARY KEY (task_id, lease_no),
    -- An open row is a cancel request on a running task; it has a deadline and no end.
    CHECK ((outcome = 0) = (finished_at IS NULL)),
    CHECK (outcome <> 0 OR (cancel_deadline IS NOT NULL AND NOT final)),
    CHECK (outcome NOT IN (1, 3) OR final),
    CHECK (outcome <> 6 OR NOT final)
);
CREATE INDEX run_cancelling ON tasklease.run (cancel_deadline) WHERE outcome = 0;
CREATE INDEX run_failed ON tasklease.run (task_id) WHERE final AND outcome IN (2, 4, 5);
COMMENT ON TABLE tasklease.run IS
    'Ended runs. The primary key is the fence: whoever inserts it first decides the outcome.';
COMMENT ON COLUMN tasklease.run.outcome IS
    '0 cancel requested, 1 succeeded, 2 failed, 3 cancelled, 4 timed out, 5 lost, 6 released';
COMMENT ON COLUMN tasklease.run.final IS 'True if the task ended with this run.';

CREATE TABLE tasklease.task_event (
    task_id  uuid NOT NULL,
    lease_no int NOT NULL,
    event_no bigint NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    kind     smallint NOT NULL CHECK (kind IN (1, 2)),
    percent  double precision,
    message  text NOT NULL,
    level    text,
    card     json,
    PRIMARY KEY (task_id, lease_no, event_no)
);
COMMENT ON TABLE tasklease.task_event IS 'Progress (kind 1) and log lines (kind 2), numbered by the worker.';
COMMENT ON COLUMN tasklease.task_event.card IS 'Of progress: {heading, body, image, detail}.';

CREATE TABLE tasklease.ended_count (
    lane  int NOT NULL,
    state smallint NOT NULL CHECK (state IN (5, 6, 7)),
    tasks bigint NOT NULL,
    PRIMARY KEY (lane, state)
) WITH (fillfactor = 50);
COMMENT ON TABLE tasklease.ended_count IS 'How many tasks of a lane ever reached a final state; a statistic.';

CREATE TABLE tasklease.scheduler (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE tasklease.scheduler IS 'Replicas and when each was last alive.';

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
           WHEN d.task_id IS NOT NULL THEN 3
           ELSE 4
       END::smallint AS state,
       CASE
           WHEN r.final THEN r.attempt
           WHEN s.task_id IS NOT NULL THEN s.attempt - 1
           WHEN d.task_id IS NOT NULL THEN d.attempt - 1
           ELSE coalesce(g.attempt, 0)
       END::int AS attempt,
       CASE
           -- Ended while it waited: the lease that it would have had next was never made.
           WHEN r.final AND r.started_at IS NULL THEN r.lease_no - 1
           WHEN r.final OR r.outcome = 0 OR s.task_id IS NOT NULL OR d.task_id IS NOT NULL
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
       ON d.lane = t.lane AND d.rank = t.rank AND d.order_key = t.order_key AND d.task_id = t.id
LEFT JOIN LATERAL (
    SELECT u.attempt, n.name AS worker, g.created_at AS started_at
    FROM tasklease.lease g
    CROSS JOIN LATERAL unnest(g.task_ids, g.lease_nos, g.attempts) AS u (task_id, lease_no, attempt)
    LEFT JOIN tasklease.session n ON n.id = g.session_id
    WHERE r.final IS NOT TRUE AND s.task_id IS NULL AND d.task_id IS NULL
      AND t.id = ANY (g.task_ids) AND u.task_id = t.id
    ORDER BY u.lease_no DESC
    LIMIT 1
) g ON true;
COMMENT ON VIEW tasklease.task_now IS 'Where every task stands; the only definition of a state.';
