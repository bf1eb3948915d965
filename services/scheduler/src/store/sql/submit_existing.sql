-- submit_existing: of the tasks in a batch, those that are stored already, and whether they are the same.
-- $1 ids, $2 lanes, $3 payloads (JSON text)
SELECT t.id, t.lane = u.lane AND t.payload::text = u.payload AS same
FROM unnest($1::uuid[], $2::int[], $3::text[]) AS u (id, lane, payload)
JOIN tasklease.task t ON t.id = u.id
