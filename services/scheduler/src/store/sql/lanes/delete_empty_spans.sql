-- delete_empty_spans: looks at the next spans that are old enough to be empty and deletes those without a task.
-- $1 after this lane and $2 span, $3 only spans that nobody noted for this long,
-- $4 look at no more rows than this
WITH page AS MATERIALIZED (
    SELECT lane, span FROM tasklease.lane_span
    WHERE (lane, span) > ($1::int, $2::bigint) AND noted_at < now() - $3::interval
    ORDER BY lane, span
    LIMIT $4
),
empty AS MATERIALIZED (
    SELECT p.lane, p.span FROM page p
    WHERE NOT EXISTS (SELECT FROM tasklease.task t
                      -- What a deleted task leaves names its lane, too.
                      WHERE (t.lane = p.lane OR t.lane = 0 AND (t.payload ->> 'lane')::int = p.lane)
                        AND t.id >= (lpad(to_hex(p.span), 8, '0') || repeat('0', 24))::uuid
                        AND t.id <= (lpad(to_hex(p.span), 8, '0') || repeat('f', 24))::uuid)
),
unused AS MATERIALIZED (
    SELECT s.lane, s.span FROM tasklease.lane_span s
    -- It may have been noted again meanwhile.
    WHERE (s.lane, s.span) IN (SELECT lane, span FROM empty)
      AND s.noted_at < now() - $3::interval
    ORDER BY s.lane, s.span
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM tasklease.lane_span s USING unused u WHERE s.lane = u.lane AND s.span = u.span RETURNING 1
)
SELECT (SELECT count(*) FROM page) AS looked_at,
       (SELECT lane FROM page ORDER BY lane DESC, span DESC LIMIT 1) AS last_lane,
       (SELECT span FROM page ORDER BY lane DESC, span DESC LIMIT 1) AS last_span,
       (SELECT count(*) FROM gone) AS removed
