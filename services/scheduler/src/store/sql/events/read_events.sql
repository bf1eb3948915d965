-- read_events: progress and log lines of a task after a point, oldest first, with the attempt that each belongs to.
-- $1 task id, $2 lease token, $3 event number, $4 at most this many, $5 none that begins after this many bytes
WITH page AS MATERIALIZED (
    SELECT e.*, octet_length(e.message) + coalesce(octet_length(e.card::text), 0) AS bytes
    FROM tasklease.task_event e
    WHERE e.task_id = $1 AND (e.lease_token, e.event_no) > ($2::int, $3::bigint)
    ORDER BY e.lease_token, e.event_no
    LIMIT $4
),
measured AS (
    SELECT page.*, sum(bytes) OVER (ORDER BY lease_token, event_no) - bytes AS before, count(*) OVER () AS found FROM page
)
SELECT e.lease_token, e.event_no, e.at, e.kind, e.percent, e.message,
       e.level, e.card::text AS card, e.worker_at,
       -- A run that goes on has no row yet; its number follows from the run before, which was counted or handed back.
       coalesce(own.attempt,
                last.attempt + CASE WHEN last.outcome = 6 /* released */ THEN 0 ELSE 1 END, 1)::smallint AS attempt,
       e.found
FROM measured e
LEFT JOIN tasklease.run own ON own.task_id = e.task_id AND own.lease_token = e.lease_token
LEFT JOIN tasklease.run last ON last.task_id = e.task_id AND last.lease_token = e.lease_token - 1
WHERE e.before < $5
ORDER BY e.lease_token, e.event_no
