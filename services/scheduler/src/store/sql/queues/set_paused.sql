-- set_paused: pauses or resumes a queue, which is made if it is new.
-- $1 namespace, $2 queue, $3 paused
WITH q AS (
    INSERT INTO tasklease.queue (namespace, name, paused) VALUES ($1, $2, $3)
    ON CONFLICT (namespace, name) DO UPDATE SET paused = excluded.paused
    RETURNING id, namespace, name, paused, created_at
)
SELECT namespace, name AS queue, paused, created_at,
       ARRAY(SELECT lane.id FROM tasklease.lane WHERE lane.queue_id = q.id) AS lanes
FROM q
