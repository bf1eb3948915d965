-- leave: says that this replica leaves, and forgets those that have not been seen for a day.
-- What is left behind tells for how long no replica was at work.
-- $1 id
WITH old AS (
    DELETE FROM tasklease.scheduler WHERE id <> $1 AND seen_at < now() - interval '1 day'
)
UPDATE tasklease.scheduler SET seen_at = now(), left_at = now() WHERE id = $1
