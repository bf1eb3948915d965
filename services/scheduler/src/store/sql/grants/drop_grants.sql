-- drop_grants: removes grants of which every task has an ended run.
-- $1 session ids, $2 grant ids
DELETE FROM tasklease.grant l
USING unnest($1::uuid[], $2::bigint[]) AS u (session_id, grant_id)
WHERE l.session_id = u.session_id AND l.grant_id = u.grant_id
