-- Which lanes tasks were submitted to, and when: a list of a rare lane looks at few tasks, although no submit feeds an
-- index of lanes for each task; and a lane whose last task is gone can go, too.

CREATE TABLE tasklease.lane_span (
    lane int NOT NULL REFERENCES tasklease.lane (id),
    span bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lane, span)
);
COMMENT ON TABLE tasklease.lane_span IS
    'Stretches of time in which tasks of a lane were made, by the time in their ids. Written before the tasks.';
COMMENT ON COLUMN tasklease.lane_span.span IS
    'The first 32 bits of the ids: milliseconds since 1970 divided by 65,536.';

COMMENT ON COLUMN tasklease.lane_span.noted_at IS
    'When a scheduler last said that tasks may come; it says so again within hours, or stores none.';

INSERT INTO tasklease.lane_span (lane, span)
SELECT DISTINCT t.lane, ('x' || left(t.id::text, 8))::bit(32)::bigint
FROM tasklease.task t
JOIN tasklease.lane l ON l.id = t.lane;
