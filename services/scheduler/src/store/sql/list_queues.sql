-- list_queues: queues by name.
-- $1 after this name, $2 at most this many
SELECT namespace, name, paused, (extract(epoch FROM created_at) * 1000000)::bigint AS created_us
FROM tasklease.queue
WHERE name > $1
ORDER BY name
LIMIT $2
