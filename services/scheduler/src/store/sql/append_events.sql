-- append_events: appends progress and log lines of leases that have not ended; an event that comes again is dropped.
-- $1 task ids, $2 lease numbers, $3 event numbers, $4 kinds, $5 percents, $6 messages, $7 levels, $8 cards (JSON text)
INSERT INTO tasklease.task_event (task_id, lease_no, event_no, kind, percent, message, level, card)
SELECT u.task_id, u.lease_no, u.event_no, u.kind, u.percent, u.message, u.level, u.card::json
FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::smallint[], $5::double precision[], $6::text[], $7::text[],
            $8::text[])
     AS u (task_id, lease_no, event_no, kind, percent, message, level, card)
WHERE NOT EXISTS (SELECT FROM tasklease.run r
                  WHERE r.task_id = u.task_id AND r.lease_no = u.lease_no AND r.outcome <> 0)
ON CONFLICT DO NOTHING
