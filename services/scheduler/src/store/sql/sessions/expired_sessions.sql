-- expired_sessions: locks sessions whose lease is over, so that one replica ends each.
-- $1 at most this many
SELECT id FROM tasklease.session WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT $1
FOR UPDATE SKIP LOCKED
