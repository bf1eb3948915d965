-- lock_session: locks one session so that nobody else ends it meanwhile.
-- $1 session id
SELECT id FROM tasklease.session WHERE id = $1 FOR UPDATE
