-- find_spans: the latest spans in which tasks of some lanes were made, latest first.
-- $1 lanes, $2 up to this span, $3 at most this many
SELECT DISTINCT s.span
FROM unnest($1::int[]) AS wanted (lane),
     LATERAL (SELECT span FROM tasklease.lane_span
              WHERE lane_span.lane = wanted.lane AND span <= $2
              ORDER BY span DESC
              LIMIT $3) AS s
ORDER BY s.span DESC
LIMIT $3
