-- A lost run says how much it is evidence against its task, in place of how many others were lost with it.

ALTER TABLE tasklease.run ADD blame smallint, ADD suspect uuid;
-- All rows are right, so none is looked at: the table may be large.
ALTER TABLE tasklease.run ADD CONSTRAINT run_blame CHECK (blame BETWEEN 0 AND 2) NOT VALID;
COMMENT ON COLUMN tasklease.run.blame IS
    'Of a lost run: points against its task, 2 if the worker had nothing else in hand. Null if nobody is to blame.';
COMMENT ON COLUMN tasklease.run.suspect IS
    'Of a lost run: the task that got a point for the loss because this one seemed innocent.';

-- What was known of tasks that go on; nobody asks about the others any more.
UPDATE tasklease.run r SET blame = CASE WHEN r.lost_with = 0 THEN 2 ELSE 0 END
FROM (
    SELECT unnest(task_ids) AS task_id FROM tasklease.ready WHERE lease_token > 1
    UNION
    SELECT task_id FROM tasklease.scheduled WHERE lease_token > 1
    UNION
    SELECT unnest(task_ids) FROM tasklease.grant WHERE lease_token > 1
) AS alive
WHERE r.task_id = alive.task_id AND r.lost_with IS NOT NULL;

ALTER TABLE tasklease.run DROP lost_with;
