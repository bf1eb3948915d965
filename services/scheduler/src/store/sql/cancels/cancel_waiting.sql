-- cancel_waiting: ends a task that waits. No row if it does not wait, or if its bundle changed while this ran.
-- $1 task id, $2 reason; returns the lane, and rank and order key of the bundle if others wait in it, which a claim
-- may have passed over meanwhile
WITH place AS MATERIALIZED (
    SELECT id, lane, rank, order_key, first_task FROM tasklease.task_place
    WHERE id = $1 AND state IN (1, 3) /* scheduled, pending */
),
from_bundle AS (
    UPDATE tasklease.ready r
    SET task_ids = array_remove(r.task_ids, place.id), first_task = (array_remove(r.task_ids, place.id))[1]
    FROM place
    WHERE r.lane = place.lane AND r.rank = place.rank AND r.order_key = place.order_key
      AND r.first_task BETWEEN place.first_task AND place.id AND place.id = ANY (r.task_ids)
      AND cardinality(r.task_ids) > 1
    RETURNING r.lease_token, r.attempt, r.rank, r.order_key
),
whole_bundle AS (
    DELETE FROM tasklease.ready r USING place
    WHERE r.lane = place.lane AND r.rank = place.rank AND r.order_key = place.order_key
      AND r.first_task = place.id AND cardinality(r.task_ids) = 1
    RETURNING r.lease_token, r.attempt
),
from_scheduled AS (
    DELETE FROM tasklease.scheduled s WHERE s.task_id = $1 RETURNING s.lease_token, s.attempt
)
INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, finished_at, cancel_reason)
SELECT $1, lease_token, 3 /* cancelled */, true, attempt - 1, now(), $2
FROM (SELECT lease_token, attempt FROM from_bundle
      UNION ALL SELECT * FROM whole_bundle
      UNION ALL SELECT * FROM from_scheduled) AS waiting
RETURNING (SELECT lane FROM place) AS lane, (SELECT rank FROM from_bundle) AS rank,
          (SELECT order_key FROM from_bundle) AS order_key
