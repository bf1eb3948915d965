-- seen: says that this replica is alive.
-- $1 id, $2 name
INSERT INTO tasklease.scheduler (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET seen_at = now()
