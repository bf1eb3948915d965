-- tick: one look at everything that may need a background job; now and then it says that this scheduler is alive.
-- $1 this scheduler, $2 its name, $3 lanes that somebody here serves, and where to begin in each:
-- $4 rank, $5 order key, $6 first task; $7 lease duration of sessions, $8 sessions that are connected here
WITH gap AS MATERIALIZED (
    SELECT now() - greatest($7::interval / 3, interval '3 seconds') AS since
),
away AS MATERIALIZED (
    -- Nobody could hear a heartbeat: a scheduler at work is seen every ninth of a lease, or with every tick, a second.
    SELECT since FROM gap WHERE NOT EXISTS (SELECT FROM tasklease.scheduler WHERE seen_at > since)
),
spared AS (
    UPDATE tasklease.session s
    SET expires_at = now() + $7::interval, was_spared = true
    -- Who was heard since then needs no help.
    WHERE s.id IN (SELECT id FROM tasklease.session, away
                   -- Once: who is not heard after that either may have given up.
                   WHERE heartbeat_at <= away.since AND NOT was_spared ORDER BY id FOR UPDATE OF session)
    RETURNING 1
),
alive AS (
    INSERT INTO tasklease.scheduler (id, name)
    SELECT $1::uuid, $2::text
    WHERE NOT EXISTS (SELECT FROM tasklease.scheduler
                      WHERE id = $1 AND seen_at > now() - $7::interval / 9)
    ON CONFLICT (id) DO UPDATE SET seen_at = now()
),
first_ready AS MATERIALIZED (
    SELECT mark.lane, first.rank, first.order_key
    FROM unnest($3::int[], $4::smallint[], $5::bigint[], $6::uuid[]) AS mark (lane, rank, order_key, first_task),
         LATERAL (SELECT r.rank, r.order_key FROM tasklease.ready r
                  WHERE r.lane = mark.lane
                    AND (r.rank, r.order_key, r.first_task) > (mark.rank, mark.order_key, mark.first_task)
                  ORDER BY r.rank, r.order_key, r.first_task LIMIT 1) AS first
)
SELECT NOT EXISTS (SELECT FROM away)
       AND EXISTS (SELECT FROM tasklease.session WHERE expires_at < clock_timestamp()) AS expired,
       EXISTS (SELECT FROM tasklease.grant l
               WHERE NOT EXISTS (SELECT FROM tasklease.session s WHERE s.id = l.session_id)) AS orphaned,
       EXISTS (SELECT FROM tasklease.run WHERE outcome = 0 /* cancelling */) AS cancelling,
       (SELECT due_at - clock_timestamp() FROM tasklease.scheduled ORDER BY due_at LIMIT 1) AS next_due,
       ARRAY(SELECT lane FROM first_ready) AS ready_lanes,
       ARRAY(SELECT rank FROM first_ready) AS ready_ranks,
       ARRAY(SELECT order_key FROM first_ready) AS ready_order_keys,
       ARRAY(SELECT lane.id FROM tasklease.lane JOIN tasklease.queue q ON q.id = lane.queue_id WHERE q.paused)
           AS paused_lanes,
       (SELECT count(*) FROM tasklease.scheduler
        WHERE id <> $1 AND seen_at > now() - interval '15 seconds' AND left_at IS NULL)::int AS other_replicas,
       (SELECT count(*) FROM tasklease.lane) AS lanes,
       (SELECT count(*) FROM spared) AS spared,
       ARRAY(SELECT id FROM unnest($8::uuid[]) AS connected (id)
             WHERE NOT EXISTS (SELECT FROM tasklease.session s WHERE s.id = connected.id)) AS gone_sessions,
       -- Lanes come and go: as many need not be the same. See LaneSet.
       (SELECT coalesce(sum(id::bigint * id % 2147483647), 0) FROM tasklease.lane)::bigint AS lane_sum
