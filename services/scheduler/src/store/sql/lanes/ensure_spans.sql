-- ensure_spans: notes that tasks of lanes are about to be stored. Returns the lanes that do not exist any more.
-- $1 lanes, $2 spans, side by side
WITH wanted AS MATERIALIZED (SELECT DISTINCT lane, span FROM unnest($1::int[], $2::bigint[]) AS u (lane, span)),
-- Whoever deletes a lane waits, or has deleted it already.
kept AS MATERIALIZED (
    SELECT id FROM tasklease.lane WHERE id IN (SELECT lane FROM wanted) ORDER BY id FOR KEY SHARE
),
noted AS (
    INSERT INTO tasklease.lane_span (lane, span)
    SELECT lane, span FROM wanted WHERE lane IN (SELECT id FROM kept) ORDER BY lane, span
    ON CONFLICT (lane, span) DO UPDATE SET noted_at = now()
)
SELECT DISTINCT lane FROM wanted WHERE lane NOT IN (SELECT id FROM kept)
