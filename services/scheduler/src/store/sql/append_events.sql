-- append_events: appends progress and log lines of leases that have not ended; an event that comes again is dropped.
-- $1 task ids, $2 lease numbers, $3 event numbers, $4 kinds, $5 percents, $6 messages, $7 levels, $8 cards (JSON text),
-- $9 times by the workers' clocks (µs since 1970 or null)
INSERT INTO tasklease.task_event (task_id, lease_no, event_no, kind, percent, message, level, card, worker_at)
SELECT u.task_id, u.lease_no, u.event_no, u.kind, u.percent, u.message, u.level, u.card::json,
       -- A clock that is so wrong tells nobody anything.
       CASE WHEN u.worker_us BETWEEN clock.us - 86400000000 AND clock.us + 3600000000
            THEN to_timestamp(u.worker_us / 1000000.0)
       END
FROM (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS clock,
     unnest($1::uuid[], $2::int[], $3::bigint[], $4::smallint[], $5::double precision[], $6::text[], $7::text[],
            $8::text[], $9::bigint[])
     AS u (task_id, lease_no, event_no, kind, percent, message, level, card, worker_us)
WHERE NOT EXISTS (SELECT FROM tasklease.run r
                  WHERE r.task_id = u.task_id AND r.lease_no = u.lease_no AND r.outcome <> 0)
-- Every statement that locks several keys of this table does it in key order.
ORDER BY u.task_id, u.lease_no, u.event_no
ON CONFLICT DO NOTHING
