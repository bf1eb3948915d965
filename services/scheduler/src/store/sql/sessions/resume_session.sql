-- resume_session: goes on with a session that is still alive, on this replica. No row if it is over.
-- $1 id, $2 incarnation, $3 scheduler, $4 lease duration
UPDATE tasklease.session
SET scheduler = $3, heartbeat_at = now(), was_spared = false, expires_at = now() + $4::interval
WHERE id = $1 AND incarnation = $2
RETURNING id
