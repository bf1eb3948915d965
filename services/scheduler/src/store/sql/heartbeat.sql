-- heartbeat: extends the leases of sessions. A session that is not returned is over.
-- $1 session ids, $2 lease duration (µs)
UPDATE tasklease.session
SET heartbeat_at = now(), expires_at = now() + $2::bigint * interval '1 microsecond'
WHERE id = ANY ($1::uuid[])
RETURNING id
