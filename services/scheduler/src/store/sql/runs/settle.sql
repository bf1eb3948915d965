-- settle: commits successes of leases that nobody else has ended or asked to cancel, and removes emptied grants.
-- The primary key of run is the fence: if one of the rows exists, nothing is done and settle_contested takes over.
-- Waiting for that conflict costs nothing; looking for it in advance, as ON CONFLICT does, costs half as much again.
-- Arrays are unnested side by side in the list of columns: in FROM, each would be stored apart before it is read.
-- $1 task ids, $2 lease tokens, $3 attempts, $4 start times, $5 workers, $6 results,
-- $7 sessions and $8 ids of grants of which every task has an ended run
WITH emptied AS MATERIALIZED (
    DELETE FROM tasklease.grant l USING unnest($7::uuid[], $8::bigint[]) AS u (session_id, grant_id)
    WHERE l.session_id = u.session_id AND l.grant_id = u.grant_id
    RETURNING 1
)
INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker, result)
SELECT unnest($1::uuid[]), unnest($2::int[]), 1 /* succeeded */, true, unnest($3::smallint[]), unnest($4::timestamptz[]),
       now(), unnest($5::text[]), unnest($6::json[])
-- Grants first: that is the order in which the end of a session takes its locks.
WHERE (SELECT count(*) FROM emptied) >= 0
