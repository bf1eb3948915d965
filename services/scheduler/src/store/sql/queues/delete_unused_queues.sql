-- delete_unused_queues: deletes queues that have no lane any more and that nobody has set anything of.
-- $1 at most this many
DELETE FROM tasklease.queue WHERE id IN (
    SELECT q.id FROM tasklease.queue q
    WHERE NOT q.paused AND q.name <> 'default' AND NOT EXISTS (SELECT FROM tasklease.lane l WHERE l.queue_id = q.id)
    ORDER BY q.id
    LIMIT $1
    FOR UPDATE OF q SKIP LOCKED
)
RETURNING id
