-- leave: forgets this replica, and others that have not been seen for a day.
-- $1 id
DELETE FROM tasklease.scheduler WHERE id = $1 OR seen_at < now() - interval '1 day'
