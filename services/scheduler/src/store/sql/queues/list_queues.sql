-- list_queues: queues by name.
-- $1 namespace, $2 after this name, $3 at most this many
SELECT namespace, name AS queue, paused, created_at
FROM tasklease.queue
WHERE namespace = $1 AND name > $2
ORDER BY name
LIMIT $3
