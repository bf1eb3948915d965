-- first_places: where the first task of each lane waits, from a mark on. No row for a lane in which none waits.
-- $1 lanes, $2 to $4 their marks: rank, order key, first task
SELECT mark.lane, first.rank, first.order_key
FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[]) AS mark (lane, rank, order_key, first_task),
     LATERAL (SELECT r.rank, r.order_key FROM tasklease.ready r
              WHERE r.lane = mark.lane
                AND (r.rank, r.order_key, r.first_task) > (mark.rank, mark.order_key, mark.first_task)
              ORDER BY r.rank, r.order_key, r.first_task LIMIT 1) AS first
