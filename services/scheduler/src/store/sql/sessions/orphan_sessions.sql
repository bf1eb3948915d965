-- orphan_sessions: sessions that are gone but were handed tasks by a claim that was under way.
SELECT DISTINCT l.session_id AS id
FROM tasklease.grant l
WHERE NOT EXISTS (SELECT FROM tasklease.session s WHERE s.id = l.session_id)
LIMIT 100
