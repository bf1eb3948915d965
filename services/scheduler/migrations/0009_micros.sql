-- One place that turns a time into an order key.

CREATE FUNCTION tasklease.micros(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (extract(epoch FROM at) * 1000000)::bigint;
COMMENT ON FUNCTION tasklease.micros IS
    'Microseconds since 1970. Order keys are numbers, not times: they only say who comes first.';
