-- heartbeat: extends the leases of sessions. A session that is not returned is over.
-- $1 session ids, $2 how long ago each heartbeat came, $3 lease duration
WITH heard AS MATERIALIZED (
    SELECT s.id, u.age
    FROM unnest($1::uuid[], $2::interval[]) AS u (id, age)
    JOIN tasklease.session s ON s.id = u.id
    ORDER BY s.id
    FOR UPDATE OF s
)
UPDATE tasklease.session s
SET heartbeat_at = now(), was_spared = false,
    expires_at = greatest(s.expires_at, now() + $3::interval - heard.age)
FROM heard
WHERE s.id = heard.id
RETURNING s.id
