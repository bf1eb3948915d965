-- delete_unused_lanes: deletes those of some lanes that still have no span, with the counts of what ended in them.
-- $1 lanes
WITH unused AS MATERIALIZED (
    SELECT l.id FROM tasklease.lane l
    WHERE l.id = ANY ($1::int[]) AND NOT EXISTS (SELECT FROM tasklease.lane_span s WHERE s.lane = l.id)
    ORDER BY l.id
    -- Whoever is about to store tasks in one has it locked.
    FOR UPDATE OF l SKIP LOCKED
),
counts AS (DELETE FROM tasklease.ended_count WHERE lane IN (SELECT id FROM unused))
DELETE FROM tasklease.lane WHERE id IN (SELECT id FROM unused) RETURNING id
