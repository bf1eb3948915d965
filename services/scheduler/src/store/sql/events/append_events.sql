-- append_events: appends progress and log lines of leases that have not ended; an event that comes again is dropped.
-- Of each run only the newest events stay, and its latest progress.
-- $1 task ids, $2 lease tokens, $3 event numbers, $4 kinds, $5 percents, $6 messages, $7 levels, $8 cards (JSON text),
-- $9 times by the workers' clocks, or null, $10 how many event numbers of a run are kept,
-- $11 remove at most this many events of a run at once
WITH new AS MATERIALIZED (
    SELECT u.*
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::smallint[], $5::double precision[], $6::text[], $7::text[],
                $8::text[], $9::timestamptz[])
         AS u (task_id, lease_token, event_no, kind, percent, message, level, card, worker_at)
    WHERE NOT EXISTS (SELECT FROM tasklease.run r
                      WHERE r.task_id = u.task_id AND r.lease_token = u.lease_token AND r.outcome <> 0 /* cancelling */)
),
-- Runs that have said more than is kept, which few have.
long_runs AS MATERIALIZED (
    SELECT task_id, lease_token, highest - $10::bigint AS kept_above
    FROM (SELECT n.task_id, n.lease_token,
                 greatest(n.highest, (SELECT max(e.event_no) FROM tasklease.task_event e
                                      WHERE e.task_id = n.task_id AND e.lease_token = n.lease_token)) AS highest
          FROM (SELECT task_id, lease_token, max(event_no) AS highest FROM new GROUP BY task_id, lease_token) AS n
         ) AS run
    WHERE highest > $10::bigint
),
excess AS MATERIALIZED (
    SELECT e.place
    FROM long_runs l,
         LATERAL (SELECT e.ctid AS place FROM tasklease.task_event e
                  WHERE e.task_id = l.task_id AND e.lease_token = l.lease_token AND e.event_no <= l.kept_above
                    AND (e.kind <> 1 /* progress */
                         OR EXISTS (SELECT FROM tasklease.task_event later
                                    WHERE later.task_id = e.task_id AND later.lease_token = e.lease_token
                                      AND later.event_no > e.event_no AND later.kind = 1 /* progress */))
                  ORDER BY e.event_no
                  LIMIT $11
                  -- Whoever has them locked removes them.
                  FOR UPDATE SKIP LOCKED) AS e
),
removed AS (DELETE FROM tasklease.task_event WHERE ctid = ANY (ARRAY(SELECT place FROM excess)))
INSERT INTO tasklease.task_event (task_id, lease_token, event_no, kind, percent, message, level, card, worker_at)
SELECT u.task_id, u.lease_token, u.event_no, u.kind, u.percent, u.message, u.level, u.card::json,
       -- A clock that is so wrong tells nobody anything.
       CASE WHEN u.worker_at BETWEEN now() - interval '1 day' AND now() + interval '1 hour' THEN u.worker_at END
FROM new AS u
WHERE NOT EXISTS (SELECT FROM long_runs l
                  WHERE l.task_id = u.task_id AND l.lease_token = u.lease_token AND l.kept_above >= u.event_no)
-- Every statement that locks several keys of this table does it in key order.
ORDER BY u.task_id, u.lease_token, u.event_no
ON CONFLICT DO NOTHING
