-- set_paused: pauses or resumes a queue, which is made if it is new.
-- $1 queue, $2 paused
WITH q AS (
    INSERT INTO tasklease.queue (name, paused) VALUES ($1, $2)
    ON CONFLICT (namespace, name) DO UPDATE SET paused = excluded.paused
    RETURNING id, namespace, name, paused, created_at
)
SELECT namespace, name, paused, (extract(epoch FROM created_at) * 1000000)::bigint AS created_us,
       ARRAY(SELECT lane.id FROM tasklease.lane WHERE lane.queue_id = q.id) AS lanes
FROM q
