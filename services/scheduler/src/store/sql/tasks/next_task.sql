-- next_task: the lowest id above another.
-- $1 above this id
SELECT id FROM tasklease.task WHERE id > $1 ORDER BY id LIMIT 1
