-- pulse: one look at everything that may need a background loop; now and then it says that this scheduler is alive.
-- $1 this scheduler, $2 its name, $3 lanes that somebody here has room for
WITH alive AS (
    INSERT INTO tasklease.scheduler (id, name)
    SELECT $1::uuid, $2::text
    WHERE NOT EXISTS (SELECT FROM tasklease.scheduler WHERE id = $1 AND seen_at > now() - interval '5 seconds')
    ON CONFLICT (id) DO UPDATE SET seen_at = now()
)
SELECT EXISTS (SELECT FROM tasklease.session WHERE expires_at < clock_timestamp()) AS expired,
       EXISTS (SELECT FROM tasklease.lease l
               WHERE NOT EXISTS (SELECT FROM tasklease.session s WHERE s.id = l.session_id)) AS orphaned,
       EXISTS (SELECT FROM tasklease.run WHERE outcome = 0) AS cancelling,
       (SELECT greatest(0, (extract(epoch FROM due_at - clock_timestamp()) * 1000000)::bigint)
        FROM tasklease.scheduled ORDER BY due_at LIMIT 1) AS next_due_us,
       ARRAY(SELECT l FROM unnest($3::int[]) AS l
             WHERE EXISTS (SELECT FROM tasklease.ready r WHERE r.lane = l)) AS ready_lanes,
       ARRAY(SELECT lane.id FROM tasklease.lane JOIN tasklease.queue q ON q.id = lane.queue_id WHERE q.paused)
           AS paused_lanes,
       (SELECT count(*) FROM tasklease.scheduler
        WHERE id <> $1 AND seen_at > now() - interval '15 seconds')::int AS other_replicas
